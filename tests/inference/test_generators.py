import os

import keras
import numpy as np
import pytest
from conftest import randomize

from pyimagesearch.config import SHIPPED_GENERATORS, Paths
from pyimagesearch.errors import UserError
from pyimagesearch.inference import generators
from pyimagesearch.srgan import SRGAN


def test_a_saved_generator_is_loaded_with_its_scale(tmp_path):
    path = str(tmp_path / "generator.keras")
    SRGAN.generator(2, 4, 1).save(path)
    assert generators.scaling_factor(generators.load_generator(path)) == 2


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match="generator.keras: no such model; make it with train_srgan.py"):
        generators.load_generator(str(tmp_path / "generator.keras"))


def write_text(path):
    path.write_text("not a model")


def write_truncated(path):
    SRGAN.generator(4, 4, 1).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def write_classifier(path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)


def write_discriminator(path):
    SRGAN.discriminator(4, 0.2, 2).save(path)


def write_same_size(path):
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.Rescaling(2)]).save(path)


@pytest.mark.parametrize("write", [write_text, write_truncated, write_classifier, write_discriminator, write_same_size])
def test_a_foreign_model_is_named(tmp_path, write):
    path = tmp_path / "foreign.keras"
    write(path)
    with pytest.raises(UserError, match="foreign.keras: not a generator"):
        generators.load_generator(str(path))


def test_a_model_with_python_code_is_refused(tmp_path):
    path = tmp_path / "code.keras"
    flag = str(tmp_path / "ran")
    code = keras.layers.Lambda(lambda x: (open(flag, "w"), x)[1])
    keras.Sequential([keras.Input((None, None, 3)), code]).save(path)
    os.remove(flag)
    with pytest.raises(UserError, match="code.keras: contains Python code, which is not run"):
        generators.load_generator(str(path))
    assert not os.path.exists(flag)


def seen_pixels(network, shape, scale=1):
    """The largest distance in LR pixels at which the output changes after a change of one input pixel."""
    x = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    changed = x.copy()
    middle = shape[1] // 2
    changed[:, middle, middle] += 50
    _, rows, columns, _ = np.nonzero(network(x).numpy() != network(changed).numpy())
    places = np.concatenate([rows, columns]) / scale
    return np.abs(np.floor(places) - middle).max()


@pytest.mark.parametrize("options", [{}, {"upsampling_maps": 16}, {"batch_norm": False}, {"global_skip": True}])
@pytest.mark.parametrize(("scale", "blocks"), [(4, 1), (2, 2), (8, 0)])
def test_the_receptive_field_of_each_half_is_computed(scale, blocks, options):
    generator = SRGAN.generator(scale, 4, blocks, **options)
    randomize(generator)
    halves = generators.split(generator)
    assert halves.trunk_reach == 4 + 2 * blocks + 1 == seen_pixels(halves.trunk, (1, 51, 51, 3))
    assert halves.head_reach == seen_pixels(halves.head, (1, 21, 21, halves.head.input.shape[-1]), scale)


@pytest.mark.parametrize("global_skip", [False, True])
def test_both_halves_together_are_the_generator(global_skip):
    generator = SRGAN.generator(4, 4, 2, global_skip=global_skip)
    randomize(generator)
    halves = generators.split(generator)
    lr = np.random.default_rng(1).uniform(0, 255, (1, 9, 14, 3)).astype("float32")
    np.testing.assert_array_equal(halves.head(halves.trunk(lr)), generator(lr))


def test_the_tutorials_generator_sees_40_pixels():
    halves = generators.split(SRGAN.generator(4, 64, 16))
    assert (halves.trunk_reach, halves.head_reach) == (37, 3)


def test_what_cannot_be_divided_into_tiles_is_refused():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(3, 3, padding="same")(image)
    whole = keras.layers.Add()([x, keras.layers.GlobalAveragePooling2D(keepdims=True)(x)])
    generator = keras.Model(image, keras.layers.UpSampling2D(2)(whole), name="foreign")
    with pytest.raises(
        UserError, match="foreign: the receptive field of its layer global_average_pooling2d.* is unknown"
    ):
        generators.split(generator)
    plain = keras.Model(image, keras.ops.depth_to_space(keras.layers.Conv2D(12, 3, padding="same")(image), 2))
    with pytest.raises(UserError, match="not a residual generator"):
        generators.split(plain)


