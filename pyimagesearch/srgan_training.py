"""The training steps of both stages."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from pyimagesearch.averages import StatisticsAverages
from pyimagesearch.config import GANRecipe

LossFunction = Callable[..., tf.Tensor]
Batch = tuple[tf.Tensor, tf.Tensor]


class SRGANPretraining(keras.Model):
    """The first stage: train the generator alone with a loss of pixels."""

    def __init__(self, generator: keras.Model, pixel_scale: float = 1.0, freeze_batch_norm: bool = False) -> None:
        """Create the model of the first stage.

        Args:
            generator: from `SRGAN.generator`.
            pixel_scale: factor of the pixels in the loss: 1 for the range 0..255, 1 / 127.5 for a range as wide as
                -1..1.
            freeze_batch_norm: whether the generator's batch normalization uses its moving statistics and keeps them.
        """
        super().__init__()
        self.generator = generator
        self.pixel_scale = pixel_scale
        self.freeze_batch_norm = freeze_batch_norm
        self.built = True

    def compile(self, optimizer: keras.optimizers.Optimizer, pixel_loss: LossFunction) -> None:
        """Configure the training.

        Args:
            optimizer: the optimizer of the generator. It is built here.
            pixel_loss: `Losses.mse_loss` or `Losses.l1_loss`.
        """
        super().compile(optimizer=None)
        self.g_optimizer = optimizer
        self.pixel_loss = pixel_loss
        self.statistics = StatisticsAverages(self.generator, optimizer)
        optimizer.build(self.generator.trainable_variables)

    @property
    def networks(self) -> list[keras.Model]:
        """The networks that are trained."""
        return [self.generator]

    @property
    def state(self) -> dict[str, Any]:
        """The objects that a checkpoint contains, by name."""
        return {"generator": self.generator, "g_optimizer": self.g_optimizer, "statistics": self.statistics.state}

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """Take one step.

        Args:
            data: `lr` [B, h, w, 3] and `hr` [B, S*h, S*w, 3], uint8 or float in 0..255.

        Returns:
            `pixel_loss`, a scalar: the part of this replica. The sum over the replicas is the mean over the global
            batch.
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
    """The second stage: train the generator and the discriminator as a GAN (Ledig et al., arXiv 1609.04802)."""

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        vgg: keras.Model,
        batch_size: int,
        recipe: GANRecipe | None = None,
    ) -> None:
        """Create the model of the second stage.

        Args:
            generator: from `SRGAN.generator`.
            discriminator: from `SRGAN.discriminator` or `SRGAN.patch_discriminator`.
            vgg: from `VGG.build`.
            batch_size: the batch size of one replica. The training step does not use it.
            recipe: the settings of the second stage; by default the tutorial's.
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
        """Configure the training.

        Args:
            g_optimizer: the optimizer of the generator. It is built here.
            d_optimizer: the optimizer of the discriminator. It is built here.
            bce_loss: `Losses.bce_loss`.
            mse_loss: `Losses.mse_loss`.
            **other_losses: the other methods of `Losses` that the recipe uses, by their names.
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
        """The networks that are trained."""
        return [self.generator, self.discriminator]

    @property
    def state(self) -> dict[str, Any]:
        """The objects that a checkpoint contains, by name."""
        names = ("generator", "discriminator", "g_optimizer", "d_optimizer")
        return {name: getattr(self, name) for name in names} | {"statistics": self.statistics.state}

    def train_step(self, data: Batch) -> dict[str, tf.Tensor]:
        """Train the discriminator D, then the generator G.

        1. Upscale the batch, once for both networks: sr = G(lr).
        2. Train D to distinguish photographs and generated images: minimize L_D(hr, sr).
        3. Compute the losses of G: L_G = L_content + w_adversarial L_adversarial. If w_adversarial is 0, D is not used,
           and step 2 is left out. The other losses are added if their weights are above 0:
           w_l1 L_l1 + w_reduced L_reduced + w_grid L_grid. w_unit L_unit is a part of L_content, so that one pass
           through VGG gives the gradient of both.
        4. Sum their gradients at the generated images: dL_G/dsr = dL_content/dsr + w_adversarial ...
        5. Train G with this sum: dL_G/dG = dL_G/dsr dsr/dG.

        Args:
            data: `lr` [B, h, w, 3] and `hr` [B, S*h, S*w, 3], uint8 or float in 0..255.

        Returns:
            Scalars by name: the parts of this replica. Their sums over the replicas are

            - the losses before weighting: `content_loss` and, if they have a weight, `adversarial_loss`, `l1_loss`,
              `reduced_loss` and `grid_loss`; their weighted sum `g_loss`; and `d_loss` if there is an adversarial loss;
            - the mean probability of being real, in 0..1, that the discriminator computes for photographs, `d_real`,
              and for generated images, `d_fake`;
            - `d_right`, the fraction of pairs in which the photograph has the higher logit, in 0..1;
            - the fraction of each loss in the gradient at the generator's output, `content_share` and so on, in 0..1.
              Their sum is 1.
        """
        lr, hr = (tf.cast(images, tf.float32) for images in data)

        # 1. Upscale the batch.
        with tf.GradientTape() as g_tape:
            sr = self.generator(lr, training=not self.recipe.freeze_batch_norm)  # [B, S*h, S*w, 3]

        # 2. Train the discriminator.
        d_logs = {}
        for number in range(self.recipe.discriminator_steps if self.recipe.adversarial_weight else 0):
            d_logs = self._train_discriminator(*self._shift(number, hr, sr))

        # 3. Compute the losses of the generator.
        weights = self._weights()
        with tf.GradientTape(persistent=True) as sr_tape:
            sr_tape.watch(sr)
            losses = self._generator_losses(lr, hr, sr)
            scaled = {name: self.g_optimizer.scale_loss(loss) for name, loss in losses.items()}

        # 4. Sum their gradients at the generated images.
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
        """Train the discriminator on `hr` and `sr`, both [B, H, W, 3], in one batch, and return its logs."""
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
        """Return the loss L_D for the logits of photographs and of generated images, [B, ..., 1]."""
        if self.recipe.relativistic:
            return self.losses_by_name["relativistic_loss"](real, fake)
        bce_loss = self.losses_by_name["bce_loss"]
        real_labels = tf.ones_like(real) - self.recipe.label_smoothing
        return bce_loss(real_labels, real) + bce_loss(tf.zeros_like(fake), fake)

    def _weights(self) -> dict[str, float | tf.Tensor]:
        """Return the weight of each loss of the generator at the current step."""
        recipe = self.recipe
        return {
            "content": 1.0,
            "adversarial": recipe.adversarial_weight * self._ramp(),
            "l1": recipe.l1_weight,
            "reduced": recipe.reduced_weight,
            "grid": recipe.grid_weight,
        }

    def _generator_losses(self, lr: tf.Tensor, hr: tf.Tensor, sr: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the losses of the generator by name, without those whose weight is 0."""
        recipe, loss_of, scale = self.recipe, self.losses_by_name, hr.shape[1] // lr.shape[1]
        shifted = self._shift(recipe.discriminator_steps, hr, sr)
        real, fake = (keras.tree.flatten(self.vgg(images, training=False)) for images in shifted)
        losses = {"content": self._content_loss(real, fake)}
        if recipe.adversarial_weight:
            losses["adversarial"] = self._adversarial_loss(*shifted)
        if recipe.l1_weight:
            losses["l1"] = loss_of["l1_loss"](hr, sr)
        if recipe.reduced_weight:
            losses["reduced"] = loss_of["reduced_loss"](hr, sr, scale)
        if recipe.grid_weight:
            losses["grid"] = loss_of["grid_loss"](hr, sr, scale)
        return losses

    def _content_loss(self, real: list[tf.Tensor], fake: list[tf.Tensor]) -> tf.Tensor:
        """Return the content loss for the features of photographs and of generated images.

        It is the mean of a loss over the VGG layers. The weighted unit loss of the last layer, after its activation, is
        added to it.
        """
        loss_of, recipe = self.losses_by_name, self.recipe
        loss = loss_of[f"{recipe.content_loss}_loss"]
        mean = sum(loss(one, other) for one, other in zip(real, fake, strict=True)) / len(real)
        if not recipe.unit_weight:
            return mean
        return mean + recipe.unit_weight * loss_of["unit_loss"](tf.nn.relu(real[-1]), tf.nn.relu(fake[-1]))

    def _adversarial_loss(self, hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        """Return the adversarial loss: it is small if the discriminator takes generated images for photographs."""
        real, fake = self._logits(hr, sr)
        if self.recipe.relativistic:
            return self.losses_by_name["relativistic_loss"](fake, real)
        return self.losses_by_name["bce_loss"](tf.ones_like(fake), fake)

    def _logits(self, hr: tf.Tensor, sr: tf.Tensor) -> list[tf.Tensor]:
        """Return the logits of photographs and of generated images. The discriminator keeps its own statistics.

        Only batch normalization needs both in one batch, as in the discriminator's step. Without it, the backward pass
        leaves out the photographs.
        """
        network = self.discriminator

        def discriminate(images: tf.Tensor) -> tf.Tensor:
            variables = network.trainable_variables, network.non_trainable_variables
            return network.stateless_call(*variables, images, training=True)[0]

        if any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers):
            return tf.split(discriminate(tf.concat([hr, sr], axis=0)), 2)
        return [discriminate(hr), discriminate(sr)]

    def _shift(self, number: int, *images: tf.Tensor) -> list[tf.Tensor]:
        """Crop images [B, H, W, 3] at a random offset to a height and width that are `max_shift` pixels smaller.

        The offset changes the phase of each pixel relative to the strides of VGG and of the discriminator. It is a
        function of the step and of `number`.
        """
        most = self.recipe.max_shift
        if not most:
            return list(images)
        seed = tf.stack([tf.cast(self.g_optimizer.iterations.value, tf.int32), number])
        top, left = tf.unstack(tf.random.stateless_uniform([2], seed, maxval=most + 1, dtype=tf.int32))
        size, _, _, _ = tf.unstack(tf.shape(images[0]))
        height, width = (side - most for side in images[0].shape[1:3])
        return [tf.slice(image, (0, top, left, 0), (size, height, width, 3)) for image in images]

    def _is_warm(self) -> tf.Tensor | float:
        if not self.recipe.adversarial_weight:
            return 1.0
        return tf.cast(self.g_optimizer.iterations.value >= self.recipe.discriminator_warmup, tf.float32)

    def _ramp(self) -> tf.Tensor:
        if not self.recipe.adversarial_ramp:
            return tf.constant(1.0)
        step = tf.cast(self.g_optimizer.iterations.value - self.recipe.discriminator_warmup, tf.float32)
        return tf.clip_by_value(step / self.recipe.adversarial_ramp, 0.0, 1.0)


def _means(logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(logits, axis=range(1, logits.shape.rank))


def _share(values: tf.Tensor) -> tf.Tensor:
    """Return the part of this replica of a mean over all replicas."""
    return tf.reduce_mean(values) / tf.distribute.get_strategy().num_replicas_in_sync


def _gradient_shares(gradients: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return the norm of each gradient divided by the sum of the norms, `content_share` and so on, for the logs."""
    norms = {name: tf.norm(gradient) for name, gradient in gradients.items()}
    total = sum(norms.values())
    is_finite = tf.math.is_finite(total)  # false in a step that loss scaling skips
    shares = {name: tf.math.divide_no_nan(norm, total) for name, norm in norms.items()}
    return {f"{name}_share": _share(tf.where(is_finite, share, 0.0)) for name, share in shares.items()}
