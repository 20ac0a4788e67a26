import os

import numpy as np
import pytest
from conftest import random_image, randomize, save

from pyimagesearch.data.image_io import read_image
from pyimagesearch.inference import bands
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.srgan import SRGAN


@pytest.fixture(scope="module")
def generator():
    generator = SRGAN.generator(4, 4, 1)
    randomize(generator)
    return generator


IMAGES = {
    "colour": random_image(100, 45),
    "grey": random_image(100, 45)[..., :1].repeat(3, axis=-1),
    "16 bits": random_image(100, 45).astype(np.uint16) * 257,
}


@pytest.mark.parametrize("lr", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_joined_bands_are_the_result_to_the_bit(generator, lr, precision):
    upscale = Upscaler(generator, precision=precision, tile=40, faithful=True)
    count = upscale.count_bands(len(lr))
    assert count > 3
    whole = upscale(lr)
    joined = upscale.join_bands(lr, [upscale.compute_band(lr, number) for number in range(count)])
    assert joined.dtype == whole.dtype
    np.testing.assert_array_equal(joined, whole)


def test_the_progress_of_all_bands_is_the_number_of_pixels(generator):
    upscale, done = Upscaler(generator, tile=40), []
    for number in range(upscale.count_bands(100)):
        upscale.compute_band(IMAGES["colour"], number, done.append)
    assert sum(done) == 100 * 45


def test_an_ensemble_has_one_band(generator):
    assert Upscaler(generator, tile=40, ensemble=True).count_bands(100) == 1


@pytest.fixture
def image(tmp_path):
    save(tmp_path / "photo.png", IMAGES["colour"])
    return str(tmp_path / "photo.png"), str(tmp_path / "out" / "photo.png")


def test_stored_bands_are_joined_without_computing(generator, image):
    upscale = Upscaler(generator, tile=40)
    for number in range(bands.begin(*image, upscale)):
        bands.make(number, *image, upscale, lambda pixels: None)
    expected = upscale(IMAGES["colour"])
    joined = bands.Joined(image[1], upscale)
    upscale.trunk = None  # it cannot compute any more
    np.testing.assert_array_equal(joined(IMAGES["colour"]), expected)
    bands.remove(image[1])
    assert os.listdir(os.path.dirname(image[1])) == []


def test_if_a_band_is_missing_the_image_is_computed(generator, image):
    upscale = Upscaler(generator, tile=40)
    for number in range(1, bands.begin(*image, upscale)):
        bands.make(number, *image, upscale, lambda pixels: None)
    expected = upscale(IMAGES["colour"])
    np.testing.assert_array_equal(bands.Joined(image[1], upscale)(IMAGES["colour"]), expected)


def test_bands_of_an_earlier_run_are_removed(generator, image):
    upscale = Upscaler(generator, tile=40)
    bands.begin(*image, upscale)
    bands.make(0, *image, upscale, lambda pixels: None)
    bands.begin(*image, upscale)
    assert not os.path.exists(bands.folder_of(image[1]))


def test_small_and_unreadable_images_are_not_divided(generator, image, monkeypatch):
    assert not bands.is_large(image[0]) and not bands.is_large("nowhere.png")
    assert bands.begin(*image, Upscaler(generator)) == 0
    monkeypatch.setattr(bands, "LARGE", 100 * 45 - 1)
    assert bands.is_large(image[0]) and read_image(image[0]).pixels.shape == (100, 45, 3)
