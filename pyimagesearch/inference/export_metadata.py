"""Write into an exported file what it expects and what it gives, for people and programs that have only the file."""

import json
import os
from collections.abc import Mapping

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema

PRODUCER = "srgan-tf"
"""The name of this project in exported files."""


def title(texts: Mapping[str, str]) -> str:
    """Return a description of a generator in one line.

    Args:
        texts: the metadata, from `export.describe`.
    """
    return f"SRGAN generator: upscales {texts['colours']} images by a factor of {texts['scale']}"


def write_onnx(path: str, texts: Mapping[str, str]) -> None:
    """Add metadata to an ONNX file: `metadata_props`, `doc_string` and the producer.

    Args:
        path: the file.
        texts: the metadata, from `export.describe`.
    """
    import onnx

    model = onnx.load(path)
    model.producer_name, model.doc_string = PRODUCER, title(texts)
    model.ClearField("producer_version")  # that of the converter
    onnx.helper.set_model_props(model, dict(texts))
    onnx.save(model, path)


def write_saved_model(path: str, texts: Mapping[str, str]) -> None:
    """Add metadata to a SavedModel: `assets.extra/metadata.json`. TensorFlow ignores the folder `assets.extra`.

    Args:
        path: the folder of the SavedModel.
        texts: the metadata, from `export.describe`.
    """
    folder = os.path.join(path, "assets.extra")
    os.makedirs(folder)
    with open(os.path.join(folder, "metadata.json"), "w", encoding="utf-8") as file:
        json.dump({"description": title(texts), **texts}, file, indent=2)


class _Builder(flatbuffers.Builder):
    """Aligns vectors to 16 bytes, as the schema of LiteRT requires for weights. The class of Python does not."""

    def StartVector(self, elem_size: int, count: int, alignment: int) -> int:  # noqa: N802
        return super().StartVector(elem_size, count, max(alignment, 16))


def write_litert(path: str, texts: Mapping[str, str]) -> None:
    """Add metadata to a LiteRT file: the buffer `TFLITE_METADATA`, which tools for Android read.

    Args:
        path: the file.
        texts: the metadata, from `export.describe`.
    """
    with open(path, "rb") as file:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read()))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = _model_metadata(texts)
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    builder = _Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    with open(path, "wb") as file:
        file.write(builder.Output())


def _model_metadata(texts: Mapping[str, str]) -> bytes:
    """Return the table ModelMetadata of LiteRT's metadata_schema.fbs, version 1."""
    name, description, license_slot, slots = 0, 1, 5, 8
    builder = flatbuffers.Builder()
    lines = [f"{title(texts)}.", *(f"{key}: {text}" for key, text in texts.items())]
    fields = {name: PRODUCER, description: "\n".join(lines), license_slot: texts.get("license")}
    offsets = {slot: builder.CreateString(text) for slot, text in fields.items() if text}
    builder.StartObject(slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"M001")
    return bytes(builder.Output())
