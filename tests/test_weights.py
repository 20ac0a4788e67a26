"""The generators that come with the project."""

import csv
import os
import pathlib

import cv2
import numpy as np
import pytest
from conftest import save
from skimage import data

import inference
from pyimagesearch import evaluation, generators, recipe, sources, upscaling
from pyimagesearch.config import PRESETS, SHIPPED_GENERATOR, SHIPPED_PRETRAINED_GENERATOR
from pyimagesearch.evaluation_reports import by_model
from pyimagesearch.pictures import read_rgb

ROOT = pathlib.Path(__file__).parents[1]
PATHS = {"pretrained": SHIPPED_PRETRAINED_GENERATOR, "srgan": SHIPPED_GENERATOR}


@pytest.fixture(scope="module")
def shipped():
    return {name: generators.load_generator(path) for name, path in PATHS.items()}


def test_both_are_the_network_of_their_recipe_and_take_little_space(shipped):
    for generator in shipped.values():
        assert recipe.shaped_like(PRESETS["shipped"], generator) == PRESETS["shipped"]
    assert sum(map(os.path.getsize, PATHS.values())) < 8e6


def test_on_photographs_both_are_nearer_than_bicubic(shipped):
    photographs = evaluation.find_benchmark("photographs", str(ROOT / "docs" / "photographs"), 4)
    methods = {"bicubic": lambda lr: upscaling.bicubic(lr[None], 4)[0]}
    methods |= {name: upscaling.Upscaler(generator) for name, generator in shipped.items()}
    scores = by_model(list(evaluation.evaluate(photographs, methods)))
    for name, gain in {"pretrained": 1.0, "srgan": 0.2}.items():
        assert scores[name].psnr_y > scores["bicubic"].psnr_y + gain
        assert scores[name].ssim_y > scores["bicubic"].ssim_y + 0.02


def test_srgan_is_the_sharper_of_the_two(shipped):
    hr = read_rgb(str(ROOT / "docs" / "photographs" / "HR" / "osprey.png"))
    detail = {
        name: np.std(cv2.Laplacian(upscaling.Upscaler(generator)(sources.shrink(hr, 4)), cv2.CV_32F))
        for name, generator in shipped.items()
    }
    assert detail["srgan"] > 1.2 * detail["pretrained"]


def test_set5_has_the_figures_of_the_model_card(shipped, shared_data):
    set5 = evaluation.find_benchmark("Set5", str(shared_data / "Set5"), 4)
    for name, expected in {"pretrained": 31.66, "srgan": 30.40}.items():
        upscale = upscaling.Upscaler(shipped[name])
        assert evaluation.means(list(evaluation.evaluate(set5, {name: upscale}))).psnr_y == pytest.approx(
            expected, abs=0.01
        )


def test_without_a_trained_model_inference_takes_the_shipped_one(shipped, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lr = sources.shrink(data.chelsea()[:120, :160], 4)
    save(tmp_path / "cat.png", lr)
    assert inference.main(["--input", "cat.png", "--runtime", "tensorflow", "--precision", "float32"]) == 0
    assert "taking the one that came with the project" in capsys.readouterr().out
    np.testing.assert_array_equal(read_rgb("outputs/enlarged/cat.png"), upscaling.Upscaler(shipped["srgan"])(lr))


def test_the_card_lists_every_photograph_with_its_licence():
    with open(ROOT / "weights" / "photographs.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 189 and all(row["licence"] for row in rows)
    assert [row["used for"] for row in rows].count("held out") == 20
