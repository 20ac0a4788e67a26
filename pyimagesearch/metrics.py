"""Rounding to 8 bits, luma, and the measures: PSNR, SSIM, perceptual distance, grid and detail.

PSNR and SSIM follow the protocol of the super-resolution papers: images of 8 bits, the Y channel, and a border as wide
as the scaling factor that is not counted.
"""

from typing import Literal

import keras
import numpy as np
import skimage.metrics  # whose functions are imported when they are first used
import tensorflow as tf

Channels = Literal["y", "rgb"]
"""The channels that are compared: luma, or red, green and blue."""

NO_GRID = 1.6
"""The largest value of `grid` for an image without a visible pattern. Photographs have 1.05 to 1.6."""

_ROUNDING = 0.55
"""The energy of `_laplacian` caused by rounding to 8 bits: 1/12 in each channel, 0.027 on Y, times 4² + 4 · 1²."""


def to_integers(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round an image and clip it to the range of an integer dtype.

    Args:
        image: an array of any shape and dtype.
        dtype: np.uint8 or np.uint16.
    """
    rounded = np.round(image)
    return np.clip(rounded, 0, np.iinfo(dtype).max, out=rounded).astype(dtype)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round an image of any shape and dtype to uint8, and clip it to 0..255.

    Args:
        image: an array of any shape, with values of 0..255.
    """
    return to_integers(image, np.uint8)


def cubic_kernel(x: np.ndarray) -> np.ndarray:
    """Return the kernel of bicubic interpolation with a = -1/2.

    See Keys, "Cubic convolution interpolation for digital image processing", 1981.

    Args:
        x: distances in pixels of the smaller image.
    """
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def luma(image: np.ndarray) -> np.ndarray:
    """Return the luma Y of ITU-R BT.601.

    Args:
        image: RGB [..., H, W, 3] in 0..255.

    Returns:
        float64 [..., H, W] in 16..235.
    """
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def _inside(image: np.ndarray, border: int, channels: Channels) -> np.ndarray:
    height, width, _ = image.shape
    inside = image[border : height - border, border : width - border]
    return luma(inside) if channels == "y" else inside.astype(np.float64)


def psnr(hr: np.ndarray, sr: np.ndarray, border: int = 4, channels: Channels = "y") -> float:
    """Return the peak signal-to-noise ratio with a peak of 255.

    Args:
        hr: the ground truth, uint8 RGB [H, W, 3].
        sr: the result, as `hr`.
        border: the width of the border that is not counted, in pixels.
        channels: what is compared.

    Returns:
        A ratio in dB; infinity if the images are equal.
    """
    true, test = (_inside(image, border, channels) for image in (hr, sr))
    with np.errstate(divide="ignore"):
        return float(skimage.metrics.peak_signal_noise_ratio(true, test, data_range=255))


def ssim(hr: np.ndarray, sr: np.ndarray, border: int = 4, channels: Channels = "y") -> float:
    """Return the structural similarity (Wang et al., 2004), with a Gaussian window of 11 x 11 pixels and sigma 1.5.

    Args:
        hr: the ground truth, uint8 RGB [H, W, 3].
        sr: the result, as `hr`.
        border: the width of the border that is not counted, in pixels.
        channels: what is compared. For RGB, the result is the mean over the channels.

    Returns:
        At most 1, the value of equal images.
    """
    true, test = (_inside(image, border, channels) for image in (hr, sr))
    return float(
        skimage.metrics.structural_similarity(
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
    """Return the perceptual distance of images: the distance of the directions of their features.

    This is LPIPS (Zhang et al., arXiv 1801.03924) without its learned weights. The feature vector at each position is
    divided by its length. The squared distance is summed over channels and averaged over positions. The result is the
    mean over several layers, where LPIPS has the sum, so that the range does not depend on their number. In contrast to
    the distance of the features themselves, it decreases when plausible texture appears.

    Args:
        vgg: from `VGG.build`, with one output or a list of outputs.
        hr: the ground truth, RGB [B, H, W, 3] in 0..255.
        sr: the results, as `hr`.

    Returns:
        float32 [B]: 0 for equal images, at most 2 for features after ReLU.
    """
    layers = zip(*(tf.nest.flatten(vgg(tf.cast(images, tf.float32))) for images in (hr, sr)), strict=True)
    return tf.reduce_mean([directions_distance(true, test) for true, test in layers], axis=0)


def directions_distance(true: tf.Tensor, test: tf.Tensor) -> tf.Tensor:
    """Return the squared distance of features that are scaled to unit length, averaged over positions.

    Args:
        true: features [B, h, w, C].
        test: as `true`.

    Returns:
        float32 [B] from 0 to 4.
    """
    true, test = (tf.math.l2_normalize(tf.cast(features, tf.float32), -1, 1e-10) for features in (true, test))
    return tf.reduce_mean(tf.reduce_sum(tf.square(true - test), -1), (1, 2))


def grid(images: np.ndarray, scale: int = 4) -> float:
    """Return the strength of patterns that repeat with every input pixel, as generators can produce them.

    Each input pixel becomes a cell of scale x scale pixels. For each position in a cell, the energy of the Laplacian of
    Y is averaged over all cells. The result is the largest energy divided by the smallest. The energy of rounding is
    added to both, so that the result of a flat image is 1.

    The energies of several images are first divided by their mean in each image, and then averaged over the images. In
    this way the content of single images averages out, but a pattern at the same positions of all images does not.
    Crops of 96 pixels of photographs have 1.7 or more one by one, but 1.2 to 1.4 together.

    Args:
        images: uint8 RGB [H, W, 3] or [N, H, W, 3], at least 3 * scale pixels high and wide.
        scale: the side of a cell in pixels. A border of the same width is not counted.

    Returns:
        At least 1. Photographs have 1.05 to `NO_GRID`, and bicubic interpolation has 3 to 6. Dots of 2 levels on every
        fourth pixel change results on Set5 from 1.3 to 2.7.
    """
    squares = _laplacian(images, scale) ** 2  # [..., H, W]
    height, width = (side // scale * scale for side in squares.shape[-2:])
    cells = squares[..., :height, :width].reshape(-1, height // scale, scale, width // scale, scale)
    energies = cells.mean(axis=(1, 3)) + _ROUNDING  # [N, scale, scale]
    shares = (energies / energies.mean(axis=(1, 2), keepdims=True)).mean(axis=0)
    return float(shares.max() / shares.min())


def detail(hr: np.ndarray, sr: np.ndarray, border: int = 4) -> float:
    """Return the energy of the Laplacian of Y of a result, divided by the same energy of the ground truth.

    The energy of rounding is added to both, so that two flat images have 1.

    Args:
        hr: the ground truth, uint8 RGB [H, W, 3].
        sr: the result, as `hr`.
        border: the width of the border that is not counted, in pixels.

    Returns:
        1 if the result is as sharp as the ground truth, less if it is softer.
    """
    true, test = (np.mean(_laplacian(image, border) ** 2) + _ROUNDING for image in (hr, sr))
    return float(test / true)


def _laplacian(images: np.ndarray, border: int) -> np.ndarray:
    """Return the Laplacian of Y inside a border: four neighbours minus four times the pixel, float64 [..., H, W]."""
    height, width = images.shape[-3:-1]
    y = luma(images[..., border - 1 : height - border + 1, border - 1 : width - border + 1, :])
    neighbours = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    return neighbours - 4 * y[..., 1:-1, 1:-1]
