"""A generator in the formats of other runtimes, SavedModel, ONNX and LiteRT, or in half the space."""

import contextlib
import importlib
import io
import logging
import os
import warnings
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.errors import UserError
from pyimagesearch.files import reason, written_whole
from pyimagesearch.inference.generators import fold_batch_norm


class Format(NamedTuple):
    """How a format's files or folders end, of which dtype its images are, what Keras calls it, what it needs."""

    ending: str
    dtype: str
    keras_name: str | None = None
    package: str | None = None


FORMATS = {
    "saved_model": Format("_saved_model", "uint8", "tf_saved_model"),
    "onnx": Format(".onnx", "float32", "onnx", "tf2onnx"),
    "litert": Format(".tflite", "float32", "litert"),
    "keras": Format(".keras", "float32"),
}


def require_package(format: str) -> None:
    """Import what a format needs besides TensorFlow.

    Raises:
        UserError: it is not installed.
    """
    if package := FORMATS[format].package:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise UserError(
                f"the format {format} needs {error.name}; pip install -r requirements-export.txt"
            ) from error


def choose_output(
    model: str, format: str, output: str | None = None, overwrite: bool = False, beside: str | None = None
) -> str:
    """Return where a model is exported to.

    Args:
        model: the path of the model.
        format: a key of `FORMATS`.
        output: where to; by default beside the model, with the format's ending.
        overwrite: whether an earlier export there may be replaced; anything else is left alone all the same.
        beside: the path that takes the place of the model's in that default.

    Raises:
        UserError: something is there that must stay, or a result of that format cannot be there.
    """
    ending = FORMATS[format].ending
    path = output or os.path.splitext(beside or model)[0] + ending
    if path.startswith("gs://"):
        raise UserError(f"{path}: exports are written to this machine alone; give a path on it")
    if not _is_folder(format) and not path.endswith(ending):
        raise UserError(f"{path}: the format {format} makes a file that ends in {ending}; name it so")
    path = os.path.normpath(path)
    if os.path.realpath(path) == os.path.realpath(model):
        raise UserError(f"{path}: the model itself, which stays as it is; choose another name")
    if os.path.lexists(path):
        _check_replaceable(path, format, overwrite)
    return path


def _is_folder(format: str) -> bool:
    return not FORMATS[format].ending.startswith(".")


def _check_replaceable(path: str, format: str, overwrite: bool) -> None:
    if not overwrite:
        raise UserError(f"{path}: exists already; allow it to be overwritten, or choose another name")
    is_export = tf.saved_model.contains_saved_model if _is_folder(format) else os.path.isfile
    if not is_export(path):
        raise UserError(f"{path}: not an export of the format {format}, so it is left alone; choose another name")


def export(generator: keras.Model, format: str, output: str) -> None:
    """Write a generator in another format. It appears when it is complete, in place of an earlier one.

    Its input is called `lr`, RGB [B, H, W, 3] in 0..255, its output `sr`, RGB [B, S*H, S*W, 3] in 0..255, for any B, H
    and W. Both are uint8 in a SavedModel, whose signature is "serving_default", and float32 in ONNX and LiteRT; for
    8 bits, round and clip what those give. Batch normalization has gone into the convolutions. A `.keras` file holds
    the generator as it is, to be trained further, too, but its weights in 16 bits; when loaded, they have 32 again.

    Args:
        generator: from `generators.load_generator`.
        format: a key of `FORMATS`.
        output: from `choose_output`.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        with written_whole(output) as aside, _quiet():
            _write(generator, FORMATS[format], aside)
    except OSError as error:
        place = os.path.dirname(output) or "."
        raise UserError(f"{place}: cannot be written to ({reason(error)}); choose another folder") from error


def _write(generator: keras.Model, format: Format, path: str) -> None:
    if format.keras_name is None:
        _halve(generator, path)
        return
    network = _network(fold_batch_norm(generator), format.dtype)
    lr = keras.InputSpec(dtype=format.dtype, shape=(None, None, None, 3), name="lr")
    network.export(path, format=format.keras_name, verbose=False, input_signature=[lr])


def _halve(generator: keras.Model, path: str) -> None:
    """Save a generator with its weights in 16 bits."""
    if any(np.abs(weight).max() > np.finfo(np.float16).max for weight in generator.get_weights()):
        raise UserError(
            "the format keras: this generator has weights too large for 16 bits; keep the file that it is in"
        )
    generator.save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    members = {name: _halved(data) if name.endswith(".h5") else data for name, data in members.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def _halved(weights: bytes) -> bytes:
    halved = io.BytesIO()
    with h5py.File(io.BytesIO(weights)) as source, h5py.File(halved, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                made = target.create_dataset(name, data=item[()].astype("float16"))
            else:
                made = target.require_group(name)
            made.attrs.update(item.attrs)

        source.visititems(copy)
    return halved.getvalue()


def _network(generator: keras.Model, dtype: str) -> keras.Model:
    lr = keras.Input((None, None, 3), dtype=dtype, name="lr")
    sr = generator(keras.ops.cast(lr, "float32"))  # [B, S*H, S*W, 3]
    if dtype == "uint8":
        sr = keras.ops.saturate_cast(keras.ops.round(sr), dtype)
    return keras.Model(lr, {"sr": sr})  # a dict, whose key is the output's name in all formats


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what converters tell of their work."""
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
