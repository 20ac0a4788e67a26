import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch import training_loop
from pyimagesearch.losses import Losses
from pyimagesearch.srgan import SRGAN
from pyimagesearch.srgan_training import SRGANPretraining, SRGANTraining
from pyimagesearch.vgg import VGG


def batch(size=4, seed=0):
    hr = np.random.default_rng(seed).integers(0, 256, (size, 32, 32, 3), np.uint8)
    return tf.constant(hr[:, ::4, ::4]), tf.constant(hr)


def pretraining(replicas=1, optimizer=keras.optimizers.Adam):
    stage = SRGANPretraining(SRGAN.generator(4, 4, 1, synchronized=replicas > 1))
    stage.compile(optimizer(1e-3), Losses(replicas).mse_loss)
    return stage


def gan(replicas=1, optimizer=keras.optimizers.Adam, generator_rate=1e-3, discriminator_rate=1e-3):
    stage = SRGANTraining(
        SRGAN.generator(4, 4, 1, synchronized=replicas > 1),
        SRGAN.discriminator(4, 0.2, 2, synchronized=replicas > 1),
        VGG.build("vgg19:block1_conv2", "random"),
        batch_size=4 // replicas,
    )
    losses = Losses(replicas)
    stage.compile(optimizer(generator_rate), optimizer(discriminator_rate), losses.bce_loss, losses.mse_loss)
    return stage


def copies(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def all_moved(before, variables):
    return all((old != keras.ops.convert_to_numpy(new)).any() for old, new in zip(before, variables, strict=True))


def none_moved(before, variables):
    return all((old == keras.ops.convert_to_numpy(new)).all() for old, new in zip(before, variables, strict=True))


def moving_statistics(network):
    return [variable for variable in network.non_trainable_variables if "moving" in variable.name]


def kernels(network):
    return [variable for variable in network.trainable_variables if variable.name == "kernel"]


def test_a_pretraining_step_moves_the_generator_and_its_statistics():
    stage = pretraining()
    before, statistics = copies(kernels(stage.generator)), copies(moving_statistics(stage.generator))
    losses = stage.train_step(batch())
    assert all_moved(before, kernels(stage.generator))
    assert all_moved(statistics, moving_statistics(stage.generator))
    assert losses.keys() == {"mse_loss"}


def test_the_pretraining_loss_is_the_error_in_pixels():
    stage = pretraining()
    lr, hr = batch()
    sr = stage.generator(tf.cast(lr, tf.float32), training=True)
    expected = np.mean((sr.numpy() - hr.numpy()) ** 2)
    assert float(stage.train_step((lr, hr))["mse_loss"]) == pytest.approx(expected, rel=1e-4)


def test_a_gan_step_moves_both_networks_and_leaves_vgg_alone():
    stage = gan()
    networks = (stage.generator, stage.discriminator)
    before = [copies(kernels(network)) for network in networks]
    statistics = [copies(moving_statistics(network)) for network in networks]
    vgg = copies(stage.vgg.variables)
    losses = stage.train_step(batch())
    for network, old_kernels, old_statistics in zip(networks, before, statistics, strict=True):
        assert all_moved(old_kernels, kernels(network))
        assert all_moved(old_statistics, moving_statistics(network))
    assert none_moved(vgg, stage.vgg.variables)
    assert losses.keys() == {"d_loss", "g_loss", "adversarial_loss", "content_loss"}
    total = losses["content_loss"] + 1e-3 * losses["adversarial_loss"]
    assert float(losses["g_loss"]) == pytest.approx(float(total))


def test_the_generators_update_leaves_the_discriminator_alone():
    stage = gan()
    before = copies(stage.discriminator.variables)
    stage._discriminator_step = lambda hr, sr: tf.constant(0.0)  # only the generator's half of the step remains
    generator = copies(kernels(stage.generator))
    stage.train_step(batch())
    assert all_moved(generator, kernels(stage.generator))
    assert none_moved(before, stage.discriminator.variables)


def test_the_discriminators_update_leaves_the_generators_weights_alone():
    stage = gan(optimizer=keras.optimizers.SGD, generator_rate=0.0)
    before = copies(stage.generator.trainable_variables)
    discriminator = copies(kernels(stage.discriminator))
    stage.train_step(batch())
    assert none_moved(before, stage.generator.trainable_variables)
    assert all_moved(discriminator, kernels(stage.discriminator))


def test_the_discriminator_learns_to_tell_the_two_apart():
    stage = gan(generator_rate=1e-9, discriminator_rate=1e-2)
    step = tf.function(stage.train_step)
    d_losses = [float(step(batch())["d_loss"]) for _ in range(30)]
    assert d_losses[-1] < 0.9 * d_losses[0]


@pytest.mark.parametrize("make_stage", [pretraining, gan])
def test_two_replicas_take_the_step_of_one_with_the_double_batch(make_stage, two_replicas):
    def weights_after_a_step(strategy):
        keras.utils.set_random_seed(3)
        dataset = tf.data.Dataset.from_tensors(batch(4)).repeat()
        with strategy.scope():
            stage = make_stage(strategy.num_replicas_in_sync, keras.optimizers.SGD)
            before = copies(stage.generator.variables)
            logs = training_loop.fit(stage, dataset, epochs=1, steps_per_epoch=1).history
            networks = [getattr(stage, name, None) for name in ("generator", "discriminator")]
            weights = [copies(network.variables) for network in networks if network]
        return before, sum(weights, []), logs

    before, one, one_logs = weights_after_a_step(tf.distribute.get_strategy())
    _, two, two_logs = weights_after_a_step(two_replicas)
    for single, mirrored in zip(one, two, strict=True):
        np.testing.assert_allclose(mirrored, single, rtol=1e-4, atol=1e-5)
    for name, values in one_logs.items():
        np.testing.assert_allclose(two_logs[name], values, rtol=1e-4)
    assert any((old != new).any() for old, new in zip(before, one, strict=False))


@pytest.mark.parametrize("make_stage", [pretraining, gan])
def test_steps_compile_under_xla_with_static_shapes(make_stage):
    expected = make_stage().train_step(batch())
    keras.utils.set_random_seed(1)
    stage = make_stage()
    compiled = tf.function(stage.train_step, jit_compile=True)(batch())
    for name, value in expected.items():
        assert float(compiled[name]) == pytest.approx(float(value), rel=1e-3)


def test_the_content_loss_falls_on_real_photographs(shared_data):
    from pyimagesearch import sources

    (pair,) = sources.cut([next(iter(sources.folder(str(shared_data / "photos2k"), 0.1, 4, 96, 42).test))], 4000)
    crops = [pair.hr[top : top + 64, left : left + 64] for top in (0, 400) for left in (0, 800)]
    hr = tf.constant(np.stack(crops))
    lr = tf.constant(np.stack([sources.shrink(crop, 4) for crop in crops]))
    stage = SRGANTraining(
        SRGAN.generator(4, 16, 2, batch_norm=False),
        SRGAN.discriminator(8, 0.2, 3),
        VGG.build("vgg19:block2_conv2", str(shared_data / "vgg" / "vgg19_imagenet_block1-3_keras.h5")),
        batch_size=4,
    )
    losses = Losses(1)
    stage.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-4), losses.bce_loss, losses.mse_loss)
    step = tf.function(stage.train_step)
    content = [float(step((lr, hr))["content_loss"]) for _ in range(20)]
    assert content[-1] < 0.9 * content[0]
