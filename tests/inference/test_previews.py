import numpy as np
import pytest
from conftest import random_image
from PIL import Image, ImageCms

from pyimagesearch.data.image_io import LoadedImage
from pyimagesearch.data.metadata import Metadata
from pyimagesearch.inference import previews

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_before_and_after_have_the_same_size_and_place(tmp_path, channels, dtype):
    small = np.full((15, 20, channels), np.iinfo(dtype).max, dtype)
    small[5:10, 8:12, : channels - (channels in (2, 4))] = 0
    after = LoadedImage(small.repeat(4, axis=0).repeat(4, axis=1))
    left, right = previews.write_before_and_after(str(tmp_path), LoadedImage(small), after)
    one, other = (np.asarray(Image.open(path).convert("L")).astype(int) for path in (left, right))
    assert one.shape == other.shape == (60, 80)
    assert np.abs(one - other).mean() < 15 and other[30, 40] < 10 and other[5, 5] > 245


def test_large_results_are_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(previews, "SIZE", 30)
    before, after = LoadedImage(random_image(10, 20)), LoadedImage(random_image(40, 80))
    sizes = [Image.open(path).size for path in previews.write_before_and_after(str(tmp_path), before, after)]
    assert sizes == [(30, 15)] * 2


def test_previews_have_the_colour_profile(tmp_path):
    images = [LoadedImage(random_image(size, size), Metadata(icc=PROFILE)) for size in (10, 40)]
    pair = previews.write_before_and_after(str(tmp_path), *images)
    assert all(Image.open(path).info["icc_profile"] == PROFILE for path in pair)


def test_the_heat_map_is_grey_where_results_agree_and_yellow_where_they_differ_most():
    image = random_image(30, 40)
    difference = np.zeros((30, 40), np.float32)
    difference[:, 20:] = previews.STRONGEST
    difference[:, 30:] = previews.STRONGEST * 2
    shown = previews.heat_map(image, difference).astype(int)
    assert np.ptp(shown[:, :20], axis=-1).max() == 0 and shown[:, :20].std() > 20
    assert (shown[:, 20:] == [255, 255, 0]).all()


def test_a_stronger_difference_is_more_visible():
    image = np.full((1, 3, 3), 100, np.uint8)
    red, green, blue = np.moveaxis(previews.heat_map(image, np.array([[2, 6, 12]], np.float32)).astype(int), -1, 0)
    assert (np.diff(red) > 0).all() and (np.diff(blue) < 0).all() and (red > blue).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_difference_is_told_in_8_bit_levels(tmp_path, dtype):
    factor = 257 if dtype == np.uint16 else 1
    result = np.full((40, 60, 3), 100 * factor, dtype)
    other = result.copy()
    other[:, 30:] -= 8 * factor
    pair, difference = previews.write_heat_map(str(tmp_path), LoadedImage(result), LoadedImage(other))
    assert difference.mean == pytest.approx(4) and difference.changed == pytest.approx(0.5, abs=0.02)
    left, right = (np.asarray(Image.open(path)).astype(int) for path in pair)
    assert np.abs(left - 100).max() < 4 and np.ptp(right[20, 10]) < 8 < np.ptp(right[20, 50])
