import numpy as np
import pytest
from PIL import Image

from pyimagesearch import metrics, upscaling


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


def test_bicubic_has_its_known_figures_on_set5(shared_data):
    def read(side, i):
        return np.asarray(Image.open(shared_data / "Set5" / side / f"img_{i:03d}.png").convert("RGB"))

    pairs = [(read("HR", i), upscaling.bicubic(read("LRx4", i)[None], 4)[0]) for i in range(1, 6)]
    assert np.mean([metrics.psnr(hr, sr) for hr, sr in pairs]) == pytest.approx(28.43, abs=0.01)
    assert np.mean([metrics.ssim(hr, sr) for hr, sr in pairs]) == pytest.approx(0.811, abs=0.001)
