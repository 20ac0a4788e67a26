import functools
import itertools

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch import layers
from pyimagesearch.config import GANRecipe
from pyimagesearch.losses import Losses
from pyimagesearch.srgan import SRGAN
from pyimagesearch.srgan_training import SRGANPretraining, SRGANTraining
from pyimagesearch.training import builders as recipes
from pyimagesearch.training import loop
from pyimagesearch.training.checkpoints import Checkpoints
from pyimagesearch.training.optimizers import LossScaling
from pyimagesearch.vgg import VGG


def batch(size=4, seed=0):
    hr = np.random.default_rng(seed).integers(0, 256, (size, 32, 32, 3), np.uint8)
    return tf.constant(hr[:, ::4, ::4]), tf.constant(hr)


def pretraining(replicas=1, optimizer=keras.optimizers.Adam, **recipe):
    stage = SRGANPretraining(SRGAN.generator(4, 4, 1, **layers.choose(replicas, on_cpu=True)), **recipe)
    stage.compile(optimizer(1e-3), Losses(replicas).mse_loss)
    return stage


def gan(
    replicas=1, optimizer=keras.optimizers.Adam, generator_rate=1e-3, discriminator_rate=1e-3, patch=False, **recipe
):
    norm = layers.choose(replicas, on_cpu=True)["norm"]
    stage = SRGANTraining(
        SRGAN.generator(4, 4, 1, **layers.choose(replicas, on_cpu=True)),
        SRGAN.patch_discriminator(4, 0.2, 2) if patch else SRGAN.discriminator(4, 0.2, 2, norm=norm),
        VGG.build("vgg19:block1_conv2,block2_conv2" if patch else "vgg19:block1_conv2", "random"),
        batch_size=4 // replicas,
        recipe=GANRecipe(**recipe),
    )
    stage.compile(optimizer(generator_rate), optimizer(discriminator_rate), **recipes.gan_losses(Losses(replicas)))
    return stage


modern_gan = functools.partial(
    gan,
    patch=True,
    content_loss="unit",
    adversarial_weight=0.5,
    unit_weight=0.4,
    l1_weight=0.1,
    reduced_weight=0.2,
    grid_weight=0.3,
    relativistic=True,
    max_shift=7,
    discriminator_steps=2,
)


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
    assert losses.keys() == {"pixel_loss"}


def test_the_pretraining_loss_is_the_error_in_pixels():
    stage = pretraining()
    lr, hr = batch()
    sr = stage.generator(tf.cast(lr, tf.float32), training=True)
    expected = np.mean((sr.numpy() - hr.numpy()) ** 2)
    assert float(stage.train_step((lr, hr))["pixel_loss"]) == pytest.approx(expected, rel=1e-4)


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
    assert losses.keys() == {
        *("d_loss", "g_loss", "adversarial_loss", "content_loss"),
        *("d_real", "d_fake", "d_right", "adversarial_share", "content_share"),
    }
    total = losses["content_loss"] + 1e-3 * losses["adversarial_loss"]
    assert float(losses["g_loss"]) == pytest.approx(float(total))


def test_without_an_adversarial_weight_the_discriminator_is_not_used():
    stage = gan(adversarial_weight=0.0, discriminator_warmup=5)
    generator, discriminator = copies(kernels(stage.generator)), copies(stage.discriminator.variables)
    stage.discriminator.call = None  # which would be an error
    logs = stage.train_step(batch())
    assert all_moved(generator, kernels(stage.generator))
    assert none_moved(discriminator, stage.discriminator.variables)
    assert logs.keys() == {"g_loss", "content_loss", "content_share"}


def test_the_generators_update_leaves_the_discriminator_alone():
    stage = gan()
    before = copies(stage.discriminator.variables)
    stage._train_discriminator = lambda hr, sr: {}  # only the generator's half of the step remains
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


def test_the_discriminator_learns_to_distinguish_the_two():
    stage = gan(generator_rate=1e-9, discriminator_rate=1e-2)
    step = tf.function(stage.train_step)
    d_losses = [float(step(batch())["d_loss"]) for _ in range(30)]
    assert d_losses[-1] < 0.9 * d_losses[0]


def test_the_logs_have_the_probabilities_of_the_discriminator():
    logs = gan(discriminator_rate=1e-9).train_step(batch())
    for name in ("d_real", "d_fake"):
        assert float(logs[name]) == pytest.approx(0.5, abs=0.2)
    stage = gan()
    stage.discriminator.layers[-1].bias.assign([10.0])
    logs = stage.train_step(batch())
    assert float(logs["d_real"]) > 0.99 and float(logs["d_fake"]) > 0.99


