import io
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from conftest import random_image
from PIL import Image

from pyimagesearch import metrics
from pyimagesearch.data import degradations, pairs
from pyimagesearch.data.degradations import Fixed, Model

NOTHING = Model(blur=0, twice=0, sharpening=0, gaussian_noise=0, poisson_noise=0, jpeg=0)


@pytest.fixture(scope="module")
def photograph():
    return np.ascontiguousarray(skimage.data.astronaut()[:192, 128:384])  # [192, 256, 3]


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_degraded_image_has_the_size_of_a_reduced_one(photograph, scale):
    images = degradations.degrade_often(photograph, scale, 20, 1)
    assert images.shape == (20, 192 // scale, 256 // scale, 3) and images.dtype == np.uint8


def test_the_seed_and_the_number_determine_each_image(photograph):
    images = degradations.degrade_often(photograph, 4, 8, 1, 2)
    assert len({image.tobytes() for image in images}) == 8
    np.testing.assert_array_equal(degradations.degrade_often(photograph, 4, 5, 1, 2), images[:5])
    other = degradations.degrade_often(photograph, 4, 8, 1, 3)
    assert len({image.tobytes() for image in [*images, *other]}) == 16


def test_threads_do_not_disturb_each_other(photograph):
    def degrade(seed):
        return degradations.degrade_often(photograph, 4, 2, seed)

    alone = list(map(degrade, range(12)))
    with ThreadPoolExecutor(6) as pool:
        np.testing.assert_array_equal(list(pool.map(degrade, range(12))), alone)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_nothing_moves(scale):
    y, x = np.mgrid[:128, :128]
    spot = 200 * np.exp(-((y - 71) ** 2 + (x - 50) ** 2) / (2 * 12**2))
    hr = metrics.to_uint8(np.repeat(spot[..., None], 3, axis=-1))
    model = Model(blur=0.7, anisotropic=0.7, twice=0.7, gaussian_noise=0, poisson_noise=0, jpeg=0)
    for lr in degradations.degrade_often(hr, scale, 20, 5, model=model):
        rows, columns, weights = *np.mgrid[: 128 // scale, : 128 // scale], lr[..., 1] / lr[..., 1].sum()
        center = (rows * weights).sum(), (columns * weights).sum()
        assert center == pytest.approx(((71.5 / scale) - 0.5, (50.5 / scale) - 0.5), abs=0.05)


def test_colours_stay(photograph):
    means = degradations.degrade_often(photograph, 4, 40, 2).mean(axis=(1, 2))
    np.testing.assert_allclose(means, np.tile(photograph.mean(axis=(0, 1)), (40, 1)), atol=1.5)


def test_degraded_photographs_are_not_ruined(photograph):
    clean = pairs.shrink(photograph, 4)
    found = [metrics.psnr(clean, image, 1) for image in degradations.degrade_often(photograph, 4, 60, 3)]
    assert 25 < min(found) < 29 and 29 < np.median(found) < 34 and max(found) > 37


def test_without_degradations_an_image_is_reduced_by_different_filters(photograph):
    clean = pairs.shrink(photograph, 2)
    images = degradations.degrade_often(photograph, 2, 12, 4, model=NOTHING)
    assert len({image.tobytes() for image in images}) == 3
    errors = sorted({np.abs(image.astype(int) - clean).mean() for image in images})
    assert errors[0] < 0.2 < 0.5 < errors[1]  # one of them is the clean reduction


def test_an_anisotropic_gaussian_has_the_spread_along_its_axes():
    kernel = degradations.gaussian_kernel(3, 1.5, np.pi / 6).astype(float)
    radius = len(kernel) // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    moments = [[(kernel * x * x).sum(), (kernel * x * y).sum()], [(kernel * x * y).sum(), (kernel * y * y).sum()]]
    axis, other = (np.cos(np.pi / 6), np.sin(np.pi / 6)), (-np.sin(np.pi / 6), np.cos(np.pi / 6))
    expected = 9 * np.outer(axis, axis) + 2.25 * np.outer(other, other)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(moments, expected, atol=0.25)


def test_sharpening_makes_edges_steeper_and_keeps_flat_colours():
    image = np.full((20, 20, 3), 80, np.uint8)
    np.testing.assert_array_equal(degradations.sharpen(image, 0.5), image)
    image[:, 10:] = 160
    sharp = degradations.sharpen(image, 0.5)
    assert sharp[10, 9, 0] < 80 and sharp[10, 10, 0] > 160


@pytest.mark.parametrize(("sigma", "gain"), [(5, 0), (0, 0.3), (4, 0.1)])
def test_noise_has_the_given_variance(sigma, gain):
    for level in (60, 180):
        image = np.full((200, 200, 3), level, np.uint8)
        noise = degradations.add_noise(image, sigma, np.random.default_rng(1), gain).astype(float) - level
        assert noise.var() == pytest.approx(sigma**2 + gain * level + 1 / 12, rel=0.03)
        assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


def test_grey_noise_is_the_same_in_all_channels():
    image = np.full((50, 50, 3), (60, 120, 180), np.uint8)
    noise = degradations.add_noise(image, 4, np.random.default_rng(1), 0.1, grey=True).astype(int) - image
    assert noise.std() > 3 and (noise == noise[..., :1]).all()


@pytest.mark.parametrize(("subsampled", "code"), [(True, 2), (False, 0)])
def test_jpeg_is_what_other_programs_write(photograph, subsampled, code):
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "jpeg", quality=60, subsampling=code)
    found = degradations.jpeg(photograph, 60, subsampled)
    assert np.abs(found.astype(int) - np.asarray(Image.open(file))).mean() < 0.2


@pytest.mark.parametrize("offset", [(0, 0), (3, 5)])
def test_jpeg_blocks_have_the_given_offset(offset):
    image = random_image(96, 96)
    found = degradations.jpeg(image, 1, subsampled=False, offset=offset).astype(int)
    for axis in (0, 1):
        steps = np.abs(np.diff(found, axis=axis)).mean(axis=(1 - axis, 2))  # [95]
        places = [steps[(-1 - offset[axis] + place) % 8 :: 8].mean() for place in range(8)]
        assert np.argmax(places) == 0
    assert found.shape == image.shape


@pytest.mark.parametrize(
    ("text", "fixed", "name"),
    [
        ("jpeg:75,noise:5,blur:1.0", Fixed(1.0, 5.0, 75), "blur 1, noise 5, JPEG 75"),
        ("noise:2.5", Fixed(noise=2.5), "noise 2.5"),
        ("clean", Fixed(), "clean"),
    ],
)
def test_fixed_degradations_are_read_and_named(text, fixed, name):
    assert degradations.parse(text) == fixed and str(fixed) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fog:3", "'fog:3' in 'fog:3'; give each of blur, noise and jpeg once"),
        ("jpeg:75,jpeg:50", "'jpeg:50' in 'jpeg:75,jpeg:50'"),
        ("", "'' in ''"),
        ("jpeg", "jpeg: is not a whole number from 1 to 100"),
        ("jpeg:0", "jpeg:0 is not"),
        ("jpeg:7.5", "jpeg:7.5 is not"),
        ("noise:-1", "noise:-1 is not a number above 0 and up to 100"),
        ("blur:nan", "blur:nan is not"),
    ],
)
def test_degradations_that_make_no_sense_are_refused(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        degradations.parse(text)


def test_fixed_degradations_are_applied_in_the_order_blur_noise_jpeg(photograph):
    blurred = degradations.blur(photograph, 1.5)
    noisy = degradations.add_noise(blurred, 5, np.random.default_rng(7))
    np.testing.assert_array_equal(Fixed(1.5, 5, 60).apply(photograph, 7), degradations.jpeg(noisy, 60))
    np.testing.assert_array_equal(Fixed(noise=5).apply(blurred, 7), noisy)
    assert (Fixed(noise=5).apply(blurred, 8) != noisy).any()
    np.testing.assert_array_equal(Fixed().apply(photograph, 7), photograph)
