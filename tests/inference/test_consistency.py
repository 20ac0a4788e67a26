"""Results have the colours of their inputs for all generators."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from conftest import enlarged, random_image, save
from PIL import Image
from skimage import data
from test_upscaling import make_generator

import inference
from pyimagesearch.config import SHIPPED_GENERATORS
from pyimagesearch.data import pairs
from pyimagesearch.data.image_io import LoadedImage, read_rgb
from pyimagesearch.inference import consistency
from pyimagesearch.inference.consistency import BLOCK, Reduction, block_means, hold_colours, project
from pyimagesearch.inference.generators import load_generator
from pyimagesearch.inference.upscaling import Upscaler, upscale_image

ROWS, COLUMNS = np.mgrid[:48, :64]
BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
CORNERS = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
GREYS = [(level,) * 3 for level in (1, 10, 100, 128, 245, 254)]


def of_channels(*channels):
    return np.stack([np.broadcast_to(channel, (48, 64)) for channel in channels], -1).astype(np.uint8)


def error_diffused(grey):
    grey = Image.fromarray(np.broadcast_to(grey, (48, 64)).astype(np.uint8))
    return of_channels(*[np.asarray(grey.convert("1").convert("L"))] * 3)


def odd_images():
    checks = (ROWS + COLUMNS) % 2
    yield "checkerboard", of_channels(*[255 * checks] * 3)
    yield "red and green checkerboard", of_channels(255 * checks, 255 * (1 - checks), 30 * checks)
    yield "checkerboard of 2 pixels", of_channels(*[255 * ((ROWS // 2 + COLUMNS // 2) % 2)] * 3)
    yield "stripes", of_channels(*[255 * (COLUMNS % 2)] * 3)
    for level in (5, 128, 250):
        yield f"dithered {level}", error_diffused(level)
    yield "dithered ramp", error_diffused(4 * COLUMNS)
    yield "ordered dither", of_channels(*[255 * (4 * COLUMNS > 16 * np.tile(BAYER, (12, 16)))] * 3)
    yield "noise", random_image(48, 64)
    yield "noise of two values", random_image(48, 64) // 128 * 255
    yield "saturated patches", (random_image(10, 13) // 128 * 255).repeat(5, 0).repeat(5, 1)[:48, :64]
    yield "photograph", data.chelsea()[100:148, 100:164]
    for colour in (*CORNERS, *GREYS):
        yield f"flat {colour}", of_channels(*colour)


ODD = dict(odd_images())


def noise_of_two_values(height, width):
    return random_image(height, width, 1) // 128 * 255


RESULTS = {
    "repeats": lambda lr: enlarged(lr),
    "is black": lambda lr: np.zeros_like(enlarged(lr)),
    "is white": lambda lr: np.full_like(enlarged(lr), 255),
    "is noise": lambda lr: random_image(4 * lr.shape[0], 4 * lr.shape[1], 1),
    "is noise of two values": lambda lr: noise_of_two_values(4 * lr.shape[0], 4 * lr.shape[1]),
    "is too dark": lambda lr: enlarged(lr) // 2,
}


def error_of_blocks(lr, sr):
    """The largest difference, in 8-bit levels, of a channel's mean over a block of 16 pixels."""
    reduced = pairs.shrink(sr, 4) if sr.dtype == np.uint8 else shrunk_deep(sr)
    difference = reduced.astype(np.float32) - lr
    return np.abs(block_means(difference)).max() * 255 / np.iinfo(lr.dtype).max


def shrunk_deep(sr):
    size = sr.shape[0] // 4, sr.shape[1] // 4
    return tf.image.resize(sr, size, "bicubic", antialias=True).numpy().clip(0, 65_535).round()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (17, 40)])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_reduction_is_that_of_the_records(size, scale):
    hr = random_image(scale * size[0], scale * size[1])
    expected = tf.image.resize(hr, size, "bicubic", antialias=True).numpy()
    np.testing.assert_allclose(Reduction(*size, scale).reduce(hr), expected, atol=1e-3)


def test_the_transpose_is_that_of_the_reduction():
    reduction = Reduction(20, 9, 4)
    lr, sr = (np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((20, 9, 3), (80, 36, 3)))
    enlarged = np.concatenate([reduction.transpose(lr, strip) for strip in reduction.strips])
    assert np.vdot(reduction.reduce(sr), lr) == pytest.approx(np.vdot(sr, enlarged), rel=1e-4)


@pytest.mark.parametrize("change", [hold_colours, project])
def test_the_strips_make_no_difference(change, monkeypatch):
    lr, sr = random_image(40, 24), random_image(160, 96, seed=1)
    whole, parts = sr.copy(), sr.copy()
    change(lr, whole)
    monkeypatch.setattr(consistency, "_STRIP_PIXELS", 1)
    assert len(Reduction(40, 24, 4).strips) == 3
    change(lr, parts)
    np.testing.assert_array_equal(whole, parts)
    assert (whole != sr).any()


