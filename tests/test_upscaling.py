import keras
import numpy as np
import pytest

from pyimagesearch import upscaling
from pyimagesearch.errors import UserError
from pyimagesearch.srgan import SRGAN


def test_a_saved_generator_is_loaded_with_its_scale(tmp_path):
    path = str(tmp_path / "generator.keras")
    SRGAN.generator(2, 4, 1).save(path)
    generator = upscaling.load_generator(path)
    assert upscaling.scaling_factor(generator) == 2
    sr = upscaling.super_resolve(upscaling.compiled(generator), np.zeros((2, 5, 7, 3), np.uint8))
    assert sr.shape == (2, 10, 14, 3) and sr.dtype == np.uint8


def test_a_strategy_computes_each_picture_once(two_replicas):
    lr = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    with two_replicas.scope():
        generator = SRGAN.generator(4, 4, 1)
        mirrored = upscaling.super_resolve(upscaling.compiled(generator), lr)
    assert mirrored.shape == (2, 20, 28, 3)
    np.testing.assert_array_equal(mirrored, upscaling.to_uint8(generator(lr.astype("float32")).numpy()))


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match="generator.keras: no such model; make it with train_srgan.py"):
        upscaling.load_generator(str(tmp_path / "generator.keras"))


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


def write_code(path):
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.Lambda(lambda x: x)]).save(path)


@pytest.mark.parametrize(
    "write", [write_text, write_truncated, write_classifier, write_discriminator, write_same_size, write_code]
)
def test_a_foreign_model_is_named(tmp_path, write):
    path = tmp_path / "foreign.keras"
    write(path)
    with pytest.raises(UserError, match="foreign.keras: not a generator"):
        upscaling.load_generator(str(path))


def test_bicubic_keeps_a_plane_and_enlarges_by_the_scale():
    lr = np.full((1, 6, 5, 3), 77, np.uint8)
    np.testing.assert_array_equal(upscaling.bicubic(lr, 4), np.full((1, 24, 20, 3), 77))
