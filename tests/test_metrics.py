import numpy as np
import pytest
import skimage.color
import skimage.metrics
from conftest import picture

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


def test_ssim_is_1_for_the_same_picture_and_less_for_another():
    hr = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    assert metrics.ssim(hr, hr) == pytest.approx(1)
    assert metrics.ssim(hr, hr[::-1]) < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_scikit_image(seed):
    hr, sr = picture(40, 31, seed), picture(40, 31, seed + 10)
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


def test_the_psnr_of_equal_pictures_is_infinite():
    assert metrics.psnr(picture(20, 20), picture(20, 20)) == np.inf
