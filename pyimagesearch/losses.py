"""The losses of both stages, for one or several replicas."""

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.metrics import cubic_kernel, directions_distance


class Losses:
    """The losses, each as a scalar of dtype float32 or of the dtype of its arguments.

    Each method returns the mean over the batch of one replica, divided by the number of replicas. Therefore the sum
    over all replicas is the mean over the global batch, for losses and for their gradients.

    Args:
        num_replicas: the number of replicas that train in sync.
    """

    def __init__(self, num_replicas: int) -> None:
        self.num_replicas = num_replicas

    def bce_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean binary cross-entropy.

        Args:
            real: labels [B, ..., 1] in 0..1.
            pred: logits [B, ..., 1].

        Returns:
            A scalar in nats, at least 0.
        """
        loss = keras.losses.binary_crossentropy(real, pred, from_logits=True)  # [B, ...]
        return tf.reduce_mean(loss) / self.num_replicas

    def mse_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean squared error.

        Args:
            real: images or features [B, H, W, C], the target.
            pred: as `real`.

        Returns:
            A scalar in squared units of the arguments.
        """
        loss = keras.losses.mean_squared_error(real, pred)  # [B, H, W]
        return tf.reduce_mean(loss) / self.num_replicas

    def l1_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean absolute error.

        Args:
            real: images or features [B, H, W, C], the target.
            pred: as `real`.

        Returns:
            A scalar in units of the arguments.
        """
        loss = keras.losses.mean_absolute_error(real, pred)  # [B, H, W]
        return tf.reduce_mean(loss) / self.num_replicas

    def relativistic_loss(self, real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
        """Return the relativistic pairing loss: the mean of softplus(fake - real).

        See Jolicoeur-Martineau, arXiv 1807.00734. As written it is the loss of the discriminator. With the arguments
        exchanged it is the adversarial loss of the generator.

        Args:
            real: logits [B, ...] of ground truth images.
            fake: logits of the generated images at the same positions.

        Returns:
            A scalar in nats, at least 0. It is log 2 if the logits are equal.
        """
        return tf.reduce_mean(tf.math.softplus(fake - real)) / self.num_replicas

    def unit_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean of `metrics.directions_distance`.

        Args:
            real: features [B, h, w, C], the target.
            pred: as `real`.

        Returns:
            A scalar from 0 to 4.
        """
        return tf.reduce_mean(directions_distance(real, pred)) / self.num_replicas

    def reduced_loss(self, hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
        """Return the mean absolute error of `sr` against `hr` after both are reduced to the size of `lr`.

        The reduction is the antialiased bicubic interpolation that also makes clean low-resolution images. The target
        is the reduced `hr` and not `lr`, because `lr` may have noise and JPEG artifacts. A border of 2 pixels of the
        reduced images is not counted.

        Args:
            hr: RGB [B, S*h, S*w, 3] in 0..255.
            sr: as `hr`.
            scale: the scaling factor S.

        Returns:
            A scalar in levels of pixels, 0..255.
        """
        kernel = tf.constant(_bicubic(scale), sr.dtype)  # [4 * S, 4 * S]
        kernel = tf.tile(kernel[:, :, None, None], (1, 1, 3, 1))
        difference = (sr - hr)[:, scale // 2 :, scale // 2 :]
        reduced = tf.nn.depthwise_conv2d(difference, kernel, (1, scale, scale, 1), "VALID")  # [B, h - 4, w - 4, 3]
        return tf.reduce_mean(tf.abs(reduced)) / self.num_replicas

    def grid_loss(self, hr: tf.Tensor, sr: tf.Tensor, scale: int) -> tf.Tensor:
        """Return a loss against patterns that repeat with every input pixel.

        Each pixel of the input becomes a cell of S x S pixels of `sr`. The loss is the sum of two parts, which are
        computed from the grey images:

        - Uneven energy. For each of the S x S positions in a cell, the squared Laplacian is averaged over all cells.
          This part is the variance of these energies after division by their mean. `metrics.grid` is the ratio of the
          largest and the smallest energy.
        - Common pattern. The error within a cell, relative to the mean of the cell, is averaged over 8 x 8 cells.
          Texture averages out, and a pattern that all cells share remains, such as a checkerboard, whose energy is the
          same everywhere. This part is the energy of the remaining pattern, divided by the energy within cells.

        Both parts are 0 without a pattern. This loss is the project's own.

        Args:
            hr: RGB [B, S*h, S*w, 3] in 0..255.
            sr: as `hr`.
            scale: the scaling factor S.

        Returns:
            A scalar without a unit, at least 0.
        """
        grey_hr, grey_sr = (tf.reduce_mean(images, axis=-1, keepdims=True) for images in (hr, sr))  # [B, H, W, 1]
        loss = _uneven_energy(grey_sr, scale) + _common_pattern(grey_hr, grey_sr, scale)  # [B]
        return tf.reduce_mean(loss) / self.num_replicas


_LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], "float32")


def _bicubic(scale: int) -> np.ndarray:
    """Return the kernel of a reduction by antialiased bicubic interpolation, with a = -0.5 (Keys, 1981)."""
    taps = cubic_kernel((np.arange(4 * scale) - 2 * scale + 0.5) / scale)
    return np.outer(taps, taps) / taps.sum() ** 2


def _uneven_energy(grey_sr: tf.Tensor, scale: int) -> tf.Tensor:
    laplacian = tf.nn.conv2d(grey_sr, tf.constant(_LAPLACIAN)[:, :, None, None], 1, "SAME")
    energies = tf.reduce_mean(tf.square(_cells(laplacian, scale)), axis=(1, 2)) + 1.0  # [B, S * S]; 1 for rounding
    shares = energies / tf.reduce_mean(energies, axis=-1, keepdims=True)
    return tf.reduce_mean(tf.square(shares - 1), axis=-1)  # [B]


def _common_pattern(grey_hr: tf.Tensor, grey_sr: tf.Tensor, scale: int) -> tf.Tensor:
    hr, sr = (_cells(grey, scale) for grey in (grey_hr, grey_sr))
    hr, sr = (cells - tf.reduce_mean(cells, axis=-1, keepdims=True) for cells in (hr, sr))
    side = min(8, *sr.shape[1:3])
    pattern = tf.nn.avg_pool2d(sr - hr, side, side, "VALID")  # [B, (h - 2) // side, (w - 2) // side, S * S]
    energy = tf.reduce_mean(tf.square(hr) + tf.square(sr), axis=(1, 2, 3)) / 2 + 0.1  # [B]; 0.1 for rounding
    return tf.reduce_mean(tf.square(pattern), axis=(1, 2, 3)) / energy  # [B]


def _cells(grey: tf.Tensor, scale: int) -> tf.Tensor:
    """Return images [B, S*h, S*w, 1] by cells of S x S pixels, without the outer cells: [B, h - 2, w - 2, S*S]."""
    return tf.nn.space_to_depth(grey[:, scale:-scale, scale:-scale], scale)