def test_the_shares_of_the_losses_follow_their_weights():
    def shares(**recipe):
        keras.utils.set_random_seed(1)
        logs = gan(**recipe).train_step(batch())
        return {name: float(value) for name, value in logs.items() if name.endswith("_share")}

    plain, little, much = shares(), shares(l1_weight=0.01), shares(l1_weight=100.0)
    assert plain.keys() == {"content_share", "adversarial_share"}
    assert little["l1_share"] < much["l1_share"] and much["l1_share"] > 0.9
    adversarial = shares(adversarial_weight=1e3)
    assert adversarial["adversarial_share"] > 0.9 > plain["adversarial_share"]
    for part in (plain, little, much, adversarial):
        assert sum(part.values()) == pytest.approx(1, rel=1e-5)


def test_the_generators_gradient_is_that_of_its_whole_loss():
    keras.utils.set_random_seed(1)
    stage = gan(optimizer=keras.optimizers.SGD, generator_rate=1e-3, l1_weight=0.5)
    stage._train_discriminator = lambda hr, sr: {}
    before = copies(stage.generator.trainable_variables)
    lr, hr = (tf.cast(images, tf.float32) for images in batch())
    with tf.GradientTape() as tape:
        sr = stage.generator(lr, training=True)
        _, judged = tf.split(stage.discriminator(tf.concat([hr, sr], axis=0), training=True), 2)
        adversarial = tf.reduce_mean(tf.nn.softplus(-judged))
        content = tf.reduce_mean((stage.vgg(hr) - stage.vgg(sr)) ** 2)
        loss = content + 1e-3 * adversarial + 0.5 * tf.reduce_mean(tf.abs(hr - sr))
    gradients = tape.gradient(loss, [variable.value for variable in stage.generator.trainable_variables])
    stage.train_step((lr, hr))
    for old, gradient, new in zip(before, gradients, copies(stage.generator.trainable_variables), strict=True):
        np.testing.assert_allclose(new, old - 1e-3 * gradient.numpy(), rtol=1e-3, atol=1e-6)


