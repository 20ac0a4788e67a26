"""The losses, scaled so that gradients summed over replicas are those of the whole batch."""

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.metrics import cubic_kernel, directions_distance


class Losses:
    """The losses of one replica among `num_replicas`: its mean divided by their number.

    Summed over all replicas, each loss is the mean over the whole batch: that is what is logged.
    """

    def __init__(self, num_replicas: int) -> None:
        self.num_replicas = num_replicas

    def bce_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the binary cross-entropy of logits `pred` [B, ..., 1] against labels `real`, as a scalar."""
        loss = keras.losses.binary_crossentropy(real, pred, from_logits=True)  # [B, ...]
        return tf.reduce_mean(loss) / self.num_replicas

    def mse_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean squared error of `pred` against `real`, both [B, H, W, C], as a scalar."""
        loss = keras.losses.mean_squared_error(real, pred)  # [B, H, W]
        return tf.reduce_mean(loss) / self.num_replicas

    def l1_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean absolute error of `pred` against `real`, both [B, H, W, C], as a scalar."""
        loss = keras.losses.mean_absolute_error(real, pred)  # [B, H, W]
        return tf.reduce_mean(loss) / self.num_replicas

    def relativistic_loss(self, real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
        """Return the loss of a discriminator whose logits should be higher for `real` than for its copy `fake`.

        The relativistic pairing loss (Jolicoeur-Martineau, arXiv 1807.00734): softplus(fake - real), averaged over
        logits [B, ...] of the same places of the same images. With the two exchanged, it is the generator's.
        """
        return tf.reduce_mean(tf.math.softplus(fake - real)) / self.num_replicas

    def unit_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean of `metrics.directions_distance` of features [B, h, w, C], from 0 to 4, as a scalar."""
        return tf.reduce_mean(directions_distance(real, pred)) / self.num_replicas

    def reduced_loss(self, hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
        """Return the mean absolute error of `sr` against `hr`, both reduced, as a scalar.

        They are [B, S*h, S*w, 3]. The reduction is the antialiased bicubic one that makes clean low-resolution images;
        noise and JPEG blocks that an input may have are no part of the target. A border of 2 pixels of the reduced
        images is left out.
        """
        kernel = tf.constant(_bicubic(scale), sr.dtype)  # [4 * S, 4 * S]
        kernel = tf.tile(kernel[:, :, None, None], (1, 1, 3, 1))
        difference = (sr - hr)[:, scale // 2 :, scale // 2 :]
        reduced = tf.nn.depthwise_conv2d(difference, kernel, (1, scale, scale, 1), "VALID")  # [B, h - 4, w - 4, 3]
        return tf.reduce_mean(tf.abs(reduced)) / self.num_replicas

    def grid_loss(self, sr: tf.Tensor, scale: int) -> tf.Tensor:
        """Return how unevenly detail lies on the S x S pixels that each pixel of the input becomes, as a scalar.

        Of `sr` [B, S*h, S*w, 3], the energy of the Laplacian is measured at each of those places, over a whole image.
        The loss is the variance of these energies, divided by their mean: 0 without a grid. `metrics.grid` is the ratio
        of the largest and the smallest of them.
        """
        grey = tf.reduce_mean(sr, axis=-1, keepdims=True)
        laplacian = tf.nn.conv2d(grey, tf.constant(_LAPLACIAN)[:, :, None, None], 1, "SAME")
        inside = laplacian[:, scale:-scale, scale:-scale]
        places = tf.nn.space_to_depth(tf.square(inside), scale)  # [B, h - 2, w - 2, S * S]
        energies = tf.reduce_mean(places, axis=(1, 2)) + 1.0  # [B, S * S]; that of rounding, about
        shares = energies / tf.reduce_mean(energies, axis=-1, keepdims=True)
        return tf.reduce_mean(tf.square(shares - 1)) / self.num_replicas


_LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], "float32")


def _bicubic(scale: int) -> np.ndarray:
    """Return the kernel of a reduction by antialiased bicubic interpolation, with a = -0.5 (Keys, 1981)."""
    taps = cubic_kernel((np.arange(4 * scale) - 2 * scale + 0.5) / scale)
    return np.outer(taps, taps) / taps.sum() ** 2
