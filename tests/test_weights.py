"""The generators that come with the project."""

import csv
import os
import pathlib

import numpy as np
import pytest
from conftest import save
from skimage import data

import inference
from pyimagesearch import metrics
from pyimagesearch.config import PRESETS, SHIPPED_DISCRIMINATOR, SHIPPED_GENERATORS
from pyimagesearch.data import pairs
from pyimagesearch.data.degradations import Fixed
from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.evaluation import benchmarks
from pyimagesearch.evaluation.reports import by_model
from pyimagesearch.inference import generators, upscaling
from pyimagesearch.training import builders, run

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def shipped():
    return {name: generators.load_generator(path) for name, path in SHIPPED_GENERATORS.items()}


@pytest.fixture(scope="module")
def scores(shipped):
    """The measures of `evaluate.py --benchmark docs/photographs`, without the perceptual distance."""
    photographs = benchmarks.find_benchmark("photographs", str(ROOT / "docs" / "photographs"), 4)
    methods = {"bicubic": lambda lr: upscaling.bicubic(lr[None], 4)[0]}
    methods |= {name: upscaling.Upscaler(generator) for name, generator in shipped.items()}
    return by_model(list(benchmarks.evaluate(photographs, methods)))


def test_all_are_the_networks_of_their_recipes_and_take_little_space(shipped):
    for name, generator in shipped.items():
        preset = PRESETS["fast" if name == "fast" else "shipped"]
        assert builders.shaped_like(preset, generator) == preset
    assert sum(map(os.path.getsize, SHIPPED_GENERATORS.values())) < 1.2e7


def test_the_discriminator_is_that_of_the_recipe_and_prefers_photographs(shipped):
    discriminator = run.find_discriminator(SHIPPED_DISCRIMINATOR, PRESETS["shipped"])
    assert run.find_discriminator(SHIPPED_DISCRIMINATOR, PRESETS["fine-tune"])
    hr = data.chelsea()[:192, :256]
    sr = upscaling.Upscaler(shipped["srgan"])(pairs.shrink(hr, 4))
    real, fake = (np.asarray(discriminator(image[None].astype("float32"))) for image in (hr, sr))
    assert np.mean(real > fake) > 0.8


def test_photographs_have_the_figures_of_the_model_card(scores):
    figures = {"bicubic": 26.16, "pretrained": 27.44, "srgan": 26.54, "fast": 27.24}
    figures |= {"photo-pretrained": 27.18, "photo": 26.84}
    assert {name: score.psnr_y for name, score in scores.items()} == pytest.approx(figures, abs=0.01)


def test_srgan_is_the_sharper_of_the_large_ones_and_neither_draws_a_grid(scores):
    assert scores["srgan"].detail > 2 * scores["pretrained"].detail > 2 * scores["bicubic"].detail
    assert max(scores["srgan"].grid, scores["pretrained"].grid) <= metrics.NO_GRID


def test_no_generator_draws_a_checkerboard_at_its_borders(shipped):
    lr = pairs.shrink(data.chelsea()[:256, :320], 4)
    for name, generator in shipped.items():
        y = metrics.luma(upscaling.Upscaler(generator)(lr))
        assert max(map(checkerboard, (y[:8], y[-8:], y[:, :8], y[:, -8:]))) < 1, name


def checkerboard(y):
    """Return the mean amplitude of a checkerboard of single pixels in squares of 8 x 8 pixels of `y`, in levels."""
    signs = np.indices(y.shape).sum(axis=0) % 2 * 2 - 1
    squares = (y * signs).reshape(y.shape[0] // 8, 8, y.shape[1] // 8, 8)
    return np.abs(squares.mean(axis=(1, 3))).mean()


def test_set5_has_the_figures_of_the_model_card(shipped, shared_data):
    set5 = benchmarks.find_benchmark("Set5", str(shared_data / "Set5"), 4)
    figures = {"pretrained": 31.75, "srgan": 30.19, "photo-pretrained": 31.46, "photo": 30.66, "fast": 31.32}
    for name, expected in figures.items():
        upscale = upscaling.Upscaler(shipped[name])
        assert benchmarks.means(list(benchmarks.evaluate(set5, {name: upscale}))).psnr_y == pytest.approx(
            expected, abs=0.01
        )


def test_what_jpeg_leaves_is_nearer_with_the_generators_for_photographs(shipped):
    photographs = benchmarks.find_benchmark("photographs", str(ROOT / "docs" / "photographs"), 4)
    methods = {"bicubic": lambda lr: upscaling.bicubic(lr[None], 4)[0]}
    methods |= {
        name: upscaling.Upscaler(shipped[name]) for name in ("pretrained", "srgan", "photo-pretrained", "photo")
    }
    rows = benchmarks.evaluate(photographs.degraded(Fixed(jpeg=75)), methods)
    psnr = {name: score.psnr_y for name, score in by_model(list(rows)).items()}
    assert psnr["photo-pretrained"] > max(psnr["bicubic"], psnr["pretrained"]) + 0.3
    assert psnr["photo"] > max(psnr["bicubic"], psnr["pretrained"], psnr["srgan"] + 0.5)


def test_without_a_trained_model_inference_takes_the_shipped_one(shipped, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lr = pairs.shrink(data.chelsea()[:120, :160], 4)
    save(tmp_path / "cat.png", lr)
    assert inference.main(["--input", "cat.png", "--runtime", "tensorflow", "--precision", "float32"]) == 0
    assert "using the one that comes with the project" in capsys.readouterr().out
    np.testing.assert_array_equal(read_rgb("outputs/enlarged/cat.png"), upscaling.Upscaler(shipped["photo"])(lr))


def test_the_card_lists_every_photograph_with_its_licence():
    with open(ROOT / "weights" / "photographs.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 189 and all(row["licence"] for row in rows)
    assert [row["used for"] for row in rows].count("held out") == 20
