"""8-bit rounding, luma, PSNR and SSIM.

The protocol of the super-resolution papers: 8-bit pictures, the Y channel, a border as wide as the scale cut off.
"""

from typing import Literal

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

Channels = Literal["y", "rgb"]
"""What is compared: luma, or red, green and blue."""


def to_integers(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round a picture of any shape and dtype, and clip it to what the integers of a dtype can tell."""
    rounded = np.round(image)
    return np.clip(rounded, 0, np.iinfo(dtype).max, out=rounded).astype(dtype)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Clip a picture in 0..255 of any shape and dtype and round it to uint8."""
    return to_integers(image, np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    """Return Y of ITU-R BT.601, 16..235 as float64 [..., H, W], of RGB [..., H, W, 3] in 0..255."""
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def _inside(image: np.ndarray, border: int, channels: Channels) -> np.ndarray:
    height, width, _ = image.shape
    inside = image[border : height - border, border : width - border]
    return luma(inside) if channels == "y" else inside.astype(np.float64)


def psnr(hr: np.ndarray, sr: np.ndarray, border: int = 4, channels: Channels = "y") -> float:
    """Return the peak signal-to-noise ratio, in dB, of two uint8 RGB pictures [H, W, 3]; infinity if they are equal."""
    true, test = (_inside(image, border, channels) for image in (hr, sr))
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(true, test, data_range=255))


def ssim(hr: np.ndarray, sr: np.ndarray, border: int = 4, channels: Channels = "y") -> float:
    """Return the structural similarity, at most 1, of two uint8 RGB pictures [H, W, 3]; of RGB, the channels' mean.

    With the Gaussian window of Wang et al., 2004: 11 x 11 pixels, sigma 1.5.
    """
    true, test = (_inside(image, border, channels) for image in (hr, sr))
    return float(
        structural_similarity(
            true,
            test,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=-1 if channels == "rgb" else None,
        )
    )
