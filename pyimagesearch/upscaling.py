"""Pictures, made larger by a generator or by interpolation."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.errors import UserError
from pyimagesearch.metrics import to_uint8


def load_generator(path: str) -> keras.Model:
    """Load a generator from a `.keras` file or `gs://` address, refusing files that want to run code.

    Raises:
        UserError: there is no such file, or it holds something other than a generator.
    """
    if not tf.io.gfile.exists(path):
        raise UserError(f"{path}: no such model; make it with train_srgan.py")
    try:
        generator = keras.models.load_model(path, compile=False)
        scaling_factor(generator)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise UserError(f"{path}: not a generator; make one with train_srgan.py") from error
    return generator


def scaling_factor(generator: keras.Model) -> int:
    """Return how many times larger a generator makes pictures.

    Raises:
        ValueError: it does not turn pictures into larger pictures.
    """
    _, height, width, channels = keras.ops.shape(generator(tf.zeros((1, 8, 12, 3))))
    scale = height // 8
    if scale < 2 or (height, width, channels) != (8 * scale, 12 * scale, 3):
        raise ValueError(f"{generator.name}: [1, 8, 12, 3] becomes [1, {height}, {width}, {channels}]")
    return scale


def compiled(generator: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a generator as a function of LR float [B, h, w, 3], for `super_resolve`, under the current strategy.

    That must be the strategy under which the generator was loaded.
    """
    strategy = tf.distribute.get_strategy()

    @tf.function
    def upscale(lr: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(generator, args=(lr,)))[0]

    return upscale


def super_resolve(upscale: Callable[[tf.Tensor], tf.Tensor], lr: np.ndarray) -> np.ndarray:
    """Enlarge pictures, uint8 RGB [B, h, w, 3], by a `compiled` generator; uint8 RGB [B, S*h, S*w, 3]."""
    return to_uint8(upscale(tf.cast(lr, tf.float32)).numpy())


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge pictures, uint8 RGB [B, h, w, 3], by bicubic interpolation; uint8 RGB [B, scale*h, scale*w, 3]."""
    _, height, width, _ = lr.shape
    return to_uint8(tf.image.resize(lr, (height * scale, width * scale), "bicubic").numpy())
