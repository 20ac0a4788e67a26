"""Trained generators, prepared for whole images.

This module loads and interpolates generators, computes their receptive fields, and rewrites them into networks that
compute the same results faster.
"""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pyimagesearch.config import SHIPPED_GENERATORS, Paths
from pyimagesearch.errors import UserError


class _Nothing(layers.Layer):
    """The identity: it replaces a batch normalization that has been folded into a convolution."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return inputs


_POINTWISE = (
    _Nothing,
    layers.Activation,
    layers.Add,
    layers.BatchNormalization,
    layers.Concatenate,
    layers.InputLayer,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ReLU,
    layers.Rescaling,
)
_INTERPOLATION = (layers.Concatenate, layers.AveragePooling2D)  # of the input; see `global_skip` of `SRGAN.generator`


def choose_paths(paths: Paths, trained: bool = False) -> tuple[str, str]:
    """Return the paths of the pretrained generator and of the SRGAN generator.

    Args:
        paths: the folders of a training.
        trained: whether to return the generators of that training even if they do not exist. Otherwise, the generators
            for photographs that come with the project replace them if there is no trained SRGAN generator.

    Returns:
        Two paths: `(pretrained, srgan)`.
    """
    if trained or tf.io.gfile.exists(paths.generator):
        return paths.pretrained_generator, paths.generator
    logging.info("no trained SRGAN generator in %s: using the one that comes with the project", paths.outputs)
    return SHIPPED_GENERATORS["photo-pretrained"], SHIPPED_GENERATORS["photo"]


def choose_interpolation(paths: Paths, alpha: float | None, trained: bool = False) -> tuple[list[str], float | None]:
    """Return the generators that are needed for an interpolation with `alpha`.

    Args:
        paths: as in `choose_paths`.
        alpha: from 0, the pretrained generator, to 1, SRGAN. None means 1.
        trained: as in `choose_paths`.

    Returns:
        The arguments of `load_interpolated`: one path and None for `alpha` 0 or 1, otherwise two paths and `alpha`.
    """
    return needed_for(*choose_paths(paths, trained), alpha)


def needed_for(pretrained: str, srgan: str, alpha: float | None) -> tuple[list[str], float | None]:
    """Return those of two generators that an interpolation with `alpha` needs, as `choose_interpolation` does.

    Args:
        pretrained: the path of the pretrained generator.
        srgan: the path of the SRGAN generator.
        alpha: as in `choose_interpolation`.
    """
    if alpha in (None, 1):
        return [srgan], None
    return ([pretrained], None) if alpha == 0 else ([pretrained, srgan], alpha)


def load_interpolated(paths: Sequence[str], alpha: float | None) -> keras.Model:
    """Load one generator, or load two and interpolate their weights.

    Args:
        paths: one path, or with `alpha` the paths of the pretrained generator and of the SRGAN generator.
        alpha: None, or the weight of the second generator from 0 to 1; see `interpolate`.

    Raises:
        UserError: see `load_generator` and `interpolate`.
    """
    loaded = [load_generator(path) for path in paths]
    return loaded[0] if alpha is None else interpolate(*loaded, alpha)


def load_generator(path: str) -> keras.Model:
    """Load a generator from a `.keras` file.

    Args:
        path: a path, or a `gs://` address.

    Raises:
        UserError: the file does not exist, contains Python code, or is not a generator.
    """
    return load_network(path, "generator", scaling_factor)


def load_network(path: str, kind: str, check: Callable[[keras.Model], Any]) -> keras.Model:
    """Load a network from a `.keras` file.

    Args:
        path: a path, or a `gs://` address.
        kind: the name of such a network, for the error message.
        check: a function that raises `ValueError`, `TypeError` or `AttributeError` if the network is of another kind.

    Raises:
        UserError: the file does not exist, contains Python code, or has another kind of network.
    """
    if not tf.io.gfile.exists(path):
        raise UserError(f"{path}: no such model; make it with train_srgan.py")
    try:
        network = keras.models.load_model(path, compile=False, safe_mode=True)
        check(network)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        if "safe_mode" in str(error):
            raise UserError(f"{path}: contains Python code, which is not run; use a model of train_srgan.py") from error
        raise UserError(f"{path}: not a {kind}; make one with train_srgan.py") from error
    return network


def interpolate(pretrained: keras.Model, srgan: keras.Model, alpha: float) -> keras.Model:
    """Interpolate the weights of two generators: `(1 - alpha) * pretrained + alpha * srgan`.

    See "network interpolation" in Wang et al., arXiv 1809.00219, section 3.4.

    Args:
        pretrained: the pretrained generator.
        srgan: the SRGAN generator that was fine-tuned from it.
        alpha: from 0, the pretrained generator, to 1, SRGAN.

    Returns:
        A new generator.

    Raises:
        UserError: the generators are different networks.
    """
    if outline(pretrained) != outline(srgan):
        raise UserError(
            "interpolation: the two generators are different networks; "
            "give a pretrained generator and the SRGAN generator that was trained from it"
        )
    interpolated = keras.models.clone_model(srgan)
    pairs = zip(pretrained.get_weights(), srgan.get_weights(), strict=True)
    interpolated.set_weights([(1 - alpha) * one + alpha * other for one, other in pairs])
    return interpolated


def outline(network: keras.Model) -> list[tuple[type, list[tuple[int, ...]]]]:
    """Return the classes of the layers and the shapes of their weights. Equal networks have equal outlines."""
    return [(type(layer), [tuple(weight.shape) for weight in layer.weights]) for layer in network.layers]


def license_of(paths: Sequence[str]) -> str | None:
    """Return the licence of the weights: "MIT" for generators that come with the project, otherwise None.

    Args:
        paths: the paths of a generator, or of the generators that are interpolated.
    """
    shipped = {os.path.realpath(path) for path in SHIPPED_GENERATORS.values()}
    return "MIT" if shipped.issuperset(map(os.path.realpath, paths)) else None


def common_scale(models: Mapping[str, keras.Model]) -> int:
    """Return the scaling factor that all generators have.

    Args:
        models: generators by name.

    Raises:
        UserError: the generators have different scaling factors.
    """
    scales = {scaling_factor(model): name for name, model in models.items()}
    if len(scales) > 1:
        different = ", ".join(f"{name} ×{scale}" for scale, name in scales.items())
        raise UserError(f"the generators have different scaling factors: {different}; measure them in separate runs")
    return next(iter(scales))


def scaling_factor(generator: keras.Model) -> int:
    """Return the scaling factor of a generator: the height of `sr` divided by the height of `lr`.

    Args:
        generator: a model from [B, h, w, 3].

    Raises:
        ValueError: the network does not upscale RGB images by a whole number of at least 2.
    """
    _, height, width, channels = keras.ops.shape(generator(tf.zeros((1, 8, 12, 3))))
    scale = height // 8
    if scale < 2 or (height, width, channels) != (8 * scale, 12 * scale, 3):
        raise ValueError(f"{generator.name}: [1, 8, 12, 3] becomes [1, {height}, {width}, {channels}]")
    return scale


class Halves(NamedTuple):
    """A generator, split into two networks that are computed one after the other.

    The trunk has a large receptive field and needs little memory. The head has a small receptive field and needs much
    memory, because it computes at the resolution of the result.

    Attributes:
        trunk: computes features [B, h, w, F] of LR images [B, h, w, 3].
        head: computes images [B, S*h, S*w, 3] of the features.
        trunk_reach: the radius of the trunk's receptive field, in LR pixels.
        head_reach: the radius of the head's receptive field, in LR pixels.
    """

    trunk: keras.Model
    head: keras.Model
    trunk_reach: int
    head_reach: int


def split(generator: keras.Model) -> Halves:
    """Split a generator after its last addition at the resolution of `lr`, where the residual trunk ends.

    If the head needs `lr` itself, the trunk returns it as three more features.

    Args:
        generator: from `load_generator`.

    Raises:
        UserError: the generator has no such addition, or has layers whose receptive field is unknown.
    """
    fields = _fields(generator)
    sums = [layer.output for layer in generator.layers if isinstance(layer, layers.Add)]
    sums = [tensor for tensor in sums if fields[id(tensor)].scale == 1]
    if not sums:
        raise UserError(f"{generator.name}: not a residual generator; make one with train_srgan.py")
    trunk_reach, whole_reach = (math.ceil(fields[id(tensor)].reach) for tensor in (sums[-1], generator.output))
    return Halves(*_halves(generator, sums[-1]), trunk_reach, whole_reach - trunk_reach)


def _halves(generator: keras.Model, middle: keras.KerasTensor) -> tuple[keras.Model, keras.Model]:
    lr = generator.input
    if not any(isinstance(layer, _INTERPOLATION) for layer in generator.layers):
        return keras.Model(lr, middle, name="trunk"), keras.Model(middle, generator.output, name="head")
    features = layers.Concatenate(dtype="float32")([middle, lr])  # [B, h, w, F + 3]
    inputs = keras.Input(features.shape[1:])
    sr = keras.Model([middle, lr], generator.output)([inputs[..., :-3], inputs[..., -3:]])
    return keras.Model(lr, features, name="trunk"), keras.Model(inputs, sr, name="head")


class _Field(NamedTuple):
    """The radius of a tensor's receptive field in pixels of the input, and its scale relative to the input."""

    reach: Fraction
    scale: int


