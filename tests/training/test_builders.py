import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch import layers
from pyimagesearch.config import PRESETS, Config, GANRecipe
from pyimagesearch.errors import UserError
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders
from pyimagesearch.training.optimizers import ConvolutionMuon, LossScaling
from pyimagesearch.vgg import VGG

SMALL = dataclasses.replace(Config(), feature_maps=4, residual_blocks=1, disc_blocks=2, hr_shape=(32, 32, 3))


def rates(optimizer, *steps):
    found = []
    for step in steps:
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1, 1]), ("cosine", [1, 0.5, 0.5, 0]), ("step", [1, 1, 0.1, 0.1])],
)
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_learning_rate_follows_its_schedule_over_the_whole_stage(stage, schedule, expected):
    config = dataclasses.replace(
        SMALL, steps_per_epoch=100, **{f"{stage}_lr": 1e-3, f"{stage}_schedule": schedule, f"{stage}_epochs": 20}
    )
    optimizer = builders.make_optimizer(config, stage)
    assert rates(optimizer, 0, 1000, 1001, 2000) == pytest.approx([1e-3 * part for part in expected], abs=2e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_generator_warms_up(stage, schedule):
    config = dataclasses.replace(
        SMALL, **{f"{stage}_lr": 1e-3, f"{stage}_warmup": 100, f"{stage}_schedule": schedule}, discriminator_lr=1e-4
    )
    assert rates(builders.make_optimizer(config, stage), 0, 49, 99) == pytest.approx([1e-5, 5e-4, 1e-3], rel=1e-3)
    assert rates(builders.make_optimizer(config, "finetune", of_generator=False), 0) == pytest.approx([1e-4])


def test_the_first_stage_takes_its_optimizer_and_loss_from_the_config():
    config = dataclasses.replace(
        SMALL, pretrain_optimizer="muon", pretrain_loss="l1", pixel_scale=0.5, adam_beta_2=0.99, clip_norm=3.0
    )
    losses = Losses(1)
    stage = builders.pretraining_stage(config, builders.build_generator(config), losses)
    assert isinstance(stage.g_optimizer, ConvolutionMuon)
    assert (stage.g_optimizer.adam_beta_2, stage.g_optimizer.clipnorm) == (0.99, 3.0)
    assert stage.pixel_loss == losses.l1_loss
    optimizer = builders.make_optimizer(config, "finetune")
    assert isinstance(optimizer, keras.optimizers.Adam) and (optimizer.beta_2, optimizer.clipnorm) == (0.99, 3.0)
    assert builders.make_optimizer(SMALL, "pretrain").clipnorm is None


def test_the_initial_values_of_a_config_reach_the_generator():
    plain = builders.build_generator(dataclasses.replace(SMALL, batch_norm=False))
    other = builders.build_generator(dataclasses.replace(SMALL, batch_norm=False, prelu_slope=0.25, residual_scale=0.1))
    slopes = [layer.alpha for layer in other.layers if isinstance(layer, keras.layers.PReLU)]
    assert len(slopes) == 4 and all((slope.numpy() == 0.25).all() for slope in slopes)
    scales = [
        float(np.std(two.kernel) / np.std(one.kernel))
        for one, two in zip(plain.layers, other.layers, strict=True)
        if isinstance(one, keras.layers.Conv2D)
    ]
    assert scales == pytest.approx([1, 1, 0.1, 1, 1, 1, 1], rel=1e-5)


def test_the_paper_preset_is_that_of_the_paper():
    config = PRESETS["paper"]
    assert config.pretrain_epochs * config.steps_per_epoch == 10**6 and config.train_batch_size == 16
    assert config.finetune_epochs * config.steps_per_epoch == 2 * 10**5
    optimizer = builders.make_optimizer(config, "pretrain")
    assert rates(optimizer, 0, 10**6) == pytest.approx([1e-4, 1e-4])
    optimizer = builders.make_optimizer(config, "finetune")
    assert rates(optimizer, 0, 10**5, 10**5 + 1) == pytest.approx([1e-4, 1e-4, 1e-5])
    assert builders.build_generator(config).count_params() == 1_554_883
    assert builders.build_discriminator(config).layers[-3].units == 1024
    black, white = tf.zeros((1, 96, 96, 3)), 255 * tf.ones((1, 96, 96, 3))
    scale = builders.pretraining_stage(config, builders.build_generator(SMALL), Losses(1)).pixel_scale
    assert scale**2 * float(Losses(1).mse_loss(black, white)) == pytest.approx(4)  # -1 against 1, squared


def test_the_seed_determines_the_networks():
    for build in (builders.build_generator, builders.build_discriminator):
        first, same, other = (build(dataclasses.replace(SMALL, seed=seed)).get_weights() for seed in (1, 1, 2))
        assert all((one == two).all() for one, two in zip(first, same, strict=True))
        assert any((one != two).any() for one, two in zip(first, other, strict=True))


def test_the_options_of_a_recipe_reach_the_stage():
    numbers = {
        "content_loss": "unit",
        "adversarial_weight": 2.0,
        "l1_weight": 0.5,
        "reduced_weight": 0.25,
        "unit_weight": 0.375,
        "grid_weight": 0.125,
        "relativistic": True,
        "label_smoothing": 0.1,
        "freeze_batch_norm": True,
        "max_shift": 7,
        "discriminator_steps": 2,
        "discriminator_warmup": 3,
        "adversarial_ramp": 4,
    }
    assert numbers.keys() == {field.name for field in dataclasses.fields(GANRecipe)}
    config = dataclasses.replace(SMALL, ema_momentum=0.9, **numbers)
    networks = builders.build_generator(config), builders.build_discriminator(config)
    stage = builders.gan_stage(config, *networks, VGG.build("vgg19:block1_conv1", "random"), Losses(1))
    assert {name: getattr(stage.recipe, name) for name in numbers} == numbers
    assert stage.g_optimizer.use_ema and not stage.d_optimizer.use_ema
    assert not builders.pretraining_stage(SMALL, networks[0], Losses(1)).g_optimizer.use_ema


def test_the_tutorial_preset_has_the_recipe_of_the_tutorial():
    config = dataclasses.replace(SMALL, disc_blocks=2)
    networks = builders.build_generator(config), builders.build_discriminator(config)
    stage = builders.gan_stage(config, *networks, VGG.build("vgg19:block1_conv1", "random"), Losses(1))
    for field in dataclasses.fields(GANRecipe):
        assert getattr(stage.recipe, field.name) == field.default


def test_the_discriminator_has_its_own_optimizer_rate_and_number_of_steps():
    config = dataclasses.replace(
        SMALL,
        steps_per_epoch=100,
        finetune_epochs=10,
        finetune_lr=1e-4,
        finetune_schedule="step",
        discriminator_optimizer="muon",
        discriminator_lr=1e-3,
        discriminator_steps=2,
    )
    g_optimizer, d_optimizer = (builders.make_optimizer(config, "finetune", kind) for kind in (True, False))
    assert isinstance(g_optimizer, keras.optimizers.Adam) and isinstance(d_optimizer, ConvolutionMuon)
    assert rates(g_optimizer, 500, 501) == pytest.approx([1e-4, 1e-5])
    assert rates(d_optimizer, 1000, 1001) == pytest.approx([1e-3, 1e-4])


def test_a_patch_discriminator_can_be_asked_for():
    config = dataclasses.replace(SMALL, discriminator="patch", disc_blocks=3, spectral_norm=True)
    discriminator = builders.build_discriminator(config)
    assert discriminator.output_shape == (None, None, None, 1)
    assert any(isinstance(layer, keras.layers.SpectralNormalization) for layer in discriminator.layers)


def trained(config, steps=3, **layers):
    """Return a stage after some steps, and all weights of its generator after each, as `variables` orders them."""
    hr = tf.constant(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
    stage = builders.pretraining_stage(config, builders.build_generator(config, **layers), Losses(1))
    weights = []
    for _ in range(steps):
        stage.train_step((hr[:, ::4, ::4], hr))
        weights.append([variable.numpy() for variable in stage.generator.variables])
    return stage, weights


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_snapshot_averages_weights_and_statistics_and_does_not_change_training(policy):
    config = dataclasses.replace(SMALL, pretrain_lr=1e-2, ema_momentum=0.9, pixel_scale=1 / 127.5)
    keras.config.set_dtype_policy(policy)
    stage, weights = trained(config)
    snapshot = builders.Snapshot(config).take(stage)
    for variable, first, second, third, present in zip(
        snapshot.variables, *weights, stage.generator.variables, strict=True
    ):
        averaged = (first / 11 + second * 10 / 11) / 6 + third * 5 / 6
        np.testing.assert_allclose(variable.numpy(), averaged, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(present.numpy(), third)


def test_without_averages_a_snapshot_is_the_generator_as_it_is():
    stage, _ = trained(SMALL)
    snapshot = builders.Snapshot(SMALL).take(stage)
    for variable, present in zip(snapshot.variables, stage.generator.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), present.numpy())


def test_networks_that_compute_in_float16_have_their_losses_scaled():
    networks = builders.build_generator(SMALL), builders.build_discriminator(SMALL)
    vgg = VGG.build("vgg19:block1_conv1", "random")
    stage = builders.gan_stage(SMALL, *networks, vgg, Losses(1))
    assert not isinstance(stage.g_optimizer, LossScaling) and not isinstance(stage.d_optimizer, LossScaling)
    keras.config.set_dtype_policy("mixed_float16")
    networks = builders.build_generator(SMALL), builders.build_discriminator(SMALL)
    stage = builders.gan_stage(SMALL, *networks, vgg, Losses(1))
    assert isinstance(stage.g_optimizer, LossScaling) and isinstance(stage.d_optimizer, LossScaling)
    assert isinstance(builders.pretraining_stage(SMALL, networks[0], Losses(1)).g_optimizer, LossScaling)


def test_a_snapshot_of_a_16_bit_generator_is_float32_and_of_keras_layers_alone(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        stage, weights = trained(SMALL, **layers.choose(1, on_cpu=True))
        snapshot = builders.Snapshot(SMALL).take(stage)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in snapshot.layers} == {"float32"}
    assert all(type(layer).__module__.startswith("keras.") for layer in snapshot.layers)
    for variable, last in zip(snapshot.variables, weights[-1], strict=True):
        np.testing.assert_array_equal(variable.numpy(), last)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_norm": False},
        {"upsampling_maps": 20},
        {"upsampling_maps": 8},
        {"scaling_factor": 2},
        {"global_skip": True},
    ],
)
def test_a_config_takes_over_the_network_of_a_generator(changes):
    config = dataclasses.replace(SMALL, residual_blocks=3, **changes)
    assert builders.shaped_like(Config(), builders.build_generator(config)) == dataclasses.replace(
        Config(), feature_maps=4, residual_blocks=3, **changes
    )


