"""The record format: write and read records, and the manifest, which lists all shards."""

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
from pyimagesearch.files import read_json_object, write_text

FORMAT = 3
"""The version of the record format and of the manifest. It increases with each change."""

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


def dataset_options() -> tf.data.Options:
    """Return the options of each dataset of the project, without autotuning.

    With autotuning, the end of an iterator can take as long as its use, up to a minute: the thread that tunes it can
    miss that it has to stop (TensorFlow 2.21). All of Python waits meanwhile. Without it there are as many parallel
    calls as processors, at most 16.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def serialize(pair: Pair) -> bytes:
    """Serialize a pair to a record: a `tf.train.Example` with uncompressed pixels and their position in the image.

    Args:
        pair: the pair.
    """

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
    """Parse a serialized record.

    Args:
        example: a scalar string.
        scale: the scaling factor of HR relative to LR.

    Returns:
        LR [h, w, 3] and HR [scale * h, scale * w, 3], uint8 in 0..255.

    Raises:
        tf.errors.InvalidArgumentError: the record has another format or another scaling factor.
    """
    record = tf.io.parse_single_example(example, _FEATURES)
    tf.debugging.assert_equal(record["format"], tf.constant(FORMAT, tf.int64), "a record of another format")
    lr_shape = record["lr_shape"]
    lr = tf.reshape(tf.io.decode_raw(record["lr"], tf.uint8), lr_shape)
    hr = tf.reshape(tf.io.decode_raw(record["hr"], tf.uint8), lr_shape * (scale, scale, 1))
    return lr, hr


def write_shard(path: str, pairs: Iterable[Pair]) -> dict[str, Any]:
    """Write the records of a shard.

    Args:
        path: the path of the shard.
        pairs: the pairs of the records.

    Returns:
        The entry of the manifest: the number of `records`, the size in `bytes`, the `crc32` of all records in order,
        and for each record its first byte, `offsets`, and its area in HR pixels, `areas`.
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
    """Return the name of a shard, given its number in the split and the number of its records."""
    return f"{number:02d}-{records}.tfrec"


def has_manifest(root: str) -> bool:
    """Return whether a folder has finished records.

    Args:
        root: the folder of the records, or its `gs://` address.
    """
    return tf.io.gfile.exists(os.path.join(root, MANIFEST))


def write_manifest(root: str, scale: int, splits: Mapping[str, Mapping[str, Any]], **facts: Any) -> None:
    """Write the manifest of the shards `root`/SPLIT/NAME. The records are finished when it exists.

    Args:
        root: the folder of the records, or its `gs://` address.
        scale: the scaling factor of HR relative to LR.
        splits: for each split the results of `write_shard` by the name of the shard.
        **facts: further entries, for JSON.
    """
    manifest = {"format": FORMAT, "scaling_factor": scale, **facts, "splits": splits}
    write_text(os.path.join(root, MANIFEST), json.dumps(manifest))


class Locations(NamedTuple):
    """The locations of records.

    Attributes:
        paths: the paths of the shards.
        shards: for each record, the index of its shard in `paths`.
        offsets: for each record, its first byte in the shard.
        areas: for each record, its area in HR pixels.
    """

    paths: list[str]
    shards: list[int]
    offsets: list[int]
    areas: list[float]


def locate_records(filenames: Sequence[str]) -> Locations:
    """Return the locations of all records of the given shards, which are in one folder, in order.

    Args:
        filenames: the paths of the shards.
    """
    locations = Locations(list(filenames), [], [], [])
    folder = os.path.dirname(filenames[0])
    manifest = _read_manifest(os.path.dirname(folder))["splits"][os.path.basename(folder)]
    for number, path in enumerate(filenames):
        shard = manifest[os.path.basename(path)]
        locations.shards.extend([number] * shard["records"])
        locations.offsets.extend(shard["offsets"])
        locations.areas.extend(shard["areas"])
    return locations