def _fields(generator: keras.Model) -> dict[int, _Field]:
    """Return the receptive field of each tensor, by the tensor's id."""
    fields = {}
    for operation in generator.operations:  # in the order of computation
        inputs = [] if isinstance(operation, layers.InputLayer) else keras.tree.flatten(operation.input)
        reach = max((fields[id(tensor)].reach for tensor in inputs), default=Fraction(0))
        scale = max((fields[id(tensor)].scale for tensor in inputs), default=1)
        if isinstance(operation, layers.Conv2D) and operation.strides == (1, 1):
            reach += Fraction(max(operation.kernel_size) // 2 * max(operation.dilation_rate), scale)
        elif isinstance(operation, layers.AveragePooling2D) and operation.strides == (1, 1):
            reach += Fraction(max(operation.pool_size) // 2, scale)
        elif hasattr(operation, "block_size"):  # keras.ops.depth_to_space
            scale *= operation.block_size
        elif not isinstance(operation, _POINTWISE) and type(operation).__name__ != "GetItem":
            raise UserError(
                f"{generator.name}: the receptive field of its layer {operation.name} is unknown; "
                "use a model of train_srgan.py"
            )
        fields[id(operation.output)] = _Field(reach, scale)
    return fields


def fold_batch_norm(generator: keras.Model, dtype: str = "float32") -> keras.Model:
    """Fold each batch normalization into the convolution before it.

    Args:
        generator: any generator. A batch normalization that does not follow a convolution is kept.
        dtype: the dtype policy of the layers. The first and the last convolution, the layers before the first one, the
            layers after the last one and the interpolation of the input are computed in float32.

    Returns:
        A new generator that computes the same function as inference with `generator` does.
    """
    convolutions = [layer for layer in generator.layers if isinstance(layer, layers.Conv2D)]
    names = [layer.name for layer in generator.layers]
    first, last = (names.index(convolutions[place].name) for place in (0, -1))
    ends = {*names[: first + 1], *names[last:]}
    ends |= {layer.name for layer in generator.layers if isinstance(layer, _INTERPOLATION)}
    norms = _norms_after(convolutions, generator)
    folded_away = {norm.name for norm in norms.values()}

    def clone(operation: Any) -> Any:
        if operation.name in folded_away:
            return _Nothing(name=operation.name, dtype=dtype)
        config = operation.get_config()
        if isinstance(operation, layers.Layer):
            config["dtype"] = "float32" if operation.name in ends else dtype
        return operation.from_config(config)

    folded = keras.models.clone_model(generator, clone_function=clone)
    for layer in generator.layers:
        if layer.name not in folded_away:
            norm = norms.get(layer.name)
            folded.get_layer(layer.name).set_weights(_folded(layer, norm) if norm else layer.get_weights())
    return folded


def shuffle_last(generator: keras.Model) -> keras.Model:
    """Move the last depth-to-space of a generator behind the last convolution, which is faster on CPUs.

    A convolution behind a depth-to-space by r equals a convolution with a kernel of about 1 / r of the size before it,
    whose filters compute blocks of r x r pixels. So no layer has many pixels and few channels.

    Args:
        generator: from `fold_batch_norm`.

    Returns:
        A new generator that computes the same and shares layers with `generator`, or `generator` itself if other layers
        than PReLU are between the two.
    """
    interpolation = _interpolation(generator)
    operations = [operation for operation in generator.operations if operation not in interpolation]
    shuffles = [place for place, operation in enumerate(operations) if hasattr(operation, "block_size")]
    end = operations[shuffles[-1] :] if shuffles else []
    convolutions = [operation for operation in end if isinstance(operation, layers.Conv2D)]
    if len(convolutions) != 1 or not _is_movable(end, convolutions[0], interpolation):
        return generator
    shuffle, (last,), place = end[0], convolutions, end.index(convolutions[0])
    size, x = shuffle.block_size, shuffle.input  # [B, H / r, W / r, r * r * C]
    for prelu in end[1:place]:
        x = _with(prelu, x, np.tile(prelu.get_weights()[0], size * size))
    kernel, bias = last.get_weights()
    kernel = _before_shuffle(kernel, size)
    shape = {"filters": kernel.shape[-1], "kernel_size": kernel.shape[:2]}
    x = _copy(shuffle)(_with(last, x, kernel, np.tile(bias, size * size), **shape))  # [B, H, W, 3]
    for later in map(_copy, end[place + 1 :]):
        x = later([x, _interpolated(generator.input, *interpolation[1:])] if isinstance(later, layers.Add) else x)
    return keras.Model(generator.input, x, name=generator.name)


def _interpolation(network: keras.Model) -> list[Any]:
    """Return the operations of the interpolation of `global_skip`: Concatenate, depth-to-space, AveragePooling2D.

    The list is empty if a network has no such interpolation.
    """
    makers = {id(operation.output): operation for operation in network.operations}
    for pooling in network.operations:
        if isinstance(pooling, layers.AveragePooling2D) and pooling.padding == "same" and pooling.strides == (1, 1):
            shuffle = makers.get(id(pooling.input))
            copies = makers.get(id(getattr(shuffle, "input", None)))
            is_of_input = isinstance(copies, layers.Concatenate) and all(x is network.input for x in copies.input)
            if is_of_input and pooling.pool_size == (getattr(shuffle, "block_size", 0) + 1,) * 2:
                return [copies, shuffle, pooling]
    return []


def _interpolated(lr: keras.KerasTensor, shuffle: Any, pooling: layers.AveragePooling2D) -> keras.KerasTensor:
    """Compute the interpolation of `global_skip` before its depth-to-space, where there are fewer pixels.

    Args:
        lr: images [B, h, w, 3].
        shuffle: the depth-to-space by S.
        pooling: averages S + 1 pixels in each direction.

    Returns:
        [B, S*h, S*w, 3].
    """
    size = shuffle.block_size
    rows = np.arange(-size, 2 * size)  # of a block of S x S pixels and its neighbours
    seen = abs(rows[:, None] - np.arange(size)) <= size // 2  # [3 * S, S], by the pixels of the block
    taps = seen.reshape(3, size, size).sum(axis=1) / (size + 1)  # [3, S]
    kernel = np.einsum("yi,xj,cd->yxcijd", taps, taps, np.eye(3)).reshape(3, 3, 3, -1)
    rows, columns = (layers.Concatenate(axis, dtype="float32", name=f"{pooling.name}_{axis}") for axis in (1, 2))
    x = rows([lr[:, :1], lr, lr[:, -1:]])  # the border is repeated
    x = columns([x[:, :, :1], x, x[:, :, -1:]])  # [B, h + 2, w + 2, 3]
    conv = layers.Conv2D(kernel.shape[-1], 3, use_bias=False, dtype="float32", name=f"{pooling.name}_convolution")
    x = _copy(shuffle)(conv(x))
    conv.set_weights([kernel])
    return x


def _copy(operation: Any) -> Any:
    """Return a copy without weights. An operation that is used in two models would have two outputs."""
    return operation.from_config(operation.get_config())


def _is_movable(end: Sequence[Any], last: layers.Conv2D, interpolation: Sequence[Any]) -> bool:
    """Return whether a depth-to-space, the first operation of the end of a model, can be moved behind `last`.

    The end of a model is a chain, except that the interpolation may be added to it.
    """
    added = [id(operation.output) for operation in interpolation]
    inputs = [[id(x) for x in keras.tree.flatten(later.input) if id(x) not in added] for later in end[1:]]
    is_chain = inputs == [[id(earlier.output)] for earlier in end[:-1]]
    between = end[1 : end.index(last)]
    shared = all(isinstance(layer, layers.PReLU) and set(layer.shared_axes or ()) == {1, 2} for layer in between)
    length, width = last.kernel_size
    plain = last.padding == "same" and last.strides == last.dilation_rate == (1, 1) and last.groups == 1
    return is_chain and shared and plain and last.use_bias and length == width and length % 2 == 1


def _with(layer: layers.Layer, x: keras.KerasTensor, *weights: np.ndarray, **shape: Any) -> keras.KerasTensor:
    """Apply a layer with other weights and another shape."""
    copy = layer.from_config(layer.get_config() | shape)
    y = copy(x)
    copy.set_weights(weights)
    return y


def _before_shuffle(kernel: np.ndarray, size: int) -> np.ndarray:
    """Return the kernel that computes before a depth-to-space by r what another kernel computes behind it.

    Args:
        kernel: the other kernel, [k, k, C, F] with an odd k.
        size: r.

    Returns:
        [n, n, r * r * C, r * r * F], where n is 2 * ceil((k // 2) / r) + 1.
    """
    length, _, channels, filters = kernel.shape
    reach = -(-(length // 2) // size)
    moved = np.zeros((2 * reach + 1, 2 * reach + 1, size, size, channels, size, size, filters), kernel.dtype)
    for row, column in np.ndindex(size, size):  # of a pixel in its block
        (y, i), (x, j) = (np.divmod(np.arange(length) - length // 2 + place, size) for place in (row, column))
        moved[y[:, None] + reach, x + reach, i[:, None], j, :, row, column] = kernel
    return moved.reshape(2 * reach + 1, 2 * reach + 1, size * size * channels, size * size * filters)


def _norms_after(convolutions: Sequence[layers.Conv2D], generator: keras.Model) -> dict[str, layers.BatchNormalization]:
    """Return the batch normalizations that follow a convolution, by the name of the convolution."""
    makers = {id(convolution.output): convolution.name for convolution in convolutions}
    return {
        makers[id(layer.input)]: layer
        for layer in generator.layers
        if isinstance(layer, layers.BatchNormalization) and id(layer.input) in makers
    }


def _folded(convolution: layers.Conv2D, norm: layers.BatchNormalization) -> list[np.ndarray]:
    kernel, bias = (weight.astype(np.float64) for weight in convolution.get_weights())
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in norm.get_weights())
    factor = gamma / np.sqrt(variance + norm.epsilon)  # [F]
    return [kernel * factor, (bias - mean) * factor + beta]
