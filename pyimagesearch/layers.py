"""Layers for training with TensorFlow that compute what those of Keras compute, faster or over several replicas.

Their weights are those of the Keras layers that they stand for; saved generators have the latter.
"""

import functools
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops


class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalization whose training is one operation instead of a dozen; for 4-D inputs, channels last."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        """Normalize [B, H, W, C], by the statistics of the batch if `training`."""
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
    """A convolution to few filters that computes neighbouring pixels as channels of one, which fills vectors better.

    A kernel of 2n + 1 columns makes n neighbours at once. It sees the same pixels as always, and zeros beside them.
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
    """Return the arguments of `SRGAN.generator` that suit training on so many replicas.

    Several replicas take the statistics of batch normalization over all of them together. Both faster layers were
    measured on CPUs only, and are used there.
    """
    if num_replicas > 1:
        norm = functools.partial(keras.layers.BatchNormalization, synchronized=True)
    else:
        norm = FusedBatchNormalization if on_cpu else keras.layers.BatchNormalization
    return {"norm": norm, "last_conv": PackedConv2D if on_cpu else keras.layers.Conv2D}
