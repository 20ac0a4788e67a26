"""Layers for training with TensorFlow that compute the same as layers of Keras, but faster.

Their weights have the same shapes as those of the Keras layers that they replace. Saved generators have Keras layers.
"""

import functools
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops


class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalization of [B, H, W, C] that uses one fused operation in training."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        """Normalize [B, H, W, C]: with the statistics of the batch if `training`, otherwise with moving statistics."""
        if not training:
            return super().call(inputs, training=training)
        outputs, mean, unbiased_variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance = unbiased_variance * (count - 1) / count
        for moving, present in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + present * (1 - self.momentum))
        return outputs


class PackedConv2D(layers.Conv2D):
    """A convolution with few filters that computes neighbouring pixels as channels, which uses CPU vectors better.

    With a kernel of 2n + 1 columns, n neighbouring pixels are computed together. The kernel is padded with zeros, so
    that the result is the same as that of `Conv2D` except for rounding.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve [B, H, W, C], where W is a multiple of n, with the kernel [rows, 2n + 1, C, F]."""
        rows, columns, channels, filters = self.kernel.shape
        n = columns // 2
        _, height, width, _ = ops.shape(inputs)
        kernel = ops.cast(self.kernel, self.compute_dtype)
        shifted = [ops.pad(kernel, ((0, 0), (place, n - 1 - place), (0, 0), (0, 0))) for place in range(n)]
        kernel = ops.concatenate(shifted, axis=-1)  # [rows, 3n, C, n * F]
        kernel = ops.reshape(kernel, (rows, 3, n * channels, n * filters))
        packed = ops.reshape(inputs, (-1, height, width // n, n * channels))
        outputs = ops.reshape(ops.conv(packed, kernel, padding="same"), (-1, height, width, filters))
        return outputs + ops.cast(self.bias, self.compute_dtype)


def choose(num_replicas: int, on_cpu: bool) -> dict[str, Any]:
    """Choose the layers for training.

    With several replicas, batch normalization uses the statistics of the global batch. The faster layers are used on
    CPUs only, where they were measured.

    Args:
        num_replicas: the number of replicas that train in sync.
        on_cpu: whether training runs on the CPU.

    Returns:
        The arguments `norm` and `last_conv` of `SRGAN.generator`.
    """
    if num_replicas > 1:
        norm = functools.partial(keras.layers.BatchNormalization, synchronized=True)
    else:
        norm = FusedBatchNormalization if on_cpu else keras.layers.BatchNormalization
    return {"norm": norm, "last_conv": PackedConv2D if on_cpu else keras.layers.Conv2D}