def test_blocks_at_the_ends_may_be_smaller():
    image = random_image(20, 33).astype(np.float32)
    means = block_means(image)
    for rows in (slice(0, BLOCK), slice(BLOCK, None)):
        for columns in (slice(0, BLOCK), slice(BLOCK, 2 * BLOCK), slice(2 * BLOCK, None)):
            block = means[rows, columns]
            np.testing.assert_allclose(block - image[rows, columns].mean((0, 1)), 0 * block, atol=1e-3)


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_are_held_for_any_result(result, dtype):
    factor = np.iinfo(dtype).max // 255
    for name, lr in ODD.items():
        sr = RESULTS[result](lr).astype(dtype) * dtype(factor)
        hold_colours(lr.astype(dtype) * dtype(factor), sr)
        assert error_of_blocks(lr.astype(dtype) * dtype(factor), sr) < 1, name


def test_colours_are_held_by_any_generator():
    upscale = Upscaler(make_generator())
    for name, lr in ODD.items():
        assert error_of_blocks(lr, upscale(lr)) < 1, name


@pytest.mark.parametrize("model", SHIPPED_GENERATORS)
def test_colours_are_held_by_the_shipped_generators(model):
    upscale = Upscaler(load_generator(SHIPPED_GENERATORS[model]))
    for upscale.faithful in (False, True):
        for name in ("checkerboard", "red and green checkerboard", "noise of two values", "photograph"):
            assert error_of_blocks(ODD[name][:32, :32], upscale(ODD[name][:32, :32])) < 1, name
        for colour in ((255, 0, 0), (0, 255, 255), (128, 128, 128)):
            lr = of_channels(*colour)[:20, :20]
            assert np.abs(upscale(lr).astype(int) - colour)[16:-16, 16:-16].max() <= 2


def test_blocks_of_extreme_colours_side_by_side_come_near():
    lr = (random_image(3, 4) // 128 * 255).repeat(BLOCK, 0).repeat(BLOCK, 1)
    sr = enlarged(lr)
    hold_colours(lr, sr)
    assert error_of_blocks(lr, sr) < 7
    assert np.abs(sr.astype(int) - enlarged(lr)).mean() < 0.1  # repeated pixels are close to the best result


def test_an_image_whose_colours_are_right_is_left_alone():
    hr = data.chelsea()[:128, :160]
    sr = hr.copy()
    hold_colours(pairs.shrink(hr, 4), sr)
    assert np.abs(sr.astype(int) - hr).max() <= 1 and (sr != hr).mean() < 0.02


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_grey_to_the_bit(faithful, dtype):
    upscale = Upscaler(make_generator(), faithful=faithful, tile=32)
    for name in ("checkerboard", "dithered ramp", "noise", "flat (128, 128, 128)"):
        grey = ODD[name][:, :40, :1].astype(dtype) * dtype(np.iinfo(dtype).max // 255)
        sr = upscale(grey.repeat(3, -1))
        assert (sr == sr[..., :1]).all() and sr.dtype == dtype
        np.testing.assert_array_equal(upscale_image(LoadedImage(grey), upscale).pixels, sr[..., :1])


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (70, 33)])
def test_tiles_make_no_difference_to_colours(monkeypatch, faithful, size):
    generator, lr = make_generator(), random_image(*size).astype(np.uint16) * 257
    whole = Upscaler(generator, faithful=faithful)(lr)
    monkeypatch.setattr("pyimagesearch.inference.upscaling.HEAD_TILE", 16)
    tiled = Upscaler(generator, tile=32, faithful=faithful)(lr)
    assert np.abs(tiled.astype(int) - whole).max() / 257 < 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_faithful_reduces_to_its_input(dtype):
    factor = dtype(np.iinfo(dtype).max // 255)
    lr = pairs.shrink(data.chelsea()[:240, :320], 4)
    sr = cv2.resize(lr, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR).astype(dtype) * factor
    lr = lr.astype(dtype) * factor
    project(lr, sr)
    hold_colours(lr, sr)
    error = np.abs(Reduction(*lr.shape[:2], 4).reduce(sr) - lr) / factor
    assert (error <= 1).mean() > 0.999 and error.mean() < 0.2


def test_a_projection_is_closer_to_every_ground_truth():
    hr = data.astronaut()[:256, :256]
    lr = pairs.shrink(hr, 4)
    for name, make in RESULTS.items():
        sr = make(lr)
        before = np.mean((sr.astype(float) - hr) ** 2)
        project(lr, sr)
        assert np.mean((sr.astype(float) - hr) ** 2) < before + 0.1, name


def test_the_flag_makes_results_faithful_and_makes_them_again(tmp_path, capsys):
    lr = pairs.shrink(data.chelsea()[:120, :160], 4)
    save(tmp_path / "cat.png", lr)
    make_generator().save(tmp_path / "model.keras")
    flags = ["--input", str(tmp_path / "cat.png"), "--output", str(tmp_path / "out"), "--runtime", "tensorflow"]
    flags += ["--model", str(tmp_path / "model.keras"), "--precision", "float32"]
    errors = []
    for more in ([], ["--faithful"]):
        assert inference.main([*flags, *more]) == 0
        assert "1 results written" in capsys.readouterr().out
        errors.append(np.abs(pairs.shrink(read_rgb(str(tmp_path / "out" / "cat.png")), 4).astype(int) - lr))
    assert (errors[1] <= 1).mean() > 0.95 > (errors[0] <= 1).mean()
    with pytest.raises(SystemExit):
        inference.main(["--faithful"])
    assert "--faithful needs --input" in capsys.readouterr().err