def with_a_grid(images):
    """Add a fixed pattern of four levels to [B, H, W, 3]."""
    pattern = np.zeros((4, 4), "float32")
    pattern[::2, ::2] = pattern[1::2, 1::2] = 4
    return images + np.tile(pattern, (images.shape[1] // 4, images.shape[2] // 4))[..., None]


def texture(rng, size=64):
    """Noise at all scales, as in photographs, in which a grid of four levels is hard to detect."""
    octaves = [
        60 * side**-0.4 * cv2.resize(rng.normal(size=(side, side, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
        for side in (4, 8, 16, 32, 64)
    ]
    return np.clip(128 + sum(octaves), 0, 255).astype("float32")


@pytest.mark.parametrize("patch", [False, True])
def test_within_60_steps_a_discriminator_detects_a_grid(patch):
    stage = gan()
    stage.discriminator = SRGAN.patch_discriminator(16, 0.2, 2) if patch else SRGAN.discriminator(16, 0.2, 3)
    stage.d_optimizer = keras.optimizers.Adam(1e-3)
    stage.d_optimizer.build(stage.discriminator.trainable_variables)
    step, rng = tf.function(stage._train_discriminator), np.random.default_rng(0)
    images = np.stack([texture(rng) for _ in range(64)])
    right = []
    for _ in range(60):
        hr, sr = images[rng.permutation(64)[:8]], with_a_grid(images[rng.permutation(64)[:8]])
        right.append(float(step(tf.constant(hr), tf.constant(sr))["d_right"]))
    assert np.mean(right[40:]) > 0.9


def test_losses_of_pairs_and_of_several_layers_are_added_by_their_weights():
    logs = modern_gan().train_step(batch())
    expected = (
        logs["content_loss"]
        + 0.5 * logs["adversarial_loss"]
        + 0.1 * logs["l1_loss"]
        + 0.2 * logs["reduced_loss"]
        + 0.3 * logs["grid_loss"]
    )
    assert float(logs["g_loss"]) == pytest.approx(float(expected), rel=1e-5)
    shares = [float(value) for name, value in logs.items() if name.endswith("_share")]
    assert len(shares) == 5 and sum(shares) == pytest.approx(1, rel=1e-5)


def test_the_unit_loss_compares_the_last_layer_after_its_activation():
    stage = gan(patch=True, content_loss="l1", unit_weight=0.4)
    stage.vgg = VGG.build("vgg19:block1_conv2,block2_conv2", "random", before_activation=True)
    lr, hr = (tf.cast(images, tf.float32) for images in batch())
    sr = stage.generator(lr, training=True)
    real, fake = stage.vgg(hr), stage.vgg(sr)
    plain = sum(Losses(1).l1_loss(one, other) for one, other in zip(real, fake, strict=True)) / 2
    unit = Losses(1).unit_loss(tf.nn.relu(real[-1]), tf.nn.relu(fake[-1]))
    content_loss = stage._generator_losses(lr, hr, sr)["content"]
    assert float(content_loss) == pytest.approx(float(plain + 0.4 * unit), rel=1e-4)


@pytest.mark.parametrize("patch", [False, True])
def test_the_logits_are_those_of_both_images_in_one_batch(patch):
    stage, (_, hr) = gan(patch=patch), batch()
    hr = tf.cast(hr, tf.float32)
    sr = 0.5 * hr + 40
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sr)
        one, two = stage._logits(hr, sr)
        expected_one, expected_two = tf.split(stage.discriminator(tf.concat([hr, sr], axis=0), training=True), 2)
    np.testing.assert_allclose(one, expected_one, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(two, expected_two, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tape.gradient(two, sr), tape.gradient(expected_two, sr), rtol=1e-3, atol=1e-6)


def test_results_are_reduced_against_photographs_instead_of_noisy_inputs():
    stage = modern_gan()
    lr, hr = batch()
    sr = stage.generator(tf.cast(lr, tf.float32), training=True)
    expected = Losses(1).reduced_loss(tf.cast(hr, tf.float32), sr, hr.shape[1] // lr.shape[1])
    assert float(stage.train_step((lr, hr))["reduced_loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_discriminator_learns_alone_before_its_word_counts():
    stage = gan(discriminator_warmup=2, adversarial_ramp=4, adversarial_weight=1.0)
    weights, seen = copies(stage.generator.trainable_variables), []
    for _ in range(8):
        discriminator = copies(kernels(stage.discriminator))
        logs = stage.train_step(batch())
        assert all_moved(discriminator, kernels(stage.discriminator))
        seen.append(float((logs["g_loss"] - logs["content_loss"]) / logs["adversarial_loss"]))
        if len(seen) == 2:
            assert none_moved(weights, stage.generator.trainable_variables)
    assert all_moved(weights[:1], stage.generator.trainable_variables[:1])
    assert seen == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75, 1, 1], abs=1e-3)


def test_both_images_have_the_same_shift_which_changes_at_each_step():
    stage, (_, hr) = gan(max_shift=7), batch()
    hr, places = tf.cast(hr, tf.float32), set()
    for step in range(40):
        stage.g_optimizer.iterations.assign(step)
        one, two = stage._shift(0, hr, hr + 1)
        assert one.shape == (4, 25, 25, 3)
        np.testing.assert_array_equal(two, one + 1)
        for top, left in itertools.product(range(8), repeat=2):
            if np.array_equal(one, hr[:, top : top + 25, left : left + 25]):
                places.add((top, left))
    assert len(places) > 20 and {0, 7} <= {top for top, _ in places} == set(range(8))
    assert all(np.array_equal(*pair) for pair in zip(stage._shift(0, hr), stage._shift(0, hr), strict=True))


@pytest.mark.parametrize("make", [pretraining, gan])
def test_frozen_batch_normalization_keeps_its_statistics_and_still_learns(make):
    stage = make(freeze_batch_norm=True)
    statistics, before = copies(moving_statistics(stage.generator)), copies(kernels(stage.generator))
    stage.train_step(batch())
    assert none_moved(statistics, moving_statistics(stage.generator))
    assert all_moved(before, kernels(stage.generator))


def test_label_smoothing_leaves_the_discriminator_a_loss_when_it_is_right():
    def d_loss(smoothing):
        stage = gan(label_smoothing=smoothing)
        stage.discriminator.layers[-1].kernel.assign(tf.zeros_like(stage.discriminator.layers[-1].kernel))
        stage.discriminator.layers[-1].bias.assign([20.0])  # sure that all is real
        return float(stage.train_step(batch())["d_loss"])

    assert d_loss(0.1) - d_loss(0.0) == pytest.approx(0.1 * 20, rel=1e-3)


def test_the_scale_of_pixels_is_squared_in_the_loss():
    def loss(scale):
        keras.utils.set_random_seed(1)
        stage = SRGANPretraining(SRGAN.generator(4, 4, 1), scale)
        stage.compile(keras.optimizers.Adam(1e-3), Losses(1).mse_loss)
        return float(stage.train_step(batch())["pixel_loss"])

    assert loss(1.0) / 127.5**2 == pytest.approx(loss(1 / 127.5), rel=1e-4)


@pytest.mark.parametrize("make_stage", [pretraining, gan, modern_gan])
def test_two_replicas_take_the_step_of_one_with_the_double_batch(make_stage, two_replicas, tmp_path):
    whole = batch(4)

    def weights_after_a_step(strategy):
        def load(first_batch, worker, workers):
            images = tf.data.Dataset.from_tensor_slices(whole).repeat()
            return images.batch(4 // strategy.num_replicas_in_sync)

        keras.utils.set_random_seed(3)
        seen = []
        callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
        with strategy.scope():
            stage = make_stage(strategy.num_replicas_in_sync, keras.optimizers.SGD)
            before = copies(stage.generator.variables)
            checkpoints = Checkpoints(str(tmp_path / str(strategy.num_replicas_in_sync)), stage)
            loop.fit(stage, [(0, load)], 1, 1, checkpoints, callbacks=[callback])
        return before, sum((copies(network.variables) for network in stage.networks), []), seen[0]

    before, one, one_logs = weights_after_a_step(tf.distribute.get_strategy())
    _, two, two_logs = weights_after_a_step(two_replicas)
    for single, mirrored in zip(one, two, strict=True):
        np.testing.assert_allclose(mirrored, single, rtol=1e-4, atol=1e-5)
    for name, value in one_logs.items():
        # The shares are means over replicas, whose norms differ.
        np.testing.assert_allclose(two_logs[name], value, rtol=5e-2 if name.endswith("_share") else 1e-4)
    assert any((old != new).any() for old, new in zip(before, one, strict=False))


def scaled_sgd(rate, scale=16.0):
    return LossScaling(keras.optimizers.SGD(rate), initial_scale=scale)


def updates(stage):
    """Take a step; return how it moves the kernels of all networks, and its logs."""
    before = [copies(kernels(network)) for network in stage.networks]
    logs = stage.train_step(batch())
    after = [copies(kernels(network)) for network in stage.networks]
    moves = [new - old for olds, news in zip(before, after, strict=True) for old, new in zip(olds, news, strict=True)]
    return moves, {name: float(value) for name, value in logs.items()}


@pytest.mark.parametrize("make_stage", [pretraining, gan, modern_gan])
def test_a_step_in_float16_has_the_gradients_and_logs_of_one_in_float32(make_stage):
    expected, expected_logs = updates(make_stage(optimizer=keras.optimizers.SGD))
    keras.config.set_dtype_policy("mixed_float16")
    keras.utils.set_random_seed(1)
    stage = make_stage(optimizer=scaled_sgd)
    moves, logs = updates(stage)
    for one, other in zip(expected, moves, strict=True):
        assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(one)
    for name, value in expected_logs.items():
        assert logs[name] == pytest.approx(value, rel=0.05, abs=1e-3)
    assert float(stage.g_optimizer.dynamic_scale) == 16


@pytest.mark.parametrize("make_stage", [pretraining, gan, modern_gan])
def test_an_overflow_in_float16_halves_the_scale_and_leaves_the_step_out(make_stage):
    keras.config.set_dtype_policy("mixed_float16")
    stage = make_stage(optimizer=functools.partial(scaled_sgd, scale=2.0**60))
    moves, logs = updates(stage)
    assert all((move == 0).all() for move in moves)
    assert np.isfinite(list(logs.values())).all()
    assert float(stage.g_optimizer.dynamic_scale) == 2.0**59 and int(stage.g_optimizer.iterations) == 1


@pytest.mark.parametrize("make_stage", [pretraining, gan, modern_gan])
def test_steps_compile_under_xla_with_static_shapes(make_stage):
    expected = make_stage(optimizer=keras.optimizers.SGD).train_step(batch())
    keras.utils.set_random_seed(1)
    stage = make_stage(optimizer=keras.optimizers.SGD)
    compiled = tf.function(stage.train_step, jit_compile=True)(batch())
    for name, value in expected.items():
        assert float(compiled[name]) == pytest.approx(float(value), rel=1e-3)


def test_the_content_loss_falls_on_real_photographs(shared_data):
    from pyimagesearch.data import pairs, photographs

    (pair,) = pairs.cut([next(iter(photographs.folder(str(shared_data / "photos2k"), 0.1, 4, 96, 42).test))], 4000)
    crops = [pair.hr[top : top + 64, left : left + 64] for top in (0, 400) for left in (0, 800)]
    hr = tf.constant(np.stack(crops))
    lr = tf.constant(np.stack([pairs.shrink(crop, 4) for crop in crops]))
    stage = SRGANTraining(
        SRGAN.generator(4, 16, 2, batch_norm=False),
        SRGAN.discriminator(8, 0.2, 3),
        VGG.build("vgg19:block2_conv2", str(shared_data / "vgg" / "vgg19_imagenet_block1-3_keras.h5")),
        batch_size=4,
    )
    stage.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-4), **recipes.gan_losses(Losses(1)))
    step = tf.function(stage.train_step)
    content = [float(step((lr, hr))["content_loss"]) for _ in range(20)]
    assert content[-1] < 0.9 * content[0]
