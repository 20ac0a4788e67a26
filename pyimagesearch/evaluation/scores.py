"""The measures of a result with known ground truth. Training, inference and evaluation use the same functions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import metrics
from pyimagesearch.data.pairs import Pair, shrink

Distance = Callable[[np.ndarray, np.ndarray], float]
"""A function of the ground truth and the result, both uint8 RGB [H, W, 3]."""

PSNR_OF_EQUALS = 100.0
"""The PSNR in dB that is used for equal images, instead of infinity."""


class Score(NamedTuple):
    """The measures of a result; see `reports.protocol` and `pyimagesearch.metrics`.

    Attributes:
        psnr_y: PSNR on Y in dB.
        ssim_y: SSIM on Y.
        psnr_rgb: PSNR on RGB in dB.
        ssim_rgb: SSIM on RGB.
        lr_psnr: PSNR on RGB in dB between the input and the reduced result.
        perceptual_distance: `metrics.perceptual_distance`, or None if it was not measured.
        grid: `metrics.grid`.
        detail: `metrics.detail`.
        seconds: the time to compute the result.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    lr_psnr: float
    perceptual_distance: float | None
    grid: float
    detail: float
    seconds: float


def score(pair: Pair, sr: np.ndarray, scale: int, distance: Distance | None, seconds: float) -> Score:
    """Measure a result.

    Args:
        pair: the input and its ground truth.
        sr: the result, uint8 RGB [S*h, S*w, 3].
        scale: the scaling factor S. The width of the border that is not counted is also S.
        distance: from `perceptual_distance`. If None, the perceptual distance is not measured.
        seconds: the time to compute the result.
    """

    def psnr(true: np.ndarray, test: np.ndarray, border: int, channels: metrics.Channels) -> float:
        return min(PSNR_OF_EQUALS, metrics.psnr(true, test, border, channels))

    return Score(
        psnr_y=psnr(pair.hr, sr, scale, "y"),
        ssim_y=metrics.ssim(pair.hr, sr, scale, "y"),
        psnr_rgb=psnr(pair.hr, sr, scale, "rgb"),
        ssim_rgb=metrics.ssim(pair.hr, sr, scale, "rgb"),
        lr_psnr=psnr(pair.lr, shrink(sr, scale), 1, "rgb"),
        perceptual_distance=distance(pair.hr, sr) if distance else None,
        grid=metrics.grid(sr, scale),
        detail=metrics.detail(pair.hr, sr, scale),
        seconds=seconds,
    )


def perceptual_distance(vgg: keras.Model) -> Distance:
    """Return `metrics.perceptual_distance` as a compiled function of two images of any size.

    It runs under the current strategy.

    Args:
        vgg: from `VGG.build`.
    """
    strategy = tf.distribute.get_strategy()

    def on_replica(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        return metrics.perceptual_distance(vgg, hr[None], sr[None])[0]

    @tf.function(autograph=False, reduce_retracing=True)  # static shapes for TPUs, until a second size is used
    def distance(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(on_replica, args=(hr, sr)))[0]

    return lambda hr, sr: float(distance(tf.constant(hr), tf.constant(sr)))


def score_all(lr: np.ndarray, hr: np.ndarray, sr: np.ndarray, distance: Distance | None = None) -> list[Score]:
    """Measure several results of the same size with `score`. Their `seconds` are 0.

    Args:
        lr: the inputs, uint8 RGB [N, h, w, 3].
        hr: the ground truth, uint8 RGB [N, S*h, S*w, 3].
        sr: the results, as `hr`.
        distance: see `score`.
    """
    scale = hr.shape[1] // lr.shape[1]
    pairs = (Pair(str(number), *images) for number, images in enumerate(zip(lr, hr, strict=True)))
    return [score(pair, result, scale, distance, 0) for pair, result in zip(pairs, sr, strict=True)]


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean of each measure, or None for a measure that was not made.

    Args:
        scores: at least one score.
    """
    columns = zip(*scores, strict=True)
    return Score(*(None if column[0] is None else float(np.mean(column)) for column in columns))
