import pathlib

import numpy as np
import pytest
from conftest import enlarged
from PIL import Image

from pyimagesearch.data import pairs, sources
from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.errors import UserError


def test_lr_images_are_those_of_matlab(shared_data):
    hr = np.asarray(Image.open(shared_data / "Set5" / "HR" / "img_002.png").convert("RGB"))
    matlab = np.asarray(Image.open(shared_data / "Set5" / "LRx4" / "img_002.png").convert("RGB"))
    difference = pairs.shrink(hr, 4).astype(int) - matlab
    assert np.abs(difference[2:-2, 2:-2]).max() <= 1


def matlab_imresize(image, scale):
    """The result of MATLAB's `imresize(image, 1 / scale)`: antialiased bicubic interpolation, mirrored borders."""

    def along_rows(pixels):
        size = len(pixels)
        centres = np.arange(size // scale)[:, None] * scale + (scale - 1) / 2
        places = np.floor(centres).astype(int) + np.arange(-2 * scale, 2 * scale + 2)
        x = np.abs(places - centres) / scale
        weights = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
        weights = np.where(x < 2, weights, 0)
        mirrored = np.where(places < 0, -1 - places, np.where(places < size, places, 2 * size - 1 - places))
        return np.einsum("ij,ij...->i...", weights / weights.sum(1, keepdims=True), pixels[mirrored])

    reduced = along_rows(along_rows(image.astype(float)).swapaxes(0, 1)).swapaxes(0, 1)
    return np.clip(np.round(reduced), 0, 255)


@pytest.mark.parametrize("name", ["budgie", "skyline"])
def test_lr_images_are_those_of_matlabs_formula(name):
    hr = read_rgb(str(pathlib.Path(__file__).parents[2] / "docs" / "photographs" / "HR" / f"{name}.png"))
    difference = np.abs(pairs.shrink(hr, 4) - matlab_imresize(hr, 4))
    assert difference[2:-2, 2:-2].max() <= 1 and np.mean(difference[2:-2, 2:-2] > 0) < 1e-3
    assert difference.max() < 20  # only the border is treated otherwise


def test_the_sample_has_three_photographs_and_pieces_of_a_fourth():
    train, test = map(list, sources.sample(4, 144)[:2])
    assert [pair.name for pair in train] == ["astronaut", "coffee", "rocket"]
    assert {pair.name for pair in test} == {"chelsea"} and len(test) >= 4
    assert all(min(pair.hr.shape[:2]) >= 128 for pair in test)
    assert sum(pair.hr.shape[0] * pair.hr.shape[1] for pair in test) == 300 * 448


@pytest.mark.parametrize(("min_size", "pieces"), [(96, 6), (144, 6), (152, 1), (288, 1), (296, 1)])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_held_out_pieces_of_the_sample_are_as_large_as_is_needed(scale, min_size, pieces):
    test = list(sources.sample(scale, min_size).test)
    assert len(test) == pieces
    assert all(min(pair.hr.shape[:2]) >= min_size for pair in test)


def test_crops_larger_than_the_photographs_are_refused_with_a_size_that_works():
    with pytest.raises(UserError, match="crop size: 451x300 pixels are too small, 304x304 .*; choose at most 296$"):
        sources.sample(4, 304)


def test_pieces_without_crops_tile_the_image(make_pair):
    pair = make_pair(31, 50)
    seen = np.zeros((31, 50), int)
    for piece in pairs.cut([pair], 64):
        height, width, _ = piece.lr.shape
        assert max(piece.hr.shape) <= 64
        place = np.s_[piece.top : piece.top + height, piece.left : piece.left + width]
        np.testing.assert_array_equal(piece.lr, pair.lr[place])
        np.testing.assert_array_equal(piece.hr, enlarged(piece.lr))
        seen[place] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 25), (61, 40), (100, 33)])
def test_each_position_of_a_crop_is_in_one_piece(make_pair, height, width):
    pair, crop = make_pair(height, width), 8
    places = np.zeros((height - crop + 1, width - crop + 1), int)
    for piece in pairs.cut([pair], 96, crop_size=4 * crop):
        rows, columns = (side - crop + 1 for side in piece.lr.shape[:2])
        assert max(piece.lr.shape) <= 24 and min(rows, columns) >= 1
        places[piece.top : piece.top + rows, piece.left : piece.left + columns] += 1
        assert piece.area == pytest.approx(16 * height * width * rows * columns / places.size)
    assert (places == 1).all()
