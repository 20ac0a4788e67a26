"""From a `Config` to networks, optimizers and stages."""

import dataclasses
from typing import Any

import keras

from pyimagesearch.config import Config
from pyimagesearch.errors import UserError
from pyimagesearch.inference.generators import scaling_factor
from pyimagesearch.losses import Losses
from pyimagesearch.srgan import SRGAN
from pyimagesearch.srgan_training import LossFunction, SRGANPretraining, SRGANTraining
from pyimagesearch.training.optimizers import Adam, ConvolutionMuon, LossScaling, Rate, WarmUp


def build_generator(config: Config, **layer_builders: Any) -> keras.Model:
    """Build the generator that `config` describes, with the initial weights that its seed settles.

    Args:
        config: what it is to be.
        layer_builders: arguments of `SRGAN.generator` from `layers.choose`.
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
        **layer_builders,
    )


def check_shift(config: Config) -> None:
    """Check that the shift of images leaves the discriminator images that it takes.

    Raises:
        UserError: it does not.
    """
    if config.max_shift > config.hr_shape[0] // 2:
        raise UserError(
            f"a shift of up to {config.max_shift} pixels: more than half of the crops' {config.hr_shape[0]} pixels; "
            "take a smaller one"
        )
    if config.max_shift and config.disc_dense and config.discriminator == "image":
        raise UserError("a shift of images: the paper's discriminator takes whole crops; choose the one of patches")


def shaped_like(config: Config, generator: keras.Model) -> Config:
    """Return `config` with the network of a generator from `SRGAN.generator`, whose width the discriminator takes, too.

    Raises:
        UserError: it is not such a network.
    """
    problem = "the generator to start from: not a network of this program; give one that train_srgan.py made"
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
    """Make the optimizer of a network, which scales losses if the network computes in float16."""
    optimizer = make_optimizer(config, stage, of_generator)
    if any(layer.compute_dtype == "float16" for layer in network.layers):
        return LossScaling(optimizer, name=f"{optimizer.name}_scaling")
    return optimizer


def make_optimizer(config: Config, stage: str, of_generator: bool = True) -> keras.optimizers.Optimizer:
    """Make the optimizer of a float32 or bfloat16 network for the stage "pretrain" or "finetune".

    That of the generator averages the weights, if `config` wants averages.
    """
    kind = "adam" if of_generator else config.discriminator_optimizer
    if stage == "pretrain":
        kind = config.pretrain_optimizer
    schedule = _schedule(config, stage, of_generator)
    options = {"clipnorm": config.clip_norm or None}
    if of_generator and config.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    # Keras numbers names from the start of the process, and TensorFlow orders some sums by them: with its own name,
    # a stage computes the same to the last bit whether or not another one came before it.
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
    """Compile the first stage."""
    stage = SRGANPretraining(generator, config.pixel_scale, freeze_batch_norm)
    pixel_loss = {"mse": losses.mse_loss, "l1": losses.l1_loss}[config.pretrain_loss]
    stage.compile(_optimizer_for(generator, config, "pretrain", True), pixel_loss)
    return stage


def gan_stage(
    config: Config, generator: keras.Model, discriminator: keras.Model, vgg: keras.Model, losses: Losses
) -> SRGANTraining:
    """Compile the second stage."""
    stage = SRGANTraining(generator, discriminator, vgg, config.train_batch_size, config)
    g_optimizer = _optimizer_for(generator, config, "finetune", True)
    d_optimizer = _optimizer_for(discriminator, config, "finetune", False)
    stage.compile(g_optimizer, d_optimizer, **gan_losses(losses))
    return stage


def gan_losses(losses: Losses) -> dict[str, LossFunction]:
    """Return the losses of the second stage by the names that `SRGANTraining.compile` takes."""
    names = ("bce_loss", "mse_loss", "l1_loss", "unit_loss", "reduced_loss", "grid_loss", "relativistic_loss")
    return {name: getattr(losses, name) for name in names}


class Snapshot:
    """The generator in training, as it is validated and saved: in float32, averaged if it is, for any Keras backend."""

    def __init__(self, config: Config) -> None:
        """Build a generator of Keras's own layers, in float32 whatever the training's precision."""
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        self.averaged = bool(config.ema_momentum)
        self.generator = build_generator(config)
        keras.config.set_dtype_policy(policy)

    def take(self, stage: keras.Model) -> keras.Model:
        """Return this generator with the present weights of a stage that has taken at least one step."""
        self.generator.set_weights(stage.generator.get_weights())
        if self.averaged:
            stage.g_optimizer.finalize_variable_values(self.generator.trainable_variables)
            for variable, average in zip(
                self.generator.non_trainable_variables, stage.statistics.averages, strict=True
            ):
                variable.assign(average)
        return self.generator
