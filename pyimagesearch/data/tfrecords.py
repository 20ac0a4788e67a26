"""The record format: its writer beside its reader, and the manifest that tells which shards are there."""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from pyimagesearch.data.pairs import Pair
from pyimagesearch.errors import UserError
from pyimagesearch.files import written_whole

FORMAT = 3
"""The version of the record format and its manifest, raised with each change of them."""

MANIFEST = "manifest.json"
_FRAME = 16  # the bytes that TFRecord adds to each record: its length and two checksums
_MAKE_AGAIN = "remove the folder and make the records again with create_tfrecords.py"

_FEATURES = {
    "format": tf.io.FixedLenFeature([], tf.int64),
    "name": tf.io.FixedLenFeature([], tf.string),
    "top": tf.io.FixedLenFeature([], tf.int64),
    "left": tf.io.FixedLenFeature([], tf.int64),
    "lr_shape": tf.io.FixedLenFeature([3], tf.int64),
    "lr": tf.io.FixedLenFeature([], tf.string),
    "hr": tf.io.FixedLenFeature([], tf.string),
}


def serialize(pair: Pair) -> bytes:
    """Return the record of a pair: its pixels as they are, and where they come from."""

    def ints(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        "format": ints(FORMAT),
        "name": text(os.fsencode(pair.name)),
        "top": ints(pair.top),
        "left": ints(pair.left),
        "lr_shape": ints(*pair.lr.shape),
        "lr": text(pair.lr.tobytes()),
        "hr": text(pair.hr.tobytes()),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def parse(example: tf.Tensor, scale: int = 4) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the images of a serialized record.

    Args:
        example: a scalar string.
        scale: how many times larger HR is than LR.

    Returns:
        LR [h, w, 3] and HR [scale * h, scale * w, 3], uint8 in 0..255.

    Raises:
        tf.errors.InvalidArgumentError: the record has another format, or its images another scale.
    """
    record = tf.io.parse_single_example(example, _FEATURES)
    tf.debugging.assert_equal(record["format"], tf.constant(FORMAT, tf.int64), "a record of another format")
    lr_shape = record["lr_shape"]
    lr = tf.reshape(tf.io.decode_raw(record["lr"], tf.uint8), lr_shape)
    hr = tf.reshape(tf.io.decode_raw(record["hr"], tf.uint8), lr_shape * (scale, scale, 1))
    return lr, hr


def write_shard(path: str, pairs: Iterable[Pair]) -> dict[str, Any]:
    """Write the records of a shard to `path`.

    Returns:
        What the manifest is to tell of it: the number of `records`, `bytes`, `crc32` of all records one after the
        other, and of each record the byte at which it begins and its area, `offsets` and `areas`.
    """
    offsets, areas, crc32 = [0], [], 0
    with tf.io.TFRecordWriter(path) as writer:
        for pair in pairs:
            record = serialize(pair)
            writer.write(record)
            crc32 = zlib.crc32(record, crc32)
            offsets.append(offsets[-1] + len(record) + _FRAME)
            areas.append(round(pair.area or pair.hr.shape[0] * pair.hr.shape[1], 1))
    *starts, size = offsets
    return {"records": len(starts), "bytes": size, "crc32": crc32, "offsets": starts, "areas": areas}


def shard_name(number: int, records: int) -> str:
    """Return what a shard is called, by its number in the split and the number of its records."""
    return f"{number:02d}-{records}.tfrec"


def has_manifest(root: str) -> bool:
    """Return whether there are finished records in a folder."""
    return tf.io.gfile.exists(os.path.join(root, MANIFEST))


def write_manifest(root: str, scale: int, splits: Mapping[str, Mapping[str, Any]], **facts: Any) -> None:
    """Write the manifest that makes the shards in `root`/SPLIT/NAME valid.

    Args:
        root: a folder or `gs://` address.
        scale: how many times larger HR is than LR.
        splits: what `write_shard` returned, by the name of the shard, for each split.
        facts: what else to note, for JSON.
    """
    manifest = {"format": FORMAT, "scaling_factor": scale, **facts, "splits": splits}
    with written_whole(os.path.join(root, MANIFEST)) as aside, tf.io.gfile.GFile(aside, "w") as file:
        json.dump(manifest, file)


class Places(NamedTuple):
    """Where records are: the shards' paths and, for each record, the number of its shard, its offset and its area."""

    paths: list[str]
    shards: list[int]
    offsets: list[int]
    areas: list[float]


def locate_records(filenames: Sequence[str]) -> Places:
    """Return the places of all records in shards of one folder, in order."""
    places = Places(list(filenames), [], [], [])
    folder = os.path.dirname(filenames[0])
    manifest = _read_manifest(os.path.dirname(folder))["splits"][os.path.basename(folder)]
    for number, path in enumerate(filenames):
        shard = manifest[os.path.basename(path)]
        places.shards.extend([number] * shard["records"])
        places.offsets.extend(shard["offsets"])
        places.areas.extend(shard["areas"])
    return places


def read_record(path: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Return the serialized record, a scalar string, that begins `offset` bytes into the shard at `path`."""
    variant = tf.raw_ops.TFRecordDatasetV2(filenames=[path], compression_type="", buffer_size=0, byte_offsets=[offset])
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1).get_single_element()


def find_shards(root: str, split: str, scale: int) -> list[str]:
    """Return the shards of a split, in order, once they are known to be there, of this format and of their size.

    Raises:
        UserError: there are none, or one is missing or cut short, or they have another format or scale.
    """
    manifest = _read_manifest(root)
    if manifest["scaling_factor"] != scale:
        raise UserError(
            f"{root}: records for a scaling factor of {manifest['scaling_factor']}, not {scale}; choose alike"
        )
    shards = {os.path.join(root, split, name): shard for name, shard in manifest["splits"][split].items()}
    for path, shard in shards.items():
        if complaint := _complaint(path, shard):
            raise UserError(f"{path}: {complaint}; {_MAKE_AGAIN}")
    return list(shards)


def check_crops(root: str, crop_size: int) -> None:
    """Check that HR crops of this side, in pixels, fit into every training record.

    Raises:
        UserError: the records were made for smaller ones.
    """
    largest = _read_manifest(root)["configuration"]["hr_shape"][0]
    if crop_size > largest:
        raise UserError(
            f"{root}: records for crops of {largest} pixels, not of {crop_size}; remove the folder and make it again "
            f"for this crop size with create_tfrecords.py, or train with crops of at most {largest}"
        )


def has_own_lr(root: str) -> bool:
    """Return whether the low-resolution images of the records in a folder were given rather than made."""
    return bool(_read_manifest(root).get("origin", {}).get("lr_images"))


def fingerprint(root: str) -> str:
    """Return 16 hexadecimal digits that tell the content of all shards in a folder from any other."""
    shards = [
        (shard["bytes"], shard["crc32"])
        for split in _read_manifest(root)["splits"].values()
        for shard in split.values()
    ]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:16]


def verify(root: str) -> Iterator[tuple[str, str | None]]:
    """Yield the path of each shard in a folder, and what is wrong with it, if anything, after reading all of it.

    Raises:
        UserError: there are no finished records in the folder.
    """
    for split, shards in _read_manifest(root)["splits"].items():
        for name, shard in shards.items():
            path = os.path.join(root, split, name)
            yield path, _complaint(path, shard) or _complaint_within(path, shard)


def _complaint(path: str, shard: Mapping[str, Any]) -> str | None:
    if not tf.io.gfile.exists(path):
        return "missing"
    if (size := tf.io.gfile.stat(path).length) != shard["bytes"]:
        return f"damaged, {size} bytes instead of {shard['bytes']}"
    return None


def _complaint_within(path: str, shard: Mapping[str, Any]) -> str | None:
    records, crc32 = 0, 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            records, crc32 = records + 1, zlib.crc32(record, crc32)
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError):
        return "cannot be read"
    except tf.errors.DataLossError:
        return "damaged, its checksum differs"
    return None if (records, crc32) == (shard["records"], shard["crc32"]) else "damaged, it holds other records"


def _read_manifest(root: str) -> dict[str, Any]:
    path = os.path.join(root, MANIFEST)
    try:
        with tf.io.gfile.GFile(path) as file:
            manifest = json.load(file)
    except tf.errors.NotFoundError as error:
        raise UserError(f"{root}: no finished records there; make them with create_tfrecords.py") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged; {_MAKE_AGAIN}") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise UserError(f"{path}: damaged; {_MAKE_AGAIN}")
    if manifest["format"] != FORMAT:
        raise UserError(f"{path}: records of format {manifest['format']}, not {FORMAT} as read here; {_MAKE_AGAIN}")
    return manifest


@contextlib.contextmanager
def damage_named(filenames: Sequence[str]) -> Iterator[None]:
    """Turn TensorFlow's complaint about a damaged or vanished shard into one that names it.

    Raises:
        UserError: the block met such a shard.
    """
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
    ) as error:
        folder = os.path.dirname(filenames[0])
        shards = _read_manifest(os.path.dirname(folder))["splits"][os.path.basename(folder)]
        for path in filenames:
            shard = shards[os.path.basename(path)]
            if complaint := _complaint(path, shard) or _complaint_within(path, shard):
                raise UserError(f"{path}: {complaint}; put it back as it was, or {_MAKE_AGAIN}") from error
        raise error
