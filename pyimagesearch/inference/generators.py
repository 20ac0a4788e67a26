"""A trained generator, prepared for whole pictures: how far it sees, and how it becomes faster without changing."""

import logging
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pyimagesearch.config import SHIPPED_GENERATORS, Paths
from pyimagesearch.errors import UserError
from pyimagesearch.layers import PackedConv2D


class _Nothing(layers.Layer):
    """Stands in the place of a batch normalization that has been folded away."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return inputs


_POINTWISE = (
    _Nothing,
    layers.Activation,
    layers.Add,
    layers.BatchNormalization,
    layers.InputLayer,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ReLU,
    layers.Rescaling,
)


def choose_paths(paths: Paths, trained: bool = False) -> tuple[str, str]:
    """Return the paths of the pretrained and the SRGAN generator.

    Args:
        paths: where trained ones are.
        trained: whether to insist on them; otherwise, those of the project are taken if there is no trained SRGAN.
    """
    if trained or tf.io.gfile.exists(paths.generator):
        return paths.pretrained_generator, paths.generator
    logging.info("no trained SRGAN in %s: taking the one that came with the project", paths.outputs)
    return SHIPPED_GENERATORS["pretrained"], SHIPPED_GENERATORS["srgan"]


def choose_mixture(paths: Paths, share: float | None, trained: bool = False) -> tuple[list[str], float | None]:
    """Return the path of the generator that a `share` of SRGAN stands for, or two and the share; None stands for 1.

    The other arguments are those of `choose_paths`.
    """
    pretrained, srgan = choose_paths(paths, trained)
    if share in (None, 1):
        return [srgan], None
    return ([pretrained], None) if share == 0 else ([pretrained, srgan], share)


def load_mixture(paths: Sequence[str], share: float | None) -> keras.Model:
    """Load a generator, or with a `share` of the second the mixture of two, as `load_generator` and `blend` do."""
    loaded = [load_generator(path) for path in paths]
    return loaded[0] if share is None else blend(*loaded, share)


def load_generator(path: str) -> keras.Model:
    """Load a generator from a `.keras` file or `gs://` address, refusing files that want to run code.

    Raises:
        UserError: there is no such file, it wants to run code, or it holds something other than a generator.
    """
    if not tf.io.gfile.exists(path):
        raise UserError(f"{path}: no such model; make it with train_srgan.py")
    try:
        generator = keras.models.load_model(path, compile=False, safe_mode=True)
        scaling_factor(generator)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        if "safe_mode" in str(error):
            raise UserError(
                f"{path}: it wants to run code of its own, which is refused; use only models of train_srgan.py"
            ) from error
        raise UserError(f"{path}: not a generator; make one with train_srgan.py") from error
    return generator


def blend(faithful: keras.Model, sharp: keras.Model, share: float) -> keras.Model:
    """Return a generator whose weights lie between those of two (Wang et al., arXiv 1809.00219, section 3.4).

    Args:
        faithful: the pretrained generator.
        sharp: the SRGAN generator that came of it.
        share: of `sharp`, from 0 to 1.

    Raises:
        UserError: they are different networks.
    """
    pairs = list(zip(faithful.get_weights(), sharp.get_weights(), strict=False))
    if len(faithful.weights) != len(sharp.weights) or any(one.shape != other.shape for one, other in pairs):
        raise UserError("a mixture: the two generators are different networks; give a pretrained one and its SRGAN")
    blended = keras.models.clone_model(sharp)
    blended.set_weights([(1 - share) * one + share * other for one, other in pairs])
    return blended


def common_scale(models: Mapping[str, keras.Model]) -> int:
    """Return how many times larger all of some generators, by name, make pictures.

    Raises:
        UserError: they differ in that.
    """
    scales = {scaling_factor(model): name for name, model in models.items()}
    if len(scales) > 1:
        different = ", ".join(f"{name} ×{scale}" for scale, name in scales.items())
        raise UserError(f"one table holds generators of one scale only: {different}; measure them apart")
    return next(iter(scales))


def scaling_factor(generator: keras.Model) -> int:
    """Return how many times larger a generator makes pictures.

    Raises:
        ValueError: it does not turn pictures into larger pictures.
    """
    _, height, width, channels = keras.ops.shape(generator(tf.zeros((1, 8, 12, 3))))
    scale = height // 8
    if scale < 2 or (height, width, channels) != (8 * scale, 12 * scale, 3):
        raise ValueError(f"{generator.name}: [1, 8, 12, 3] becomes [1, {height}, {width}, {channels}]")
    return scale


class Halves(NamedTuple):
    """A generator in two networks, one after the other, and how many of its input's pixels each sees to every side.

    The trunk computes features [B, h, w, F] of LR pictures, the head enlarges them. The trunk sees far and is light in
    memory, the head is heavy but sees little.
    """

    trunk: keras.Model
    head: keras.Model
    trunk_reach: int
    head_reach: int


def split(generator: keras.Model) -> Halves:
    """Split a generator where its residual trunk ends, after the last addition.

    Raises:
        UserError: it has no such place, or layers of which it is not known how far they see.
    """
    reach = _reaches(generator)
    additions = [layer for layer in generator.layers if isinstance(layer, layers.Add)]
    if not additions:
        raise UserError(f"{generator.name}: not a residual generator; make one with train_srgan.py")
    middle = additions[-1].output
    trunk_reach, whole_reach = reach[id(middle)], reach[id(generator.output)]
    return Halves(
        keras.Model(generator.input, middle, name="trunk"),
        keras.Model(middle, generator.output, name="head"),
        math.ceil(trunk_reach),
        math.ceil(whole_reach - trunk_reach),
    )


def _reaches(generator: keras.Model) -> dict[int, Fraction]:
    """Return how far each tensor's pixels see to every side, in pixels of the input, by the tensor's id."""
    reaches, scales = {}, {}
    for operation in generator.operations:  # in the order of computation
        inputs = [] if isinstance(operation, layers.InputLayer) else keras.tree.flatten(operation.input)
        reach = max((reaches[id(tensor)] for tensor in inputs), default=Fraction(0))
        scale = max((scales[id(tensor)] for tensor in inputs), default=1)
        if isinstance(operation, layers.Conv2D) and operation.strides == (1, 1):
            reach += Fraction(max(operation.kernel_size) // 2 * max(operation.dilation_rate), scale)
        elif hasattr(operation, "block_size"):  # keras.ops.depth_to_space
            scale *= operation.block_size
        elif not isinstance(operation, _POINTWISE):
            raise UserError(
                f"{generator.name}: its layer {operation.name} is of an unknown kind; use models of train_srgan.py"
            )
        reaches[id(operation.output)], scales[id(operation.output)] = reach, scale
    return reaches


def fold_batch_norm(generator: keras.Model, dtype: str = "float32") -> keras.Model:
    """Return a generator that computes the same without batch normalization, which goes into the convolutions before.

    Args:
        generator: any; a batch normalization that follows no convolution stays.
        dtype: the policy of its layers; the first and the last convolution, and what is outside them, stay float32.
    """
    convolutions = [layer for layer in generator.layers if isinstance(layer, layers.Conv2D)]
    names = [layer.name for layer in generator.layers]
    first, last = (names.index(convolutions[place].name) for place in (0, -1))
    ends = {*names[: first + 1], *names[last:]}
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


def pack_last_convolution(head: keras.Model, scale: int) -> keras.Model:
    """Return a head that computes the same, its last convolution in a way that is faster on CPUs, if it can be.

    Args:
        head: from `split`.
        scale: the number that divides the width of all that it makes.
    """
    last = [layer for layer in head.layers if isinstance(layer, layers.Conv2D)][-1]
    if scale % max(2, last.kernel_size[1] // 2):
        return head

    def clone(operation: Any) -> Any:
        kind = PackedConv2D if operation is last else type(operation)
        return kind.from_config(operation.get_config())

    packed = keras.models.clone_model(head, clone_function=clone)
    packed.set_weights(head.get_weights())
    return packed


def _norms_after(convolutions: Sequence[layers.Conv2D], generator: keras.Model) -> dict[str, layers.BatchNormalization]:
    """Return the batch normalizations that follow a convolution, by its name."""
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
