"""The losses, scaled so that gradients summed over replicas are those of the whole batch."""

import keras
import tensorflow as tf


class Losses:
    """The losses of one replica among `num_replicas`: its mean divided by their number.

    Summed over all replicas, each loss is the mean over the whole batch: that is what is logged.
    """

    def __init__(self, num_replicas: int) -> None:
        self.num_replicas = num_replicas

    def bce_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the binary cross-entropy of logits `pred` [B, 1] against labels `real` [B, 1], as a scalar."""
        loss = keras.losses.binary_crossentropy(real, pred, from_logits=True)  # [B]
        return tf.reduce_mean(loss) / self.num_replicas

    def mse_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean squared error of `pred` against `real`, both [B, H, W, C], as a scalar."""
        loss = keras.losses.mean_squared_error(real, pred)  # [B, H, W]
        return tf.reduce_mean(loss) / self.num_replicas

    def l1_loss(self, real: tf.Tensor, pred: tf.Tensor) -> tf.Tensor:
        """Return the mean absolute error of `pred` against `real`, both [B, H, W, C], as a scalar."""
        loss = keras.losses.mean_absolute_error(real, pred)  # [B, H, W]
        return tf.reduce_mean(loss) / self.num_replicas
