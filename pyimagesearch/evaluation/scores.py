"""What is measured of a result whose truth is known; training, inference and evaluation alike do it here."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import metrics
from pyimagesearch.data.pairs import Pair, shrink

Distance = Callable[[np.ndarray, np.ndarray], float]
"""From the original and the result, both uint8 RGB [H, W, 3]."""

PSNR_OF_EQUALS = 100.0
"""What counts, in dB, where there is no error at all and PSNR is infinite."""


class Score(NamedTuple):
    """What is measured of a result: see `reports.protocol`."""

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
    """Measure a result that took so many seconds.

    Args:
        pair: the input and the original.
        sr: the result, uint8 RGB [S*h, S*w, 3].
        scale: S.
        distance: from `perceptual_distance`; features are not compared if None.
        seconds: what it took.
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
    """Return `metrics.perceptual_distance` as a function of two images of any size, compiled for the strategy."""
    strategy = tf.distribute.get_strategy()

    def on_replica(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        return metrics.perceptual_distance(vgg, hr[None], sr[None])[0]

    @tf.function(reduce_retracing=True)  # static shapes, as TPUs want them, until a second size comes
    def distance(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(on_replica, args=(hr, sr)))[0]

    return lambda hr, sr: float(distance(tf.constant(hr), tf.constant(sr)))


def score_all(lr: np.ndarray, hr: np.ndarray, sr: np.ndarray, distance: Distance | None = None) -> list[Score]:
    """Measure several results of one size, as `score` does, in no time.

    Args:
        lr: the inputs, uint8 RGB [N, h, w, 3].
        hr: the originals, uint8 RGB [N, S*h, S*w, 3].
        sr: the results, as `hr`.
        distance: as for `score`.
    """
    scale = hr.shape[1] // lr.shape[1]
    pairs = (Pair(str(number), *images) for number, images in enumerate(zip(lr, hr, strict=True)))
    return [score(pair, result, scale, distance, 0) for pair, result in zip(pairs, sr, strict=True)]


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the means of some scores, None where nothing was measured."""
    columns = zip(*scores, strict=True)
    return Score(*(None if column[0] is None else float(np.mean(column)) for column in columns))
