"""One training step of each stage."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from pyimagesearch.averages import StatisticsAverages
from pyimagesearch.config import GANRecipe

LossFunction = Callable[..., tf.Tensor]
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
        self.statistics = StatisticsAverages(self.generator, optimizer)
        optimizer.build(self.generator.trainable_variables)

    @property
    def networks(self) -> list[keras.Model]:
        """The networks in training."""
        return [self.generator]

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"generator": self.generator, "g_optimizer": self.g_optimizer, "statistics": self.statistics.state}

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
            scaled_loss = self.g_optimizer.scale_loss(loss)
        self.statistics.update()
        variables = self.generator.trainable_variables
        self.g_optimizer.apply(tape.gradient(scaled_loss, variables), variables)
        return {"pixel_loss": loss}


class SRGANTraining(keras.Model):
    """The second stage: generator and discriminator against each other."""

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        vgg: keras.Model,
        batch_size: int,
        recipe: GANRecipe | None = None,
    ) -> None:
        """Take the networks and the recipe.

        Args:
            generator: from `SRGAN.generator`.
            discriminator: from `SRGAN.discriminator` or `SRGAN.patch_discriminator`.
            vgg: from `VGG.build`.
            batch_size: of one replica; no step depends on it.
            recipe: the numbers; by default the tutorial's.
        """
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.vgg = vgg
        self.batch_size = batch_size
        self.recipe = recipe or GANRecipe()
        self.built = True

    def compile(
        self,
        g_optimizer: keras.optimizers.Optimizer,
        d_optimizer: keras.optimizers.Optimizer,
        bce_loss: LossFunction,
        mse_loss: LossFunction,
        **other_losses: LossFunction,
    ) -> None:
        """Take the optimizers, which are built here, and methods of `Losses` by their names.

        Besides the two that the tutorial uses, those that the recipe asks for.
        """
        super().compile(optimizer=None)
        self.g_optimizer = g_optimizer
        self.d_optimizer = d_optimizer
        self.losses_by_name = {"bce_loss": bce_loss, "mse_loss": mse_loss, **other_losses}
        self.statistics = StatisticsAverages(self.generator, g_optimizer)
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
        return {name: getattr(self, name) for name in names} | {"statistics": self.statistics.state}

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """Train the discriminator D, then the generator G.

        1. Upscale the batch, once for both networks: sr = G(lr).
        2. Train D to tell photographs from generated images: minimize L_D(hr, sr).
        3. Compute the losses of G: L_G = L_content + w_adversarial L_adversarial, and with a weight the losses of
           pixels, w_l1 L_l1 + w_reduced L_reduced + w_grid L_grid.
        4. Add up their gradients at the generated images: dL_G/dsr = dL_content/dsr + w_adversarial ...
        5. Train G with that sum: dL_G/dG = dL_G/dsr dsr/dG.

        Args:
            data: `lr` [B, h, w, 3] and `hr` [B, S*h, S*w, 3], uint8 or float in 0..255.

        Returns:
            This replica's shares of

            - the losses `d_loss`, `g_loss`, `adversarial_loss`, `content_loss` and, with a weight, `l1_loss`,
              `reduced_loss` and `grid_loss`;
            - the probability of being real that the discriminator gives to photographs, `d_real`, and to generated
              images, `d_fake`, and how often it puts the photograph above its copy, `d_right`;
            - the part that each loss has in the gradient at the generator's output, `content_share` and so on, which
              together are 1.
        """
        lr, hr = (tf.cast(images, tf.float32) for images in data)

        # 1. Upscale the batch.
        with tf.GradientTape() as g_tape:
            sr = self.generator(lr, training=not self.recipe.freeze_batch_norm)  # [B, S*h, S*w, 3]

        # 2. Train the discriminator.
        for number in range(self.recipe.discriminator_steps):
            d_logs = self._train_discriminator(*self._shift(number, hr, sr))

        # 3. Compute the losses of the generator.
        weights = self._weights()
        with tf.GradientTape(persistent=True) as sr_tape:
            sr_tape.watch(sr)
            losses = self._generator_losses(lr, hr, sr)
            scaled = {name: self.g_optimizer.scale_loss(loss) for name, loss in losses.items()}

        # 4. Add up their gradients at the generated images.
        gradients = {name: weights[name] * sr_tape.gradient(scaled[name], sr) for name in losses}
        gradient = self._is_warm() * sum(gradients.values())  # [B, S*h, S*w, 3]

        # 5. Train the generator.
        self.statistics.update()
        variables = self.generator.trainable_variables
        self.g_optimizer.apply(g_tape.gradient(sr, variables, output_gradients=gradient), variables)

        g_loss = sum(weights[name] * loss for name, loss in losses.items())
        g_logs = {"g_loss": g_loss} | {f"{name}_loss": loss for name, loss in losses.items()}
        return d_logs | g_logs | _gradient_shares(gradients)

    def _train_discriminator(self, hr: tf.Tensor, sr: tf.Tensor) -> dict[str, tf.Tensor]:
        """Train the discriminator on images [B, H, W, 3], real and generated ones in one batch; return its logs."""
        with tf.GradientTape() as tape:
            real, fake = tf.split(self.discriminator(tf.concat([hr, sr], axis=0), training=True), 2)
            loss = self._discriminator_loss(real, fake)
            scaled_loss = self.d_optimizer.scale_loss(loss)
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply(tape.gradient(scaled_loss, variables), variables)
        return {
            "d_loss": loss,
            "d_real": _share(tf.sigmoid(real)),
            "d_fake": _share(tf.sigmoid(fake)),
            "d_right": _share(tf.cast(_means(real) > _means(fake), tf.float32)),
        }

    def _discriminator_loss(self, real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
        """Return L_D of the logits of photographs and of generated images."""
        if self.recipe.relativistic:
            return self.losses_by_name["relativistic_loss"](real, fake)
        bce_loss = self.losses_by_name["bce_loss"]
        real_labels = tf.ones_like(real) - self.recipe.label_smoothing
        return bce_loss(real_labels, real) + bce_loss(tf.zeros_like(fake), fake)

    def _weights(self) -> dict[str, float | tf.Tensor]:
        """Return the weight of each of the generator's losses at the present step."""
        recipe = self.recipe
        return {
            "content": 1.0,
            "adversarial": recipe.adversarial_weight * self._ramp(),
            "l1": recipe.l1_weight,
            "reduced": recipe.reduced_weight,
            "grid": recipe.grid_weight,
        }

    def _generator_losses(self, lr: tf.Tensor, hr: tf.Tensor, sr: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the losses of the generator by name, those of pixels only if they have a weight."""
        recipe, loss_of, scale = self.recipe, self.losses_by_name, hr.shape[1] // lr.shape[1]
        shifted = self._shift(recipe.discriminator_steps, hr, sr)
        losses = {"content": self._content_loss(*shifted), "adversarial": self._adversarial_loss(*shifted)}
        if recipe.l1_weight:
            losses["l1"] = loss_of["l1_loss"](hr, sr)
        if recipe.reduced_weight:
            losses["reduced"] = loss_of["reduced_loss"](hr, sr, scale)
        if recipe.grid_weight:
            losses["grid"] = loss_of["grid_loss"](sr, scale)
        return losses

    def _content_loss(self, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        """Return the mean, over the layers of VGG, of how far the features of `sr` are from those of `hr`."""
        loss = self.losses_by_name[f"{self.recipe.content_loss}_loss"]
        real, fake = (keras.tree.flatten(self.vgg(images, training=False)) for images in (hr, sr))
        return sum(loss(one, other) for one, other in zip(real, fake, strict=True)) / len(real)

    def _adversarial_loss(self, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        """Return how surely the discriminator tells generated images from photographs."""
        # Stateless: the generator's step must not move the discriminator's own statistics.
        discriminator = self.discriminator
        logits, _ = discriminator.stateless_call(
            discriminator.trainable_variables,
            discriminator.non_trainable_variables,
            tf.concat([hr, sr], axis=0),
            training=True,
        )
        real, fake = tf.split(logits, 2)
        if self.recipe.relativistic:
            return self.losses_by_name["relativistic_loss"](fake, real)
        return self.losses_by_name["bce_loss"](tf.ones_like(fake), fake)

    def _shift(self, number: int, *images: tf.Tensor) -> list[tf.Tensor]:
        """Cut `max_shift` pixels off height and width of [B, H, W, 3], a random part of them above and on the left.

        So no place of the images always lies on the same phase of the networks' strides. The shift is a function of
        the step and of `number`.
        """
        most = self.recipe.max_shift
        if not most:
            return list(images)
        seed = tf.stack([tf.cast(self.g_optimizer.iterations.value, tf.int32), number])
        top, left = tf.unstack(tf.random.stateless_uniform([2], seed, maxval=most + 1, dtype=tf.int32))
        size, _, _, _ = tf.unstack(tf.shape(images[0]))
        height, width = (side - most for side in images[0].shape[1:3])
        return [tf.slice(image, (0, top, left, 0), (size, height, width, 3)) for image in images]

    def _is_warm(self) -> tf.Tensor:
        return tf.cast(self.g_optimizer.iterations.value >= self.recipe.discriminator_warmup, tf.float32)

    def _ramp(self) -> tf.Tensor:
        if not self.recipe.adversarial_ramp:
            return tf.constant(1.0)
        step = tf.cast(self.g_optimizer.iterations.value - self.recipe.discriminator_warmup, tf.float32)
        return tf.clip_by_value(step / self.recipe.adversarial_ramp, 0.0, 1.0)


def _means(logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(logits, axis=range(1, logits.shape.rank))


def _share(values: tf.Tensor) -> tf.Tensor:
    """Return this replica's share of a mean over all of them."""
    return tf.reduce_mean(values) / tf.distribute.get_strategy().num_replicas_in_sync


def _gradient_shares(gradients: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return the part that each gradient has in the sum of their norms, `content_share` and so on, for the logs."""
    norms = {name: tf.norm(gradient) for name, gradient in gradients.items()}
    total = sum(norms.values())
    is_finite = tf.math.is_finite(total)  # not so in a step that the optimizer leaves out
    shares = {name: tf.math.divide_no_nan(norm, total) for name, norm in norms.items()}
    return {f"{name}_share": _share(tf.where(is_finite, share, 0.0)) for name, share in shares.items()}