def read_record(path: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Read one serialized record.

    Args:
        path: the path of the shard, a scalar string.
        offset: the first byte of the record in the shard, a scalar int64.

    Returns:
        A scalar string.
    """
    variant = tf.raw_ops.TFRecordDatasetV2(filenames=[path], compression_type="", buffer_size=0, byte_offsets=[offset])
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1).get_single_element()


def find_shards(root: str, split: str, scale: int) -> list[str]:
    """Return the paths of the shards of a split, in order, after a check of their format and size.

    Args:
        root: the folder of the records, or its `gs://` address.
        split: "train" or "test".
        scale: the scaling factor of HR relative to LR.

    Raises:
        UserError: the records or a shard are missing or incomplete, or have another format or scaling factor.
    """
    manifest = _read_manifest(root)
    if manifest["scaling_factor"] != scale:
        raise UserError(
            f"{root}: records for a scaling factor of {manifest['scaling_factor']}, not {scale}; "
            "choose the same scaling factor"
        )
    shards = {os.path.join(root, split, name): shard for name, shard in manifest["splits"][split].items()}
    for path, shard in shards.items():
        if complaint := _complaint(path, shard):
            raise UserError(f"{path}: {complaint}; {_MAKE_AGAIN}")
    return list(shards)


def check_crops(root: str, crop_size: int) -> None:
    """Check that crops fit into all training records.

    Args:
        root: the folder of the records, or its `gs://` address.
        crop_size: the side of the HR crops in pixels.

    Raises:
        UserError: the records were made for smaller crops.
    """
    largest = _read_manifest(root)["configuration"]["hr_shape"][0]
    if crop_size > largest:
        raise UserError(
            f"{root}: records for crops of {largest} pixels, not of {crop_size}; remove the folder and make the "
            f"records again with create_tfrecords.py for this crop size, or train with crops of at most {largest}"
        )


def origin(root: str) -> dict[str, Any]:
    """Return the `origin` of the manifest: which photographs the records were made from.

    Args:
        root: the folder of the records, or its `gs://` address.
    """
    return _read_manifest(root).get("origin", {})


def has_own_lr(root: str) -> bool:
    """Return whether the low-resolution images of the records were given, as opposed to made from HR images.

    Args:
        root: the folder of the records, or its `gs://` address.
    """
    return bool(origin(root).get("lr_images"))


def fingerprint(root: str) -> str:
    """Return a checksum of the content of all shards in a folder: 16 hexadecimal digits.

    Args:
        root: the folder of the records, or its `gs://` address.
    """
    shards = [
        (shard["bytes"], shard["crc32"])
        for split in _read_manifest(root)["splits"].values()
        for shard in split.values()
    ]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:16]


def verify(root: str) -> Iterator[tuple[str, str | None]]:
    """Read all shards in a folder and compare them with the manifest.

    Args:
        root: the folder of the records, or its `gs://` address.

    Yields:
        The path of each shard, and a description of its fault or None.

    Raises:
        UserError: the folder has no finished records.
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
        for record in tf.data.TFRecordDataset(path).with_options(dataset_options()).as_numpy_iterator():
            records, crc32 = records + 1, zlib.crc32(record, crc32)
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError):
        return "cannot be read"
    except tf.errors.DataLossError:
        return "damaged, its checksum differs"
    return (
        None
        if (records, crc32) == (shard["records"], shard["crc32"])
        else "damaged, its records differ from the manifest"
    )


def _read_manifest(root: str) -> dict[str, Any]:
    path = os.path.join(root, MANIFEST)
    missing = f"{root}: no finished records in this folder; make them with create_tfrecords.py"
    damaged = f"{path}: damaged; {_MAKE_AGAIN}"
    manifest = read_json_object(path, missing, damaged)
    if "format" not in manifest:
        raise UserError(damaged)
    if manifest["format"] != FORMAT:
        raise UserError(f"{path}: records of format {manifest['format']}, not {FORMAT}; {_MAKE_AGAIN}")
    return manifest


@contextlib.contextmanager
def damage_named(filenames: Sequence[str]) -> Iterator[None]:
    """Turn TensorFlow's error for a damaged or missing shard into an error that names the shard.

    Args:
        filenames: the paths of the shards that the block reads, all of one split.

    Raises:
        UserError: a shard is damaged or missing.
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
                raise UserError(f"{path}: {complaint}; restore it, or {_MAKE_AGAIN}") from error
        raise error
