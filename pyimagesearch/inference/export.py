"""Export a generator to SavedModel, ONNX or LiteRT, or to a Keras file with 16-bit weights."""

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
    """An export format.

    Attributes:
        ending: the ending of its files or folders.
        dtype: the dtype of its images.
        keras_name: its name in Keras, or None.
        package: the Python package that it needs besides TensorFlow, or None.
    """

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
    """Import the package that a format needs besides TensorFlow.

    Args:
        format: a key of `FORMATS`.

    Raises:
        UserError: the package is not installed.
    """
    if package := FORMATS[format].package:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise UserError(
                f"the format {format} needs {error.name}; run pip install -r requirements-export.txt"
            ) from error


def choose_output(
    model: str, format: str, output: str | None = None, overwrite: bool = False, beside: str | None = None
) -> str:
    """Return the path of an export.

    Args:
        model: the path of the model.
        format: a key of `FORMATS`.
        output: the path to write to. By default it is beside the model, with the ending of the format.
        overwrite: whether an existing export may be replaced. Other files are never replaced.
        beside: a path that replaces `model` in the default of `output`.

    Raises:
        UserError: the path exists and must not be replaced, or is invalid for the format.
    """
    ending = FORMATS[format].ending
    path = output or os.path.splitext(beside or model)[0] + ending
    if path.startswith("gs://"):
        raise UserError(f"{path}: exports are written to this machine only; give a local path")
    if not _is_folder(format) and not path.endswith(ending):
        raise UserError(f"{path}: files of the format {format} end in {ending}; choose such a name")
    path = os.path.normpath(path)
    if os.path.realpath(path) == os.path.realpath(model):
        raise UserError(f"{path}: is the model itself, which must not be replaced; choose another name")
    if os.path.lexists(path):
        _check_replaceable(path, format, overwrite)
    return path


def _is_folder(format: str) -> bool:
    return not FORMATS[format].ending.startswith(".")


def _check_replaceable(path: str, format: str, overwrite: bool) -> None:
    if not overwrite:
        raise UserError(f"{path}: already exists; allow overwriting, or choose another name")
    is_export = tf.saved_model.contains_saved_model if _is_folder(format) else os.path.isfile
    if not is_export(path):
        raise UserError(f"{path}: exists and is not an export of the format {format}; choose another name")


def export(generator: keras.Model, format: str, output: str) -> None:
    """Export a generator. The file appears when it is complete, and replaces an earlier one.

    The input `lr` is RGB [B, H, W, 3] in 0..255. The output `sr` is RGB [B, S*H, S*W, 3] in 0..255. B, H and W are
    arbitrary. Both are uint8 in a SavedModel, whose signature is "serving_default", and float32 in ONNX and LiteRT. To
    get 8 bits from float32, round and clip the output. Batch normalization is folded into the convolutions.

    A `.keras` file has the unchanged network, which can be trained further. Its weights are stored in 16 bits and
    loaded as float32.

    Args:
        generator: from `generators.load_generator`.
        format: a key of `FORMATS`.
        output: from `choose_output`.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with written_whole(output) as aside, _quiet():
            _write(generator, FORMATS[format], aside)
    except OSError as error:
        folder = os.path.dirname(output) or "."
        raise UserError(f"{folder}: cannot be written to ({reason(error)}); choose another folder") from error


def _write(generator: keras.Model, format: Format, path: str) -> None:
    if format.keras_name is None:
        _halve(generator, path)
        return
    network = _network(fold_batch_norm(generator), format.dtype)
    lr = keras.InputSpec(dtype=format.dtype, shape=(None, None, None, 3), name="lr")
    network.export(path, format=format.keras_name, verbose=False, input_signature=[lr])


def _halve(generator: keras.Model, path: str) -> None:
    """Save a generator with 16-bit weights."""
    if any(np.abs(weight).max() > np.finfo(np.float16).max for weight in generator.get_weights()):
        raise UserError(
            "the format keras: this generator has weights that are too large for 16 bits; use its present file"
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
    return keras.Model(lr, {"sr": sr})  # the key of the dict is the name of the output in all formats


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages and warnings of the converters."""
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