def no_convolution(lr):
    return keras.layers.UpSampling2D(4)(lr)


def three_times_as_large(lr):
    return keras.layers.UpSampling2D(3)(keras.layers.Conv2D(3, 3, padding="same")(lr))


def two_convolutions(lr):
    x = keras.layers.Conv2D(12, 5, padding="same")(lr)
    x = keras.layers.Conv2D(12, 3, padding="same")(keras.layers.Add()([x, x]))
    return keras.layers.Conv2D(3, 3, padding="same")(keras.ops.depth_to_space(x, 2))


@pytest.mark.parametrize("network", [no_convolution, three_times_as_large, two_convolutions])
def test_a_network_of_another_kind_is_refused(network):
    lr = keras.Input((None, None, 3))
    with pytest.raises(UserError, match="the initial generator: not a network of this program"):
        builders.shaped_like(Config(), keras.Model(lr, network(lr)))


def test_a_network_that_computes_something_else_is_refused():
    other = keras.models.clone_model(builders.build_generator(SMALL), clone_function=without_scaling)
    with pytest.raises(UserError, match="the initial generator: not a network of this program"):
        builders.shaped_like(Config(), other)


def without_scaling(layer):
    if isinstance(layer, keras.layers.Rescaling):
        return keras.layers.ReLU(name=layer.name)
    return layer.from_config(layer.get_config())