def test_without_batch_normalization_a_generator_computes_the_same():
    generator = SRGAN.generator(4, 8, 2)
    randomize(generator)
    folded = generators.fold_batch_norm(generator)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    lr = np.random.default_rng(1).uniform(0, 255, (1, 9, 14, 3)).astype("float32")
    np.testing.assert_allclose(folded(lr), generator(lr), atol=1e-2)
    assert np.std(generator(lr)) > 1


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("global_skip", [False, True])
def test_a_generator_with_its_shuffle_last_computes_the_same(scale, global_skip):
    keras.backend.clear_session()  # new layers get the names of layers that a loaded generator has
    generator = SRGAN.generator(scale, 4, 1, batch_norm=False, global_skip=global_skip)
    randomize(generator)
    keras.backend.clear_session()
    changed = generators.shuffle_last(generator)
    kernels = [
        (layer.filters, *layer.kernel_size) for layer in changed.layers if isinstance(layer, keras.layers.Conv2D)
    ]
    assert (12, 5, 5) in kernels
    lr = np.random.default_rng(0).uniform(0, 255, (1, 5, 7, 3)).astype("float32")
    np.testing.assert_allclose(changed(lr), generator(lr), atol=1e-2)
    assert np.std(generator(lr)) > 1
    assert generators.split(changed)[2:] == generators.split(generator)[2:]


@pytest.mark.parametrize(
    ("between", "last", "adds"),
    [
        (keras.layers.LeakyReLU, {}, None),
        (keras.layers.PReLU, {}, None),  # a slope for each pixel
        (keras.layers.Identity, {"kernel_size": 4}, None),
        (keras.layers.Identity, {"padding": "valid"}, None),
        (keras.layers.Identity, {"filters": 1}, keras.layers.Identity()),
        (keras.layers.Identity, {"filters": 1}, keras.layers.AveragePooling2D(3, strides=1, padding="same")),
        (keras.layers.UpSampling2D, {}, None),
    ],
)
def test_a_generator_of_another_form_stays_as_it_is(between, last, adds):
    features = keras.Input((8, 8, 4))
    x = features if between is keras.layers.UpSampling2D else keras.ops.depth_to_space(features, 2)
    if between is not keras.layers.Identity:
        x = between()(x)
    sr = keras.layers.Conv2D(**{"filters": 3, "kernel_size": 3, "padding": "same", **last})(x)
    generator = keras.Model(features, keras.layers.Add()([sr, adds(x)]) if adds else sr)
    assert generators.shuffle_last(generator) is generator


@pytest.mark.parametrize("global_skip", [False, True])
def test_in_16_bits_both_ends_stay_float32(global_skip):
    generator = SRGAN.generator(4, 8, 2, global_skip=global_skip)
    randomize(generator)
    folded = generators.fold_batch_norm(generator, "mixed_bfloat16")
    convolutions = [layer for layer in folded.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.compute_dtype for layer in convolutions] == ["float32", *["bfloat16"] * 7, "float32"]
    after = folded.layers[folded.layers.index(convolutions[-1]) :]
    assert {layer.compute_dtype for layer in after} == {"float32"} and folded.output.dtype == "float32"
    lr = np.random.default_rng(1).uniform(0, 255, (1, 9, 14, 3)).astype("float32")
    assert 0 < np.abs(folded(lr) - generator(lr)).mean() < 4


@pytest.fixture
def two_generators():
    """Two of the same shape, with different weights and statistics."""
    pair = [SRGAN.generator(4, 8, 2) for _ in range(2)]
    randomize(pair[0])
    randomize(pair[1])
    pair[1].set_weights([1.1 * weight for weight in pair[1].get_weights()])
    return pair


@pytest.mark.parametrize("alpha", [0, 1])
def test_at_its_ends_an_interpolation_is_one_of_the_two(two_generators, alpha):
    lr = np.random.default_rng(0).uniform(0, 255, (1, 9, 11, 3)).astype(np.float32)
    interpolated = generators.interpolate(*two_generators, alpha)(lr).numpy()
    pure, other = (two_generators[number](lr).numpy() for number in (alpha, 1 - alpha))
    np.testing.assert_array_equal(interpolated, pure)
    assert np.abs(interpolated - other).max() > 1


def test_an_interpolation_lies_between_the_two(two_generators):
    interpolated = generators.interpolate(*two_generators, 0.25)
    ends = (generator.weights for generator in two_generators)
    for found, one, other in zip(interpolated.weights, *ends, strict=True):
        np.testing.assert_allclose(found, 0.75 * one.numpy() + 0.25 * other.numpy(), rtol=1e-6)


@pytest.mark.parametrize("network", [(4, 8, 3), (4, 4, 2), (4, 8, 2, True, None, 0.0, 1.0, True)])
def test_different_networks_cannot_be_interpolated(network):
    with pytest.raises(UserError, match="interpolation: the two generators are different networks"):
        generators.interpolate(SRGAN.generator(4, 8, 2), SRGAN.generator(*network), 0.5)


def test_trained_generators_go_before_those_of_the_project(tmp_path):
    paths = Paths(outputs=str(tmp_path))
    trained = paths.pretrained_generator, paths.generator
    assert generators.choose_paths(paths) == (SHIPPED_GENERATORS["photo-pretrained"], SHIPPED_GENERATORS["photo"])
    assert generators.choose_paths(paths, trained=True) == trained
    (tmp_path / "models").mkdir()
    SRGAN.generator(4, 4, 1).save(paths.generator)
    assert generators.choose_paths(paths) == trained
