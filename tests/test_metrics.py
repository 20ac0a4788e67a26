import cv2
import keras
import numpy as np
import pytest
import skimage.color
import skimage.metrics
from conftest import random_image

from pyimagesearch import metrics


def test_to_uint8_clips_and_rounds():
    np.testing.assert_array_equal(metrics.to_uint8(np.array([-3.0, 0.4, 0.6, 254.6, 300.0])), [0, 0, 1, 255, 255])


def test_luma_spans_16_to_235():
    assert metrics.luma(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)) == pytest.approx(np.array([[16, 235]]))


def test_psnr_is_that_of_the_luma_error_inside_the_border():
    hr = np.full((20, 20, 3), 100, np.uint8)
    sr = hr.copy()
    sr[4:-4, 4:-4] += 10  # an error of 10 * 219 / 255 on Y
    sr[:4] = 0  # on the border, which does not count
    assert metrics.psnr(hr, sr, border=4) == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)))


def test_ssim_is_1_for_the_same_image_and_less_for_another():
    hr = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    assert metrics.ssim(hr, hr) == pytest.approx(1)
    assert metrics.ssim(hr, hr[::-1]) < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_scikit_image(seed):
    hr, sr = random_image(40, 31, seed), random_image(40, 31, seed + 10)
    inside = np.s_[4:-4, 4:-4]
    y = [skimage.color.rgb2ycbcr(image)[inside][..., 0] for image in (hr, sr)]
    rgb = [image[inside] for image in (hr, sr)]
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = [
        skimage.metrics.peak_signal_noise_ratio(*y, data_range=255),
        skimage.metrics.structural_similarity(*y, **window),
        skimage.metrics.peak_signal_noise_ratio(*rgb),
        skimage.metrics.structural_similarity(*rgb, channel_axis=-1, **window),
    ]
    found = [measure(hr, sr, 4, channels) for channels in ("y", "rgb") for measure in (metrics.psnr, metrics.ssim)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_psnr_of_equal_images_is_infinite():
    assert metrics.psnr(random_image(20, 20), random_image(20, 20)) == np.inf


def laplacian(image, border=4):
    """That of OpenCV, of Y inside a border."""
    return cv2.Laplacian(metrics.luma(image), cv2.CV_64F)[border:-border, border:-border]


def with_dots(image, strength=40, scale=4):
    """Add a dot to each square of pixels that an input pixel becomes."""
    image = image.astype(int)
    image[..., 1::scale, 2::scale, :] += strength
    return metrics.to_uint8(image)


FLAT = np.full((24, 32, 3), 90, np.uint8)


def test_the_grid_is_the_largest_energy_of_a_position_over_the_smallest():
    image = with_dots(random_image(37, 43))
    squares = laplacian(image)[:28, :32] ** 2  # whole cells of 37 x 43 pixels inside the border
    energies = [np.mean(squares[top::4, left::4]) for top in range(4) for left in range(4)]
    assert metrics.grid(image) == pytest.approx(max(energies) / min(energies), rel=1e-3)


def test_a_grid_is_distinguished_from_the_same_energy_elsewhere():
    noise = random_image(120, 120) // 16 + 120
    assert metrics.grid(noise) < metrics.NO_GRID
    assert metrics.grid(with_dots(noise, 12)) > 2 * metrics.NO_GRID
    assert metrics.grid(with_dots(noise, 12, scale=5)) < metrics.NO_GRID
    assert metrics.grid(with_dots(noise, 12, scale=5), scale=5) > 2 * metrics.NO_GRID


def test_a_grid_on_the_border_does_not_count():
    image = with_dots(FLAT)
    image[4:-4, 4:-4] = 90
    inside = image.copy()
    inside[8:-8, 8:-8] = with_dots(FLAT)[8:-8, 8:-8]
    assert metrics.grid(image[3:-3, 3:-3]) == 1 and metrics.grid(inside) > 10


def test_a_flat_image_has_no_grid_and_nothing_is_infinite():
    assert metrics.grid(FLAT) == 1
    assert 100 < metrics.grid(with_dots(FLAT)) < 1e5
    assert metrics.grid(np.stack([FLAT, with_dots(FLAT)])) < metrics.grid(with_dots(FLAT))


def test_of_several_images_what_differs_averages_out_and_a_grid_stays():
    squares = np.stack([random_image(20, 20, seed) for seed in range(40)])
    alone = [metrics.grid(square) for square in squares]
    assert min(alone) > metrics.NO_GRID > metrics.grid(squares)
    assert metrics.grid(with_dots(squares // 16, 12)) > 2 * metrics.NO_GRID
    assert metrics.grid(squares[:1]) == alone[0]


def test_of_several_images_each_counts_the_same_however_strong_its_contrast():
    loud, dull = random_image(120, 120), with_dots(random_image(120, 120, 1) // 32 + 100, 12)
    assert metrics.grid(loud) < metrics.NO_GRID < metrics.grid(np.stack([loud, dull]))


def test_detail_compares_the_energy_of_the_laplacian_with_the_ground_truth():
    hr = random_image(40, 31)
    soft = cv2.blur(hr, (3, 3))
    expected = np.mean(laplacian(soft) ** 2) / np.mean(laplacian(hr) ** 2)
    assert metrics.detail(hr, soft) == pytest.approx(expected, rel=1e-3)
    assert metrics.detail(hr, soft) < 0.2 and metrics.detail(soft, hr) > 5
    edge = hr.copy()
    edge[:3], edge[:, -3:] = 0, 0  # on the border, which does not count
    assert metrics.detail(hr, edge) == 1
    assert metrics.detail(FLAT, FLAT) == 1 and np.isfinite(metrics.detail(FLAT, random_image(24, 32)))


class Features(keras.Model):
    """Stands in for VGG: as many layers as there are factors, each of which a layer is multiplied by."""

    def __init__(self, *factors):
        super().__init__()
        self.factors = factors

    def call(self, images):
        layers = [factor * images[:, :: number + 1] for number, factor in enumerate(self.factors)]
        return layers if len(layers) > 1 else layers[0]


def distances(vgg, hr, sr):
    return metrics.perceptual_distance(vgg, hr, sr).numpy().tolist()


def test_the_perceptual_distance_is_that_of_vectors_of_length_1():
    hr, sr = (np.stack([random_image(6, 8, seed), random_image(6, 8, seed + 1)]) for seed in (0, 2))
    one, other = (images / np.linalg.norm(images.astype(float), axis=-1, keepdims=True) for images in (hr, sr))
    expected = ((one - other) ** 2).sum(-1).mean((1, 2))
    assert distances(Features(1), hr, sr) == pytest.approx(expected, rel=1e-4)
    assert distances(Features(1e-3), hr, sr) == pytest.approx(expected, rel=1e-4)
    assert distances(Features(1), hr, hr // 2 * 2) < distances(Features(1), hr, sr)
    assert distances(Features(1), hr, hr) == [0, 0]


def test_of_several_layers_the_perceptual_distance_is_the_mean():
    hr, sr = random_image(6, 8)[None], random_image(6, 8, 1)[None]
    first, second = distances(Features(1), hr, sr), distances(Features(1), hr[:, ::2], sr[:, ::2])
    assert distances(Features(1, 7), hr, sr) == pytest.approx([(first[0] + second[0]) / 2], rel=1e-4)
    assert first != second


def test_where_there_are_no_features_the_perceptual_distance_is_that_of_nothing():
    black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    assert distances(Features(1), black, black) == [0]
    assert distances(Features(1), black, white) == pytest.approx([1])


def test_the_perceptual_distance_is_computed_in_float32_for_all_dtypes():
    class Half(Features):
        def call(self, images):
            assert images.dtype == "float32"
            return keras.ops.cast(images, "bfloat16")

    assert (
        metrics.perceptual_distance(Half(1), random_image(4, 4)[None], random_image(4, 4, 1)[None]).dtype == "float32"
    )
