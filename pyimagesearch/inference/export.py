"""Export a generator to SavedModel, ONNX or LiteRT, or to a Keras file with 16-bit weights."""

import contextlib
import dataclasses
import importlib
import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import h5py
import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import cli
from pyimagesearch.errors import UserError
from pyimagesearch.files import reason, written_whole
from pyimagesearch.inference import export_metadata, quantization
from pyimagesearch.inference.generators import fold_batch_norm, scaling_factor, shuffle_last


class Format(NamedTuple):
    """An export format.

    Attributes:
        ending: the ending of its files or folders.
        keras_name: its name in Keras, or None.
        package: the Python package that it needs besides TensorFlow, or None.
        choices: the fields of `Options` that can differ from their defaults.
        write_metadata: a function of a path and the metadata, or None.
    """

    ending: str
    keras_name: str | None = None
    package: str | None = None
    choices: tuple[str, ...] = ()
    write_metadata: Callable[[str, Mapping[str, str]], None] | None = None


FORMATS = {
    "saved_model": Format("_saved_model", "tf_saved_model", write_metadata=export_metadata.write_saved_model),
    "onnx": Format(".onnx", "onnx", "tf2onnx", ("layout", "range", "size"), export_metadata.write_onnx),
    "litert": Format(".tflite", "litert", None, ("range", "size", "precision"), export_metadata.write_litert),
    "keras": Format(".keras"),
}

LAYOUTS = ("nhwc", "nchw")
RANGES = ("0..255", "0..1")
PRECISIONS = ("float32", "int8")


@dataclasses.dataclass(frozen=True)
class Options:
    """The input and the output of an exported network, and how it computes.

    Attributes:
        layout: "nhwc", images [B, H, W, 3]; or "nchw", images [B, 3, H, W].
        range: the range of the pixels, "0..255" or "0..1".
        size: the height and the width of the input in pixels, of one image; or None for any size and number of images.
        precision: "float32"; or "int8", with uint8 as input and output.
    """

    layout: str = "nhwc"
    range: str = "0..255"
    size: tuple[int, int] | None = None
    precision: str = "float32"

    def texts(self) -> dict[str, str]:
        """Return the fields as text, by name."""
        size = "{}x{}".format(*self.size) if self.size else "any"
        return dataclasses.asdict(self) | {"size": size}


def check_options(format: str, options: Options) -> None:
    """Check that a format has all options.

    Args:
        format: a key of `FORMATS`.
        options: the options.

    Raises:
        UserError: the format does not have one of them, or they exclude each other.
    """
    usual = Options().texts()
    for name, text in options.texts().items():
        if text != usual[name] and name not in FORMATS[format].choices:
            others = " or ".join(other for other, form in FORMATS.items() if name in form.choices)
            raise UserError(f"the format {format} has no choice of {name}; choose the format {others} for {text}")
    if options.precision == "int8" and options.range != usual["range"]:
        raise UserError(f"the precision int8 has no choice of range; choose the precision float32 for {options.range}")


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


def export(
    generator: keras.Model, format: str, output: str, options: Options | None = None, license: str | None = None
) -> None:
    """Export a generator. The file appears when it is complete, and replaces an earlier one.

    The input `lr` is RGB [B, H, W, 3] in 0..255. The output `sr` is RGB [B, S*H, S*W, 3] in 0..255. B, H and W are
    arbitrary. `options` can change this. Both are uint8 in a SavedModel, whose signature is "serving_default", and
    float32 in ONNX and LiteRT. To get 8 bits from float32, round and clip the output. Batch normalization is folded
    into the convolutions, and the last depth-to-space is moved; see `generators.shuffle_last`. All files but those of
    Keras contain metadata; see `describe`.

    A `.keras` file has the unchanged network, which can be trained further. Its weights are stored in 16 bits and
    loaded as float32.

    Args:
        generator: from `generators.load_generator`.
        format: a key of `FORMATS`.
        output: from `choose_output`.
        options: checked by `check_options`; by default `Options()`.
        license: the name of the licence of the weights, or None if it is unknown.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with written_whole(output) as aside, _quiet():
            if FORMATS[format].keras_name:
                _convert(generator, FORMATS[format], options or Options(), license, aside)
            else:
                _halve(generator, aside)
    except OSError as error:
        folder = os.path.dirname(output) or "."
        raise UserError(f"{folder}: cannot be written to ({reason(error)}); choose another folder") from error


def describe(scale: int, dtype: str, options: Options, license: str | None) -> dict[str, str]:
    """Return the metadata of an exported file.

    Args:
        scale: the scaling factor.
        dtype: the dtype of the input and the output.
        options: the options.
        license: the name of the licence of the weights, or None if it is unknown.
    """
    texts = {"input": "lr", "output": "sr", "scale": str(scale), "colours": "RGB", "dtype": dtype, **options.texts()}
    return texts | ({"license": license} if license else {})


def _convert(generator: keras.Model, format: Format, options: Options, license: str | None, path: str) -> None:
    """Export the network of a generator to another runtime."""
    takes_bytes, is_int8 = format.keras_name == "tf_saved_model", options.precision == "int8"
    scale, dtype = scaling_factor(generator), "uint8" if takes_bytes else "float32"
    network = _network(shuffle_last(fold_batch_norm(generator)), dtype, options)
    lr = keras.InputSpec(dtype=dtype, shape=(1 if options.size else None, *network.input.shape[1:]), name="lr")
    settings = quantization.converter_settings(scale) if is_int8 else {}
    with cli.standard_error_muted() if is_int8 else contextlib.nullcontext():
        network.export(path, format=format.keras_name, verbose=False, input_signature=[lr], **settings)
    format.write_metadata(path, describe(scale, "uint8" if is_int8 else dtype, options, license))


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


def _network(generator: keras.Model, dtype: str, options: Options) -> keras.Model:
    """Return a network that computes a generator on images as the options have them."""
    height, width = options.size or (None, None)
    is_nchw, factor = options.layout == "nchw", 255 if options.range == "0..1" else 1
    round_off = quantization.Levels() if options.precision == "int8" else lambda images: images
    lr = keras.Input((3, height, width) if is_nchw else (height, width, 3), dtype=dtype, name="lr")
    x = keras.ops.transpose(lr, (0, 2, 3, 1)) if is_nchw else lr
    x = round_off(keras.ops.cast(x, "float32") * factor)
    sr = round_off(generator(x)) / factor  # [B, S*H, S*W, 3]
    if dtype == "uint8":
        sr = keras.ops.saturate_cast(keras.ops.round(sr), dtype)
    sr = keras.ops.transpose(sr, (0, 3, 1, 2)) if is_nchw else sr
    return keras.Model(lr, {"sr": sr})  # the key of the dict is the name of the output in all formats


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages and warnings of the converters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
