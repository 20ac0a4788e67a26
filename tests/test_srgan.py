import functools

import keras
import numpy as np
import pytest

from pyimagesearch.config import PRESETS
from pyimagesearch.srgan import SRGAN
from pyimagesearch.training import builders


def noise(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def test_the_tutorials_networks_have_their_parameters():
    assert SRGAN.generator(4, 64, 16).count_params() == 1_407_267
    assert SRGAN.discriminator(64, 0.2, 4).count_params() == 4_693_313


def test_the_papers_generator_has_256_filters_in_each_upsampling_stage():
    generator = SRGAN.generator(4, 64, 16, upsampling_maps=256)
    wide = [layer.filters for layer in generator.layers if getattr(layer, "filters", 64) == 256]
    assert wide == [256, 256]
    # Compared with the tutorial's, stage 1 has twice the filters and slopes, and stage 2 has twice the inputs.
    assert generator.count_params() == 1_407_267 + 128 * (9 * 64 + 1) + 32 + 9 * 32 * 256


def test_the_papers_discriminator_halves_four_times_and_ends_densely():
    discriminator = SRGAN.discriminator(64, 0.2, 4, dense_units=1024, hr_size=96)
    convolutions = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.strides[0] for layer in convolutions] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert [layer.filters for layer in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    norms = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 7  # all but the first convolution's
    assert discriminator.layers[-3].kernel.shape == (6 * 6 * 512, 1024)
    assert discriminator(noise(2, 96, 96, 3)).shape == (2, 1)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_generator_upscales_any_size_by_its_scale(scale):
    sr = SRGAN.generator(scale, 8, 2)(noise(1, 17, 31, 3))
    assert sr.shape == (1, 17 * scale, 31 * scale, 3)
    assert keras.ops.min(sr) >= 0 and keras.ops.max(sr) <= 255


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_with_the_skip_the_last_kernel_adds_to_the_interpolated_input(scale):
    generator = SRGAN.generator(scale, 4, 1, global_skip=True)
    lr = np.full((1, 6, 9, 3), (10, 128, 250), "float32")
    assert 0 < np.abs(generator(lr) - lr.mean((1, 2))).max() < 10
    last = next(layer for layer in reversed(generator.layers) if isinstance(layer, keras.layers.Conv2D))
    last.kernel.assign(keras.ops.zeros_like(last.kernel))
    np.testing.assert_array_equal(generator(lr), np.repeat(np.repeat(lr, scale, 1), scale, 2))
    row = np.arange(0, 250, 25, dtype="float32")[None, None, :, None].repeat(3, 3)
    line = generator(row).numpy()[0, 0, :, 0]
    assert (np.diff(line) > 0)[scale // 2 : -scale // 2].all()  # a slope, not steps
    last.bias.assign(keras.ops.full_like(last.bias, 2.0))
    np.testing.assert_allclose(generator(row).numpy()[0, 0, :, 0], line + 255)


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(64, 48, 8, 6), (89, 89, 12, 12)])
def test_the_patch_discriminator_has_a_logit_for_each_patch(height, width, rows, columns):
    discriminator = SRGAN.patch_discriminator(8, 0.2, 3)
    convolutions = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.kernel_size[0] for layer in convolutions if layer.strides == (2, 2)] == [4, 4, 4]
    assert discriminator(noise(2, height, width, 3)).shape == (2, rows, columns, 1)
    assert not [layer for layer in discriminator.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_spectral_normalization_keeps_the_norm_of_each_kernel_at_1():
    discriminator = SRGAN.patch_discriminator(8, 0.2, 2, spectral_norm=True)
    for _ in range(50):
        discriminator(noise(1, 32, 32, 3), training=True)
    kernels = [variable for variable in discriminator.trainable_variables if variable.name == "kernel"]
    norms = [np.linalg.norm(kernel.numpy().reshape(-1, kernel.shape[-1]), 2) for kernel in kernels]
    assert len(norms) == 5 and norms == pytest.approx([1] * 5, rel=0.02)


@pytest.mark.parametrize(
    "build",
    [SRGAN.discriminator, SRGAN.patch_discriminator, functools.partial(SRGAN.patch_discriminator, spectral_norm=True)],
)
def test_in_16_bits_the_discriminators_first_layer_sees_the_image_in_32(build):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        discriminator = build(8, 0.2, 2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    kinds = (keras.layers.Conv2D, keras.layers.SpectralNormalization)
    first, second = [layer for layer in discriminator.layers if isinstance(layer, kinds)][:2]
    assert (first.compute_dtype, second.compute_dtype) == ("float32", "bfloat16")
    assert discriminator.output.dtype == "float32"


@pytest.mark.parametrize("preset", ["tutorial", "paper", "shipped", "demo"])
def test_a_new_generator_has_no_grid_after_upsampling(preset):
    generator = builders.build_generator(PRESETS[preset])
    shuffles = [operation.output for operation in generator.operations if hasattr(operation, "block_size")]
    assert len(shuffles) == 2
    for image in keras.Model(generator.input, shuffles)(noise(1, 6, 5, 3)):
        for row, column in ((0, 1), (1, 0), (1, 1)):
            np.testing.assert_array_equal(image[:, row::2, column::2], image[:, ::2, ::2])


@pytest.mark.parametrize("scale", [0, 1, 3, 6])
def test_a_scale_that_is_no_power_of_two_is_refused(scale):
    with pytest.raises(ValueError, match=f"power of two, not {scale}"):
        SRGAN.generator(scale, 8, 2)


def test_batch_normalization_can_be_left_out():
    def kinds(generator):
        return {type(layer) for layer in generator.layers}

    assert keras.layers.BatchNormalization in kinds(SRGAN.generator(4, 8, 2))
    assert keras.layers.BatchNormalization not in kinds(SRGAN.generator(4, 8, 2, batch_norm=False))


def test_a_saved_generator_computes_the_same(tmp_path):
    generator, lr = SRGAN.generator(4, 8, 2), noise(2, 9, 7, 3)
    generator(lr, training=True)  # so that the moving statistics are not the initial ones
    generator.save(tmp_path / "generator.keras")
    loaded = keras.models.load_model(tmp_path / "generator.keras")
    np.testing.assert_array_equal(loaded(lr), generator(lr))


def test_the_discriminator_gives_one_logit_an_image():
    logits = SRGAN.discriminator(8, 0.2, 3)(noise(2, 50, 34, 3))
    assert logits.shape == (2, 1)
    assert SRGAN.discriminator(8, 0.2, 3).layers[-1].activation is keras.activations.linear


def test_in_16_bits_results_and_logits_stay_float32():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        generator, discriminator = SRGAN.generator(4, 8, 1), SRGAN.discriminator(8, 0.2, 2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert generator.output.dtype == discriminator.output.dtype == "float32"
    assert "bfloat16" in {layer.compute_dtype for layer in generator.layers}
