"""Build networks, optimizers and stages from a `Config`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from pyimagesearch.config import Config
from pyimagesearch.errors import UserError
from pyimagesearch.inference.generators import outline, scaling_factor
from pyimagesearch.losses import Losses
from pyimagesearch.srgan import SRGAN
from pyimagesearch.srgan_training import LossFunction, SRGANPretraining, SRGANTraining
from pyimagesearch.training.optimizers import Adam, ConvolutionMuon, LossScaling, Rate, WarmUp


def build_generator(config: Config, **layer_builders: Any) -> keras.Model:
    """Build the generator of a configuration. The seed of the configuration determines the initial weights.

    Args:
        config: the configuration.
        **layer_builders: arguments of `SRGAN.generator` from `layers.choose`.
    """
    keras.utils.set_random_seed(config.seed)
    return SRGAN.generator(
        config.scaling_factor,
        config.feature_maps,
        config.residual_blocks,
        batch_norm=config.batch_norm,
        upsampling_maps=config.upsampling_maps,
        prelu_slope=config.prelu_slope,
        residual_scale=config.residual_scale,
        global_skip=config.global_skip,
        **layer_builders,
    )


def check_shift(config: Config) -> None:
    """Check that the discriminator can be trained on images that are smaller by `max_shift` pixels.

    Args:
        config: the configuration.

    Raises:
        UserError: it cannot.
    """
    if config.max_shift > config.hr_shape[0] // 2:
        raise UserError(
            f"a shift of up to {config.max_shift} pixels: more than half of the crop size, "
            f"{config.hr_shape[0]} pixels; choose a smaller shift"
        )
    if config.max_shift and config.disc_dense and config.discriminator == "image":
        raise UserError("a shift of images: the paper's discriminator needs whole crops; choose the patch one")


def shaped_like(config: Config, generator: keras.Model) -> Config:
    """Return `config` with the settings of the network of a generator.

    `feature_maps` of the generator is used for the discriminator, too.

    Args:
        config: the other settings.
        generator: from `generators.load_generator`.

    Raises:
        UserError: the network is not one of `SRGAN.generator`.
    """
    problem = "the initial generator: not a network of this program; give a generator of train_srgan.py"
    try:
        shaped = _shaped_like(config, generator)
        same = outline(build_generator(shaped)) == outline(generator)
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
    global_skip = keras.layers.AveragePooling2D in kinds
    doubling = [filters[0] * 2**stage for stage in range(1, scale.bit_length())]
    return dataclasses.replace(
        config,
        scaling_factor=scale,
        feature_maps=filters[0],
        residual_blocks=kinds.count(keras.layers.Add) - 1 - global_skip,
        batch_norm=keras.layers.BatchNormalization in kinds,
        upsampling_maps=None if stages == doubling else stages[0],
        global_skip=global_skip,
    )


def build_discriminator(config: Config, norm: Any = keras.layers.BatchNormalization) -> keras.Model:
    """Build the discriminator of a configuration. The seed of the configuration determines the initial weights.

    Args:
        config: the configuration.
        norm: the class of the batch normalization.
    """
    keras.utils.set_random_seed(config.seed)
    if config.discriminator == "patch":
        return SRGAN.patch_discriminator(
            config.feature_maps, config.leaky_alpha, config.disc_blocks, config.spectral_norm
        )
    return SRGAN.discriminator(
        config.feature_maps,
        config.leaky_alpha,
        config.disc_blocks,
        dense_units=config.disc_dense,
        hr_size=config.hr_shape[0],
        norm=norm,
    )


def _optimizer_for(network: keras.Model, config: Config, stage: str, of_generator: bool) -> keras.optimizers.Optimizer:
    """Make the optimizer of a network, with loss scaling if the network computes in float16."""
    optimizer = make_optimizer(config, stage, of_generator)
    if any(layer.compute_dtype == "float16" for layer in network.layers):
        return LossScaling(optimizer, name=f"{optimizer.name}_scaling")
    return optimizer


def make_optimizer(config: Config, stage: str, of_generator: bool = True) -> keras.optimizers.Optimizer:
    """Make the optimizer of a network that computes in float32 or bfloat16.

    Args:
        config: the configuration. With `ema_momentum`, the optimizer of the generator also averages its weights.
        stage: "pretrain" or "finetune".
        of_generator: whether the network is the generator; otherwise it is the discriminator.
    """
    kind = "adam" if of_generator else config.discriminator_optimizer
    if stage == "pretrain":
        kind = config.pretrain_optimizer
    schedule = _schedule(config, stage, of_generator)
    options = {"clipnorm": config.clip_norm or None}
    if of_generator and config.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    # Keras numbers default names from the start of the process, and TensorFlow orders some sums by name. With fixed
    # names, a stage computes the same bits whether or not another stage was run before it in this process.
    name = "g_optimizer" if of_generator else "d_optimizer"
    if kind == "muon":
        decay = {"weight_decay": None, "adam_weight_decay": None}
        return ConvolutionMuon(schedule, adam_beta_2=config.adam_beta_2, name=name, **decay, **options)
    return Adam(schedule, beta_2=config.adam_beta_2, name=name, **options)


def _schedule(config: Config, stage: str, of_generator: bool) -> Rate:
    schedules = keras.optimizers.schedules
    fields = ("schedule", "lr", "epochs", "warmup")
    kind, rate, epochs, warmup = (getattr(config, f"{stage}_{field}") for field in fields)
    steps = epochs * config.steps_per_epoch
    if not of_generator:
        rate, steps, warmup = config.discriminator_lr or rate, steps * config.discriminator_steps, 0
    if kind == "cosine":
        rate = schedules.CosineDecay(rate, steps)
    elif kind == "step":
        rate = schedules.PiecewiseConstantDecay([steps // 2], [rate, rate / 10])
    return WarmUp(rate, warmup) if warmup else rate


def pretraining_stage(
    config: Config, generator: keras.Model, losses: Losses, freeze_batch_norm: bool = False
) -> SRGANPretraining:
    """Build and compile the first stage.

    Args:
        config: the configuration.
        generator: from `build_generator`.
        losses: the losses for the number of replicas.
        freeze_batch_norm: see `SRGANPretraining`.
    """
    stage = SRGANPretraining(generator, config.pixel_scale, freeze_batch_norm)
    pixel_loss = {"mse": losses.mse_loss, "l1": losses.l1_loss}[config.pretrain_loss]
    stage.compile(_optimizer_for(generator, config, "pretrain", True), pixel_loss)
    return stage


def gan_stage(
    config: Config, generator: keras.Model, discriminator: keras.Model, vgg: keras.Model, losses: Losses
) -> SRGANTraining:
    """Build and compile the second stage.

    Args:
        config: the configuration.
        generator: from `build_generator`.
        discriminator: from `build_discriminator`.
        vgg: from `VGG.build`.
        losses: the losses for the number of replicas.
    """
    stage = SRGANTraining(generator, discriminator, vgg, config.train_batch_size, config)
    g_optimizer = _optimizer_for(generator, config, "finetune", True)
    d_optimizer = _optimizer_for(discriminator, config, "finetune", False)
    stage.compile(g_optimizer, d_optimizer, **gan_losses(losses))
    return stage


def gan_losses(losses: Losses) -> dict[str, LossFunction]:
    """Return the losses of the second stage as the arguments of `SRGANTraining.compile`.

    Args:
        losses: the losses for the number of replicas.
    """
    names = ("bce_loss", "mse_loss", "l1_loss", "unit_loss", "reduced_loss", "grid_loss", "relativistic_loss")
    return {name: getattr(losses, name) for name in names}


def in_float32(build: Callable[[Config], keras.Model], config: Config) -> keras.Model:
    """Build a network that computes in float32, at any precision of the training."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    network = build(config)
    keras.config.set_dtype_policy(policy)
    return network


class Snapshot:
    """The generator in the form in which it is validated and saved.

    It is computed in float32 and has layers of Keras only, so that any Keras backend can load it. Its weights are the
    averaged weights if the training averages them.
    """

    def __init__(self, config: Config) -> None:
        """Build a float32 generator with layers of Keras, at any precision of the training."""
        self.averaged = bool(config.ema_momentum)
        self.generator = in_float32(build_generator, config)

    def take(self, stage: keras.Model) -> keras.Model:
        """Return this generator with the current weights of a stage.

        Args:
            stage: a compiled stage that has taken at least one step.
        """
        self.generator.set_weights(stage.generator.get_weights())
        if self.averaged:
            stage.g_optimizer.finalize_variable_values(self.generator.trainable_variables)
            for variable, average in zip(
                self.generator.non_trainable_variables, stage.statistics.averages, strict=True
            ):
                variable.assign(average)
        return self.generator
