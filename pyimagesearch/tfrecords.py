"""The record format: its writer beside its reader, and the manifest that tells which shards are there."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pyimagesearch.errors import UserError
from pyimagesearch.files import unfinished, written_whole

FORMAT = 2
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


class Pair(NamedTuple):
    """A picture or a piece of one, in both resolutions.

    `lr` is uint8 RGB [h, w, 3], `hr` uint8 RGB [S*h, S*w, 3]; `top` and `left` are the place of the piece in the
    picture called `name`, in LR pixels.
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray
    top: int = 0
    left: int = 0


def serialize(pair: Pair) -> bytes:
    """Return the record of a pair: its pixels as they are, and where they come from."""

    def ints(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        "format": ints(FORMAT),
        "name": text(pair.name.encode()),
        "top": ints(pair.top),
        "left": ints(pair.left),
        "lr_shape": ints(*pair.lr.shape),
        "lr": text(pair.lr.tobytes()),
        "hr": text(pair.hr.tobytes()),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def parse(example: tf.Tensor, scale: int = 4) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the pictures of a serialized record.

    Args:
        example: a scalar string.
        scale: how many times larger HR is than LR.

    Returns:
        LR [h, w, 3] and HR [scale * h, scale * w, 3], uint8 in 0..255.

    Raises:
        tf.errors.InvalidArgumentError: the record has another format, or its pictures another scale.
    """
    record = tf.io.parse_single_example(example, _FEATURES)
    tf.debugging.assert_equal(record["format"], tf.constant(FORMAT, tf.int64), "a record of another format")
    lr_shape = record["lr_shape"]
    lr = tf.reshape(tf.io.decode_raw(record["lr"], tf.uint8), lr_shape)
    hr = tf.reshape(tf.io.decode_raw(record["hr"], tf.uint8), lr_shape * (scale, scale, 1))
    return lr, hr


def write_records(root: str, splits: Mapping[str, Iterable[Pair]], shard_size: int, scale: int) -> dict[str, int]:
    """Write the shards of each split to `root`/SPLIT/NN-COUNT.tfrec, then the manifest that makes them valid.

    Args:
        root: a folder or `gs://` address.
        splits: the pairs of each split, by its name.
        shard_size: records a shard; the last may have fewer.
        scale: how many times larger HR is than LR.

    Returns:
        The number of records of each split.

    Raises:
        UserError: there are records already. Whatever fails, nothing of this call is left behind.
    """
    manifest_path = os.path.join(root, MANIFEST)
    if tf.io.gfile.exists(manifest_path):
        raise UserError(f"{root}: holds records already; remove that folder or choose another with --records")
    shards = {split: {} for split in splits}
    try:
        for split, pairs in splits.items():
            progress = tqdm(pairs, desc=split, unit=" records", disable=None)
            for name, offsets in _write_shards(os.path.join(root, split), iter(progress), shard_size):
                *starts, size = offsets
                shards[split][name] = {"records": len(starts), "bytes": size, "offsets": starts}
        with written_whole(manifest_path) as aside, tf.io.gfile.GFile(aside, "w") as file:
            json.dump({"format": FORMAT, "scaling_factor": scale, "splits": shards}, file)
    except BaseException:
        for split, names in shards.items():
            for name in names:
                tf.io.gfile.remove(os.path.join(root, split, name))
        raise
    return {split: sum(shard["records"] for shard in names.values()) for split, names in shards.items()}


def _write_shards(folder: str, pairs: Iterator[Pair], shard_size: int) -> Iterator[tuple[str, list[int]]]:
    """Yield the name of each shard, once it is complete, with the bytes before each record and the whole size."""
    for number, first in enumerate(pairs):
        shard_pairs = itertools.chain([first], itertools.islice(pairs, shard_size - 1))
        yield _write_shard(folder, number, shard_pairs)


def _write_shard(folder: str, number: int, pairs: Iterable[Pair]) -> tuple[str, list[int]]:
    offsets = [0]
    with unfinished(os.path.join(folder, f"{number:02d}.tfrec")) as aside:
        with tf.io.TFRecordWriter(aside) as writer:
            for pair in pairs:
                record = serialize(pair)
                writer.write(record)
                offsets.append(offsets[-1] + len(record) + _FRAME)
        name = f"{number:02d}-{len(offsets) - 1}.tfrec"
        tf.io.gfile.rename(aside, os.path.join(folder, name), overwrite=True)
    return name, offsets


def locate_records(filenames: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the shard and the offset in bytes of each record in shards of one folder, in order."""
    if not filenames:
        return [], []
    folder = os.path.dirname(filenames[0])
    shards = _read_manifest(os.path.dirname(folder))["splits"][os.path.basename(folder)]
    places = [(path, offset) for path in filenames for offset in shards[os.path.basename(path)]["offsets"]]
    paths, offsets = zip(*places, strict=True)
    return list(paths), list(offsets)


def read_record(path: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Return the serialized record, a scalar string, that begins `offset` bytes into the shard at `path`."""
    variant = tf.raw_ops.TFRecordDatasetV2(filenames=[path], compression_type="", buffer_size=0, byte_offsets=[offset])
    return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1).get_single_element()


def find_shards(root: str, split: str, scale: int) -> list[str]:
    """Return the shards of a split, in order, once they are known to be whole and of this format.

    Raises:
        UserError: there are none, or one is missing or cut short, or they have another format or scale.
    """
    manifest = _read_manifest(root)
    if manifest["scaling_factor"] != scale:
        raise UserError(f"{root}: records for --scaling-factor {manifest['scaling_factor']}, not {scale}; choose alike")
    paths = []
    for name, shard in manifest["splits"][split].items():
        path = os.path.join(root, split, name)
        if not tf.io.gfile.exists(path):
            raise UserError(f"{path}: missing; {_MAKE_AGAIN}")
        if (size := tf.io.gfile.stat(path).length) != shard["bytes"]:
            raise UserError(f"{path}: damaged, {size} bytes instead of {shard['bytes']}; {_MAKE_AGAIN}")
        paths.append(path)
    return paths


def _read_manifest(root: str) -> dict[str, Any]:
    path = os.path.join(root, MANIFEST)
    try:
        with tf.io.gfile.GFile(path) as file:
            manifest = json.load(file)
    except tf.errors.NotFoundError as error:
        raise UserError(f"{root}: no finished records there; make them with create_tfrecords.py") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged; {_MAKE_AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "splits" not in manifest:
        raise UserError(f"{path}: not records of format {FORMAT}, the one read here; {_MAKE_AGAIN}")
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
        for path in filenames:
            _check_readable(path)
        raise error


def _check_readable(path: str) -> None:
    folder, name = os.path.split(path)
    shard = _read_manifest(os.path.dirname(folder))["splits"][os.path.basename(folder)][name]
    try:
        records = sum(1 for _ in tf.data.TFRecordDataset(path))
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        raise UserError(f"{path}: vanished while it was in use; put it back, or {_MAKE_AGAIN}") from error
    except tf.errors.DataLossError as error:
        raise UserError(f"{path}: damaged; {_MAKE_AGAIN}") from error
    if records != shard["records"]:
        raise UserError(f"{path}: damaged, {records} records instead of {shard['records']}; {_MAKE_AGAIN}")
