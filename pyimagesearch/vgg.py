"""The feature network of the content loss and of the perceptual distance."""

import logging
from collections.abc import Sequence

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
    def resolve_weights(layer: str = "vgg19:block5_conv4", weights: str = "auto") -> str:
        """Resolve the weights "auto".

        Args:
            layer: as in `build`.
            weights: as in `build`.

        Returns:
            For "auto": "imagenet", or "random" with a warning if the ImageNet weights cannot be downloaded. Otherwise
            `weights`.
        """
        network, _, _ = layer.partition(":")
        if weights != "auto" or network not in _APPLICATIONS:
            return weights
        try:
            _fetched(network)
        except UserError:
            logging.warning(
                "the ImageNet weights of %s cannot be downloaded: the content loss uses random weights", network
            )
            return "random"
        return "imagenet"

    @staticmethod
    def build(
        layer: str = "vgg19:block5_conv4", weights: str = "imagenet", before_activation: bool = False
    ) -> keras.Model:
        """Build the network of the content loss (Simonyan and Zisserman, arXiv 1409.1556).

        Args:
            layer: "NETWORK:LAYER", the layer whose output is used. The paper's VGG54 is vgg19:block5_conv4. Several
                layers of a network are separated by commas.
            weights: "imagenet", downloaded once and cached by Keras; "random"; "auto", see `resolve_weights`; or the
                path of a Keras `.h5` file that has at least the layers that are used.
            before_activation: whether features are taken before the ReLU of their layers.

        Returns:
            A frozen model from RGB [B, H, W, 3] in 0..255 to float32 features [B, h, w, C]. The features are divided by
            12.75, as in Ledig et al., arXiv 1609.04802. With several layers the output is a list of features.

        Raises:
            UserError: the layer does not exist, or the weights cannot be downloaded, read or used.
        """
        network, _, names = layer.partition(":")
        if network not in _APPLICATIONS:
            raise UserError(f"VGG layer {layer}: write it as NETWORK:LAYER with {' or '.join(_APPLICATIONS)}")
        _, preprocess_input = _APPLICATIONS[network]
        image = keras.Input((None, None, 3), name="image")
        x = preprocess_input(image)  # BGR, minus the mean of ImageNet
        features = _tap(_features(network, names.split(","), weights), names.split(","), x, before_activation)
        features = [keras.layers.Rescaling(1 / 12.75, dtype="float32")(x) for x in features]
        vgg = keras.Model(image, features if len(features) > 1 else features[0], name="vgg")
        vgg.trainable = False
        return vgg


def _features(network: str, names: Sequence[str], weights: str) -> keras.Model:
    if weights == "imagenet":
        return _cut(_fetched(network), names)
    if weights == "auto":
        return _features(network, names, VGG.resolve_weights(network, weights))
    build, _ = _APPLICATIONS[network]
    features = _cut(build(include_top=False, weights=None), names)
    if weights == "random":
        _randomize(features)
    else:
        _load(features, weights)
    return features


def _tap(
    features: keras.Model, names: Sequence[str], x: keras.KerasTensor, before_activation: bool
) -> list[keras.KerasTensor]:
    """Return the outputs of the named layers for the input `x`, in the order of the network."""
    first, tapped = features.layers[1], []
    first.dtype_policy = "float32"  # 16 bits would round images by one or two levels
    for layer in features.layers[1:]:
        is_tapped = layer.name in names
        if is_tapped and before_activation and layer.weights:
            layer.activation = keras.activations.linear
        x = layer(x)
        if is_tapped:
            tapped.append(x)
            x = keras.ops.relu(x)
    return tapped


def _fetched(network: str) -> keras.Model:
    build, _ = _APPLICATIONS[network]
    try:
        return build(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises no specific exception if a download fails
        raise UserError(
            f"the ImageNet weights of {network} cannot be downloaded; connect to the internet once, give the path of a "
            "Keras .h5 file, or use random weights"
        ) from error


def _cut(base: keras.Model, names: Sequence[str]) -> keras.Model:
    known = [layer.name for layer in base.layers[1:]]
    for name in names:
        if name not in known:
            raise UserError(f"VGG layer: {base.name} has no layer {name!r}; choose one of {', '.join(known)}")
    deepest = max(names, key=known.index)
    return keras.Model(base.input, base.get_layer(deepest).output)


def _convolutions(features: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in features.layers if layer.weights]


def _randomize(features: keras.Model) -> None:
    """Initialize with the method of He et al., arXiv 1502.01852, which keeps the magnitude of features at any depth.

    The seeds are fixed, so that the loss is the same in each run.
    """
    for number, layer in enumerate(_convolutions(features)):
        layer.kernel.assign(keras.initializers.HeNormal(seed=number)(layer.kernel.shape))


def _load(features: keras.Model, path: str) -> None:
    problem = f"VGG weights {path}: not a Keras .h5 file with the weights of {features.layers[-1].name} and below"
    try:
        with h5py.File(path) as file:
            stored = set(file.get("model_weights", file))
        features.load_weights(path, by_name=True)
    except (OSError, ValueError) as error:
        raise UserError(problem) from error
    missing = [layer.name for layer in _convolutions(features) if layer.name not in stored]
    if missing:
        raise UserError(f"{problem}: missing layers {', '.join(missing)}")
