"""8-bit rounding, luma, PSNR, SSIM, the perceptual distance, grid and detail.

The protocol of the super-resolution papers: 8-bit pictures, the Y channel, a border as wide as the scale cut off.
"""

from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

Channels = Literal["y", "rgb"]
"""What is compared: luma, or red, green and blue."""

NO_GRID = 1.6
"""The largest `grid` that still counts as none: photographs themselves have from 1.05 to 1.6."""

_ROUNDING = 0.55
"""The energy of `_laplacian` that rounding to 8 bits makes: 1/12 in each channel, on Y 0.027, times 4² + 4 · 1²."""


def to_integers(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round a picture of any shape and dtype, and clip it to what the integers of a dtype can tell."""
    rounded = np.round(image)
    return np.clip(rounded, 0, np.iinfo(dtype).max, out=rounded).astype(dtype)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Clip a picture in 0..255 of any shape and dtype and round it to uint8."""
    return to_integers(image, np.uint8)


def cubic_kernel(x: np.ndarray) -> np.ndarray:
    """Return the weight of bicubic interpolation for distances `x` in pixels of the smaller image; a = -1/2.

    Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


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


def perceptual_distance(vgg: keras.Model, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
    """Return how different images look: the distance of the directions of their features.

    It is LPIPS (Zhang et al., arXiv 1801.03924) without its learned weights: each place's vector of features is divided
    by its length, and the squared distance, summed over channels, is averaged over places. Of several layers it is the
    mean, where LPIPS has the sum, so that the range does not depend on their number. Unlike the distance of the
    features themselves, it falls when plausible texture appears.

    Args:
        vgg: from `VGG.build`, or a network with a list of such outputs.
        hr: the originals, RGB [B, H, W, 3] in 0..255.
        sr: the results, as `hr`.

    Returns:
        float32 [B]: 0 for equal images, at most 2 for features after ReLU.
    """
    layers = zip(*(tf.nest.flatten(vgg(tf.cast(images, tf.float32))) for images in (hr, sr)), strict=True)
    return tf.reduce_mean([directions_distance(true, test) for true, test in layers], axis=0)


def directions_distance(true: tf.Tensor, test: tf.Tensor) -> tf.Tensor:
    """Return the squared distance, float32 [B], of features [B, h, w, C] scaled to unit length, the mean of places."""
    true, test = (tf.math.l2_normalize(tf.cast(features, tf.float32), -1, 1e-10) for features in (true, test))
    return tf.reduce_mean(tf.reduce_sum(tf.square(true - test), -1), (1, 2))


def grid(images: np.ndarray, scale: int = 4) -> float:
    """Return how much images show a pattern that repeats with every input pixel, as generators leave them.

    The energy of the Laplacian of Y is measured at each of the scale x scale places in the square that an input pixel
    becomes; the largest is divided by the smallest. What rounding makes is added to both, so that a flat image has 1.
    Of several images, the shares that the places have of each image's energy are averaged first: what one photograph
    happens to have at a place averages out; a grid, which is at the same places in all of them, does not. Squares of
    96 pixels of photographs have 1.7 or more one by one, but 1.2 to 1.4 together.

    Args:
        images: uint8 RGB [H, W, 3] or [N, H, W, 3], at least 3 * scale pixels high and wide.
        scale: the side, in pixels, of the square that repeats; as wide a border does not count.

    Returns:
        At least 1. Photographs have 1.05 to `NO_GRID`, bicubic interpolation 3 to 6; dots of 2 levels on every fourth
        pixel bring results on Set5 from 1.3 to 2.7.
    """
    squares = _laplacian(images, scale) ** 2  # [..., H, W]
    height, width = (side // scale * scale for side in squares.shape[-2:])
    cells = squares[..., :height, :width].reshape(-1, height // scale, scale, width // scale, scale)
    energies = cells.mean(axis=(1, 3)) + _ROUNDING  # [N, scale, scale]
    shares = (energies / energies.mean(axis=(1, 2), keepdims=True)).mean(axis=0)
    return float(shares.max() / shares.min())


def detail(hr: np.ndarray, sr: np.ndarray, border: int = 4) -> float:
    """Return the energy of the Laplacian of Y of a result over that of the original, both uint8 RGB [H, W, 3].

    1 is as sharp as the original, less is softer. What rounding makes is added to both: two flat images have 1.
    """
    true, test = (np.mean(_laplacian(image, border) ** 2) + _ROUNDING for image in (hr, sr))
    return float(test / true)


def _laplacian(images: np.ndarray, border: int) -> np.ndarray:
    """Return the sum of the four neighbours less four times a pixel, of Y inside a border, float64 [..., H, W]."""
    height, width = images.shape[-3:-1]
    y = luma(images[..., border - 1 : height - border + 1, border - 1 : width - border + 1, :])
    neighbours = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    return neighbours - 4 * y[..., 1:-1, 1:-1]
