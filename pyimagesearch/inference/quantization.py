"""Quantize a network for LiteRT to integers of 8 bits, calibrated on photographs."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.config import SHIPPED_PHOTOGRAPHS
from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.data.pairs import make_pair
from pyimagesearch.data.photographs import find_images


class Levels(keras.layers.Layer):
    """Round values to the integers 0 to 255.

    In a quantized network, the tensor has the scale 1 and the zero point 0: its bytes are the levels of pixels.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Round a tensor of any shape, in 0..255."""
        return tf.quantization.fake_quant_with_min_max_args(inputs, 0, 255)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return input_shape


def converter_settings(scale: int) -> dict[str, Any]:
    """Return the arguments of `keras.Model.export` for LiteRT that make all operations compute in integers.

    The input and the output of the network are then uint8. The weights are int8, with a scale for each filter, and the
    features are int8, with a scale for each tensor.

    Args:
        scale: the scaling factor of the network, whose input is float32 RGB [B, h, w, 3] in 0..255.

    Raises:
        UserError: the photographs for the calibration are missing.
    """
    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": _calibration(scale),
        "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        "inference_input_type": tf.uint8,
        "inference_output_type": tf.uint8,
    }


def _calibration(scale: int) -> Callable[[], Iterator[list[np.ndarray]]]:
    """Return the inputs by which the converter finds the range of each tensor, each float32 [1, h, w, 3]."""
    names = find_images(SHIPPED_PHOTOGRAPHS).names
    pairs = [make_pair(name, read_rgb(os.path.join(SHIPPED_PHOTOGRAPHS, name)), scale) for name in names]
    return lambda: ([pair.lr[None].astype(np.float32)] for pair in pairs)
