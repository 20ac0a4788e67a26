import keras
import numpy as np
import pytest

from pyimagesearch.errors import UserError
from pyimagesearch.vgg import VGG

PHOTO = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3)).astype("float32")


def by_hand(base, layer):
    """The features as the tutorial takes them: BGR, the mean of ImageNet off, divided by 12.75."""
    features = keras.Model(base.input, base.get_layer(layer).output)
    return features(PHOTO[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32")).numpy() / 12.75


def test_the_default_layer_is_the_papers_vgg54():
    vgg = VGG.build(weights="random")
    assert vgg(PHOTO).shape == (1, 2, 3, 512)
    assert keras.applications.VGG19(include_top=False, weights=None).layers[20].name == "block5_conv4"


@pytest.mark.parametrize(("network", "layer"), [("vgg19", "block1_conv2"), ("vgg16", "block2_conv1")])
def test_features_come_from_the_file_given(tmp_path, network, layer):
    build = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[network]
    base = build(include_top=False, weights=None)
    base.save_weights(tmp_path / "some.weights.h5")
    base.save(tmp_path / "legacy.h5")
    vgg = VGG.build(f"{network}:{layer}", str(tmp_path / "legacy.h5"))
    np.testing.assert_allclose(vgg(PHOTO), by_hand(base, layer), rtol=1e-5, atol=1e-5)


def test_several_layers_give_their_features_in_the_order_of_the_network():
    layers = ("block1_conv2", "block2_conv1")
    both = VGG.build(f"vgg19:{','.join(reversed(layers))}", "random")(PHOTO)
    for features, layer in zip(both, layers, strict=True):
        np.testing.assert_allclose(features, VGG.build(f"vgg19:{layer}", "random")(PHOTO), rtol=1e-5, atol=1e-5)


def test_features_before_the_activation_are_those_that_it_cuts():
    layers = "vgg16:block1_conv1,block2_conv1"
    for before, after in zip(
        VGG.build(layers, "random", before_activation=True)(PHOTO), VGG.build(layers, "random")(PHOTO), strict=True
    ):
        assert np.min(before) < 0
        np.testing.assert_allclose(np.maximum(before, 0), after, rtol=1e-5, atol=1e-5)


def test_in_16_bits_the_first_layer_sees_the_image_in_32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    vgg = VGG.build("vgg19:block1_conv1,block1_conv2", "random")
    keras.config.set_dtype_policy("float32")
    first, _ = vgg(PHOTO)
    exact = VGG.build("vgg19:block1_conv1", "random")(PHOTO)
    np.testing.assert_allclose(first, exact, rtol=1e-4, atol=1e-4)
    assert vgg.get_layer("block1_conv2").compute_dtype == "bfloat16"


def test_nothing_in_it_is_trained():
    assert VGG.build("vgg19:block1_conv2", "random").trainable_variables == []


def test_random_features_keep_their_magnitude_at_any_depth():
    layers = ("vgg19:block1_conv2", "vgg19:block5_conv4")
    shallow, deep = (np.std(VGG.build(layer, "random")(PHOTO)) for layer in layers)
    assert 0.2 < deep / shallow < 5


@pytest.mark.parametrize("layer", ["vgg19:block9_conv1", "vgg16:block5_conv4", "vgg19", "resnet50:conv1"])
def test_an_unknown_layer_is_named(layer):
    with pytest.raises(UserError, match="VGG layer"):
        VGG.build(layer, "random")


@pytest.fixture
def offline(monkeypatch):
    """Without a network and without cached weights."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def test_imagenet_weights_that_cannot_be_downloaded_are_refused_with_advice(offline):
    with pytest.raises(
        UserError, match="the ImageNet weights of .* cannot be downloaded; .*the path of a Keras .h5 file"
    ):
        VGG.build("vgg19:block1_conv2", "imagenet")


def test_auto_falls_back_to_random_weights_with_a_warning(offline, caplog):
    assert VGG.build("vgg19:block1_conv2", "auto")(PHOTO).shape == (1, 32, 48, 64)
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "random" in caplog.text


def test_a_missing_or_foreign_weights_file_is_named(tmp_path):
    (tmp_path / "photo.h5").write_bytes(b"not HDF5")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.h5")
    for name in ("missing.h5", "photo.h5", "other.h5"):
        with pytest.raises(UserError, match=f"VGG weights .*{name}: not a Keras .h5 file"):
            VGG.build("vgg19:block1_conv2", str(tmp_path / name))


def test_weights_of_too_few_layers_are_refused(shared_data):
    path = str(shared_data / "vgg" / "vgg19_imagenet_block1-3_keras.h5")
    with pytest.raises(UserError, match="missing layers block4_conv1"):
        VGG.build("vgg19:block4_conv1", path)


@pytest.mark.parametrize(
    ("layer", "file"),
    [
        ("vgg16:block5_conv3", "vgg16_imagenet_notop_keras.h5"),
        ("vgg19:block2_conv2", "vgg19_imagenet_block1-3_keras.h5"),
    ],
)
def test_imagenet_features_are_those_of_keras(shared_data, layer, file):
    network, name = layer.split(":")
    base = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[network](
        include_top=False, weights=None
    )
    base.load_weights(shared_data / "vgg" / file, by_name=True)
    vgg = VGG.build(layer, str(shared_data / "vgg" / file))
    np.testing.assert_allclose(vgg(PHOTO), by_hand(base, name), rtol=1e-4, atol=1e-4)
