"""The feature network of the perceptual loss."""

import logging

import h5py
import keras

from pyimagesearch.errors import UserError

_APPLICATIONS = {
    "vgg16": (keras.applications.VGG16, keras.applications.vgg16.preprocess_input),
    "vgg19": (keras.applications.VGG19, keras.applications.vgg19.preprocess_input),
}


class VGG:
    """The builder of the frozen feature network."""

    @staticmethod
    def settle(layer: str = "vgg19:block5_conv4", weights: str = "auto") -> str:
        """Return "imagenet" or "random" for "auto", whichever can be had, and other `weights` as they are."""
        network, _, _ = layer.partition(":")
        if weights != "auto" or network not in _APPLICATIONS:
            return weights
        try:
            _fetched(network)
        except UserError:
            logging.warning("the ImageNet weights of %s cannot be fetched: the content loss uses random ones", network)
            return "random"
        return "imagenet"

    @staticmethod
    def build(layer: str = "vgg19:block5_conv4", weights: str = "imagenet") -> keras.Model:
        """Build the network of the content loss (Simonyan and Zisserman, arXiv 1409.1556).

        Args:
            layer: "NETWORK:LAYER", where the features are taken; the paper's VGG54 is vgg19:block5_conv4.
            weights: "imagenet", fetched once and kept; "random"; "auto", imagenet or else random with a warning;
                or the path of a Keras `.h5` file that has at least the layers used.

        Returns:
            A frozen model from RGB [B, H, W, 3] in 0..255 to float32 features [B, h, w, C], divided by 12.75.

        Raises:
            UserError: there is no such layer, or the weights cannot be had or do not fit.
        """
        network, _, name = layer.partition(":")
        if network not in _APPLICATIONS:
            raise UserError(f"--vgg-layer {layer}: give it as NETWORK:LAYER with {' or '.join(_APPLICATIONS)}")
        _, preprocess_input = _APPLICATIONS[network]
        image = keras.Input((None, None, 3), name="image")
        x = preprocess_input(image)  # BGR, less the mean of ImageNet
        x = _features(network, name, weights)(x)  # [B, h, w, C]
        x = keras.layers.Rescaling(1 / 12.75, dtype="float32")(x)
        vgg = keras.Model(image, x, name="vgg")
        vgg.trainable = False
        return vgg


def _features(network: str, layer: str, weights: str) -> keras.Model:
    if weights == "imagenet":
        return _cut(_fetched(network), layer)
    if weights == "auto":
        return _features(network, layer, VGG.settle(network, weights))
    build, _ = _APPLICATIONS[network]
    features = _cut(build(include_top=False, weights=None), layer)
    if weights == "random":
        _randomize(features)
    else:
        _load(features, weights)
    return features


def _fetched(network: str) -> keras.Model:
    build, _ = _APPLICATIONS[network]
    try:
        return build(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises nothing more specific when it cannot fetch a file
        raise UserError(
            f"--vgg-weights imagenet: the weights of {network} cannot be fetched; go online once, "
            "give a Keras .h5 file with --vgg-weights PATH, or take --vgg-weights random"
        ) from error


def _cut(base: keras.Model, layer: str) -> keras.Model:
    names = [layer.name for layer in base.layers[1:]]
    if layer not in names:
        raise UserError(f"--vgg-layer: {base.name} has no layer {layer!r}; choose from {', '.join(names)}")
    return keras.Model(base.input, base.get_layer(layer).output)


def _convolutions(features: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in features.layers if layer.weights]


def _randomize(features: keras.Model) -> None:
    """Apply the He initialization, which keeps the features' magnitude at any depth (arXiv 1502.01852).

    The same numbers each time, so that the loss that they define is always the same.
    """
    for number, layer in enumerate(_convolutions(features)):
        layer.kernel.assign(keras.initializers.HeNormal(seed=number)(layer.kernel.shape))


def _load(features: keras.Model, path: str) -> None:
    problem = f"--vgg-weights {path}: not a Keras .h5 file with the weights of {features.layers[-1].name} and below"
    try:
        with h5py.File(path) as file:
            stored = set(file.get("model_weights", file))
        features.load_weights(path, by_name=True)
    except (OSError, ValueError) as error:
        raise UserError(problem) from error
    missing = [layer.name for layer in _convolutions(features) if layer.name not in stored]
    if missing:
        raise UserError(f"{problem}: it lacks {', '.join(missing)}")
