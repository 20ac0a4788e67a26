"""From a `Config` to networks, optimizers and stages."""

import dataclasses
from typing import Any

import keras

from pyimagesearch.config import Config
from pyimagesearch.errors import UserError
from pyimagesearch.generators import scaling_factor
from pyimagesearch.losses import Losses
from pyimagesearch.srgan import SRGAN
from pyimagesearch.srgan_training import SRGANPretraining, SRGANTraining


def build_generator(config: Config, **layer_builders: Any) -> keras.Model:
    """Build the generator that `config` describes, with the initial weights that its seed settles.

    Args:
        config: what it is to be.
        layer_builders: arguments of `SRGAN.generator` from `training_layers.choose`.
    """
    keras.utils.set_random_seed(config.seed)
    return SRGAN.generator(
        config.scaling_factor,
        config.feature_maps,
        config.residual_blocks,
        batch_norm=config.batch_norm,
        upsampling_maps=config.upsampling_maps,
        **layer_builders,
    )


def shaped_like(config: Config, generator: keras.Model) -> Config:
    """Return `config` with the network of a generator from `SRGAN.generator`, whose width the discriminator takes, too.

    Raises:
        UserError: it is not such a network.
    """
    problem = "--init-generator: not a network of this program; give a generator that train_srgan.py made"
    try:
        shaped = _shaped_like(config, generator)
        same = _outline(build_generator(shaped)) == _outline(generator)
    except (IndexError, ValueError) as error:
        raise UserError(problem) from error
    if not same:
        raise UserError(problem)
    return shaped


def _shaped_like(config: Config, generator: keras.Model) -> Config:
    filters = [layer.filters for layer in generator.layers if isinstance(layer, keras.layers.Conv2D)]
    kinds = [type(layer) for layer in generator.layers]
    scale = scaling_factor(generator)
    stages = filters[-scale.bit_length() : -1]
    doubling = [filters[0] * 2**stage for stage in range(1, scale.bit_length())]
    return dataclasses.replace(
        config,
        scaling_factor=scale,
        feature_maps=filters[0],
        residual_blocks=kinds.count(keras.layers.Add) - 1,
        batch_norm=keras.layers.BatchNormalization in kinds,
        upsampling_maps=None if stages == doubling else stages[0],
    )


def _outline(network: keras.Model) -> list[Any]:
    return [(type(layer), [weight.shape for weight in layer.weights]) for layer in network.layers]


def build_discriminator(config: Config, norm: Any = keras.layers.BatchNormalization) -> keras.Model:
    """Build the discriminator that `config` describes, with the initial weights that its seed settles."""
    keras.utils.set_random_seed(config.seed)
    return SRGAN.discriminator(
        config.feature_maps,
        config.leaky_alpha,
        config.disc_blocks,
        dense_units=config.disc_dense,
        hr_size=config.hr_shape[0],
        norm=norm,
    )


def make_optimizer(
    config: Config, learning_rate: float, schedule: str, epochs: int, of_generator: bool = False
) -> keras.optimizers.Adam:
    """Make Adam for a stage of so many epochs.

    Args:
        config: where the length of an epoch and the momentum of averages come from.
        learning_rate: at the start.
        schedule: "constant", "cosine" or "step", as `Config.pretrain_schedule`.
        epochs: of the stage.
        of_generator: whether it is the generator's, and keeps an average of the weights if `config` wants any.
    """
    steps = epochs * config.steps_per_epoch
    schedules = keras.optimizers.schedules
    if schedule == "cosine":
        learning_rate = schedules.CosineDecay(learning_rate, steps)
    elif schedule == "step":
        learning_rate = schedules.PiecewiseConstantDecay([steps // 2], [learning_rate, learning_rate / 10])
    averages = {"use_ema": True, "ema_momentum": config.ema_momentum} if of_generator and config.ema_momentum else {}
    # Keras numbers names from the start of the process, and TensorFlow orders some sums by them: with its own name,
    # a stage computes the same to the last bit whether or not another one came before it.
    return keras.optimizers.Adam(learning_rate, name="g_adam" if of_generator else "d_adam", **averages)


def pretraining_stage(
    config: Config, generator: keras.Model, losses: Losses, freeze_batch_norm: bool = False
) -> SRGANPretraining:
    """Compile the first stage."""
    stage = SRGANPretraining(generator, config.pixel_scale, freeze_batch_norm)
    optimizer = make_optimizer(
        config, config.pretrain_lr, config.pretrain_schedule, config.pretrain_epochs, of_generator=True
    )
    stage.compile(optimizer, losses.mse_loss)
    return stage


def gan_stage(
    config: Config, generator: keras.Model, discriminator: keras.Model, vgg: keras.Model, losses: Losses
) -> SRGANTraining:
    """Compile the second stage."""
    stage = SRGANTraining(
        generator,
        discriminator,
        vgg,
        config.train_batch_size,
        adversarial_weight=config.adversarial_weight,
        l1_loss=losses.l1_loss,
        l1_weight=config.l1_weight,
        label_smoothing=config.label_smoothing,
        freeze_batch_norm=config.freeze_batch_norm,
    )
    g_optimizer, d_optimizer = (
        make_optimizer(config, config.finetune_lr, config.finetune_schedule, config.finetune_epochs, of_generator)
        for of_generator in (True, False)
    )
    stage.compile(g_optimizer, d_optimizer, losses.bce_loss, losses.mse_loss)
    return stage


class Snapshot:
    """The generator in training, as it is validated and saved: in float32, averaged if it is, for any Keras backend."""

    def __init__(self, config: Config) -> None:
        """Build a generator of Keras's own layers, in float32 whatever the training's precision."""
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        self.generator = build_generator(config)
        keras.config.set_dtype_policy(policy)

    def take(self, stage: keras.Model) -> keras.Model:
        """Return this generator with the present weights of a stage that has taken at least one step."""
        self.generator.set_weights(stage.generator.get_weights())
        if stage.g_optimizer.use_ema:
            stage.g_optimizer.finalize_variable_values(self.generator.trainable_variables)
        return self.generator
