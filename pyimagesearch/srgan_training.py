"""One training step of each stage."""

from collections.abc import Callable

import keras
import tensorflow as tf

LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Batch = tuple[tf.Tensor, tf.Tensor]

ADVERSARIAL_WEIGHT = 1e-3
"""The weight of the adversarial loss beside the content loss (arXiv 1609.04802, equation 3)."""


def _apply_gradients(
    tape: tf.GradientTape, loss: tf.Tensor, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)


class SRGANPretraining(keras.Model):
    """The first stage: the generator alone, by mean squared error on 0..255."""

    def __init__(self, generator: keras.Model) -> None:
        super().__init__()
        self.generator = generator
        self.built = True

    def compile(self, optimizer: keras.optimizers.Optimizer, mse_loss: LossFunction) -> None:
        """Take the optimizer, which is built here, and `Losses.mse_loss`."""
        super().compile(optimizer=None)
        self.g_optimizer = optimizer
        self.mse_loss = mse_loss
        optimizer.build(self.generator.trainable_variables)

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """Take one step.

        Args:
            data: `lr` [B, h, w, 3] and `hr` [B, S*h, S*w, 3], uint8 or float in 0..255.

        Returns:
            `mse_loss`, this replica's share.
        """
        lr, hr = (tf.cast(images, tf.float32) for images in data)
        with tf.GradientTape() as tape:
            sr = self.generator(lr, training=True)  # [B, S*h, S*w, 3]
            loss = self.mse_loss(hr, sr)
        _apply_gradients(tape, loss, self.generator, self.g_optimizer)
        return {"mse_loss": loss}


class SRGANTraining(keras.Model):
    """The second stage: generator and discriminator against each other."""

    def __init__(self, generator: keras.Model, discriminator: keras.Model, vgg: keras.Model, batch_size: int) -> None:
        """Take the three networks and the batch size of one replica, on which no step depends."""
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.vgg = vgg
        self.batch_size = batch_size
        self.built = True

    def compile(
        self,
        g_optimizer: keras.optimizers.Optimizer,
        d_optimizer: keras.optimizers.Optimizer,
        bce_loss: LossFunction,
        mse_loss: LossFunction,
    ) -> None:
        """Take the optimizers, which are built here, and the two losses of `Losses`."""
        super().compile(optimizer=None)
        self.g_optimizer = g_optimizer
        self.d_optimizer = d_optimizer
        self.bce_loss = bce_loss
        self.mse_loss = mse_loss
        g_optimizer.build(self.generator.trainable_variables)
        d_optimizer.build(self.discriminator.trainable_variables)

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """Take one step of the discriminator, then one of the generator.

        1. Upscale the batch, once for both.
        2. Teach the discriminator to tell photographs from the generator's work.
        3. Teach the generator to pass for a photograph and to keep the VGG features of the original.

        Args:
            data: `lr` [B, h, w, 3] and `hr` [B, S*h, S*w, 3], uint8 or float in 0..255.

        Returns:
            `d_loss`, `g_loss`, `adversarial_loss` and `content_loss`, this replica's shares.
        """
        lr, hr = (tf.cast(images, tf.float32) for images in data)
        hr_features = self.vgg(hr, training=False)
        with tf.GradientTape() as tape:
            sr = self.generator(lr, training=True)  # [B, S*h, S*w, 3]
            with tape.stop_recording():
                d_loss = self._discriminator_step(hr, sr)
            adversarial_loss = self._adversarial_loss(sr)
            content_loss = self.mse_loss(hr_features, self.vgg(sr, training=False))
            g_loss = content_loss + ADVERSARIAL_WEIGHT * adversarial_loss
        _apply_gradients(tape, g_loss, self.generator, self.g_optimizer)
        return {
            "d_loss": d_loss,
            "g_loss": g_loss,
            "adversarial_loss": adversarial_loss,
            "content_loss": content_loss,
        }

    def _discriminator_step(self, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            # Separately, so that batch normalization does not tell the two apart by their batch.
            real = self.discriminator(hr, training=True)  # [B, 1]
            fake = self.discriminator(sr, training=True)
            loss = self.bce_loss(tf.ones_like(real), real) + self.bce_loss(tf.zeros_like(fake), fake)
        _apply_gradients(tape, loss, self.discriminator, self.d_optimizer)
        return loss

    def _adversarial_loss(self, sr: tf.Tensor) -> tf.Tensor:
        # Stateless: judging for the generator's sake must not move the discriminator's own statistics.
        discriminator = self.discriminator
        fake, _ = discriminator.stateless_call(
            discriminator.trainable_variables, discriminator.non_trainable_variables, sr, training=True
        )
        return self.bce_loss(tf.ones_like(fake), fake)
