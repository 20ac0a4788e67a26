"""One training step of each stage."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

LossFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Batch = tuple[tf.Tensor, tf.Tensor]


class SRGANPretraining(keras.Model):
    """The first stage: the generator alone, by the error of its pixels."""

    def __init__(self, generator: keras.Model, pixel_scale: float = 1.0, freeze_batch_norm: bool = False) -> None:
        """Take the generator and the recipe.

        Args:
            generator: from `SRGAN.generator`.
            pixel_scale: of the images that are compared: 1 for 0..255, 1 / 127.5 for a range as wide as -1..1.
            freeze_batch_norm: whether the generator's batch normalization keeps the statistics it has.
        """
        super().__init__()
        self.generator = generator
        self.pixel_scale = pixel_scale
        self.freeze_batch_norm = freeze_batch_norm
        self.built = True

    def compile(self, optimizer: keras.optimizers.Optimizer, pixel_loss: LossFunction) -> None:
        """Take the optimizer, which is built here, and `Losses.mse_loss` or `Losses.l1_loss`."""
        super().compile(optimizer=None)
        self.g_optimizer = optimizer
        self.pixel_loss = pixel_loss
        optimizer.build(self.generator.trainable_variables)

    @property
    def networks(self) -> list[keras.Model]:
        """The networks in training."""
        return [self.generator]

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"generator": self.generator, "g_optimizer": self.g_optimizer}

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """Take one step.

        Args:
            data: `lr` [B, h, w, 3] and `hr` [B, S*h, S*w, 3], uint8 or float in 0..255.

        Returns:
            `pixel_loss`, this replica's share.
        """
        lr, hr = (tf.cast(images, tf.float32) for images in data)
        with tf.GradientTape() as tape:
            sr = self.generator(lr, training=not self.freeze_batch_norm)  # [B, S*h, S*w, 3]
            loss = self.pixel_loss(self.pixel_scale * hr, self.pixel_scale * sr)
        variables = self.generator.trainable_variables
        self.g_optimizer.apply(tape.gradient(loss, variables), variables)
        return {"pixel_loss": loss}


class SRGANTraining(keras.Model):
    """The second stage: generator and discriminator against each other."""

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        vgg: keras.Model,
        batch_size: int,
        adversarial_weight: float = 1e-3,
        l1_loss: LossFunction | None = None,
        l1_weight: float = 0.0,
        label_smoothing: float = 0.0,
        freeze_batch_norm: bool = False,
    ) -> None:
        """Take the networks and the recipe.

        Args:
            generator: from `SRGAN.generator`.
            discriminator: from `SRGAN.discriminator`.
            vgg: from `VGG.build`.
            batch_size: of one replica; no step depends on it.
            adversarial_weight: the weight of the adversarial loss beside the content loss, by default that of
                arXiv 1609.04802, equation 3.
            l1_loss: `Losses.l1_loss`, compared directly with the original.
            l1_weight: its weight, in losses of pictures in 0..255.
            label_smoothing: how far below 1 the label of a real photograph is for the discriminator.
            freeze_batch_norm: whether the generator's batch normalization keeps the statistics it has.
        """
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.vgg = vgg
        self.batch_size = batch_size
        self.adversarial_weight = adversarial_weight
        self.l1_loss = l1_loss
        self.l1_weight = l1_weight
        self.label_smoothing = label_smoothing
        self.freeze_batch_norm = freeze_batch_norm
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

    @property
    def networks(self) -> list[keras.Model]:
        """The networks in training."""
        return [self.generator, self.discriminator]

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        names = ("generator", "discriminator", "g_optimizer", "d_optimizer")
        return {name: getattr(self, name) for name in names}

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """Take one step of the discriminator, then one of the generator.

        1. Upscale the batch, once for both.
        2. Teach the discriminator to tell photographs from the generator's work.
        3. Ask each critic how every pixel of that work should change, and teach the generator their sum.

        Args:
            data: `lr` [B, h, w, 3] and `hr` [B, S*h, S*w, 3], uint8 or float in 0..255.

        Returns:
            This replica's shares of the losses, `d_loss`, `g_loss`, `adversarial_loss`, `content_loss` and, with a
            weight, `l1_loss`; of the probability of being real that the discriminator gives to photographs, `d_real`,
            and to the generator's work, `d_fake`; and of the part that each loss has in the gradient that reaches the
            generator's output, `content_share` and so on, which together are 1.
        """
        lr, hr = (tf.cast(images, tf.float32) for images in data)
        with tf.GradientTape() as tape:
            sr = self.generator(lr, training=not self.freeze_batch_norm)  # [B, S*h, S*w, 3]
        logs = self._discriminator_step(hr, sr)
        gradient, g_logs = self._criticize(hr, sr)
        variables = self.generator.trainable_variables
        self.g_optimizer.apply(tape.gradient(sr, variables, output_gradients=gradient), variables)
        return logs | g_logs

    def _discriminator_step(self, hr: tf.Tensor, sr: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            # Separately, so that batch normalization does not tell the two apart by their batch.
            real = self.discriminator(hr, training=True)  # [B, 1]
            fake = self.discriminator(sr, training=True)
            real_labels = tf.ones_like(real) - self.label_smoothing
            loss = self.bce_loss(real_labels, real) + self.bce_loss(tf.zeros_like(fake), fake)
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply(tape.gradient(loss, variables), variables)
        return {"d_loss": loss, "d_real": _share(tf.sigmoid(real)), "d_fake": _share(tf.sigmoid(fake))}

    def _criticize(self, hr: tf.Tensor, sr: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the gradient of the generator's loss at its output, [B, S*h, S*w, 3], and the logs."""
        hr_features = self.vgg(hr, training=False)
        critics = {
            "content": (1.0, lambda: self.mse_loss(hr_features, self.vgg(sr, training=False))),
            "adversarial": (self.adversarial_weight, lambda: self._adversarial_loss(sr)),
        }
        if self.l1_weight:
            critics["l1"] = (self.l1_weight, lambda: self.l1_loss(hr, sr))
        losses, gradients = {}, {}
        for name, (weight, critic) in critics.items():
            with tf.GradientTape() as tape:
                tape.watch(sr)
                losses[name] = critic()
            gradients[name] = weight * tape.gradient(losses[name], sr)
        logs = {"g_loss": sum(weight * losses[name] for name, (weight, _) in critics.items())}
        norms = {name: tf.norm(gradient) for name, gradient in gradients.items()}
        for name in critics:
            logs[f"{name}_loss"] = losses[name]
            logs[f"{name}_share"] = _share(tf.math.divide_no_nan(norms[name], sum(norms.values())))
        return sum(gradients.values()), logs

    def _adversarial_loss(self, sr: tf.Tensor) -> tf.Tensor:
        # Stateless: judging for the generator's sake must not move the discriminator's own statistics.
        discriminator = self.discriminator
        fake, _ = discriminator.stateless_call(
            discriminator.trainable_variables, discriminator.non_trainable_variables, sr, training=True
        )
        return self.bce_loss(tf.ones_like(fake), fake)


def _share(values: tf.Tensor) -> tf.Tensor:
    """Return this replica's share of a mean over all of them."""
    return tf.reduce_mean(values) / tf.distribute.get_strategy().num_replicas_in_sync
