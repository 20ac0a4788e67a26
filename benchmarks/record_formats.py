#!/usr/bin/env python3
"""Measure the reading of other records: of other sizes, with other numbers of crops in a visit, and as PNG.

Example:
    python benchmarks/record_formats.py --images ~/Pictures
"""

import argparse
import contextlib
import functools
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import input_pipeline
import numpy as np
import tensorflow as tf

from pyimagesearch import data_preprocess, readers
from pyimagesearch.config import Config
from pyimagesearch.data import pairs, tfrecords

WHOLE = 10**5


def serialize_png(pair: pairs.Pair) -> bytes:
    """Return a record of two PNG files."""
    images = [tf.io.encode_png(image).numpy() for image in (pair.lr, pair.hr)]
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
        for name, image in zip(("lr", "hr"), images, strict=True)
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def parse_png(example: tf.Tensor, scale: int) -> data_preprocess.TensorPair:
    """Parse a record of two PNG files."""
    record = tf.io.parse_single_example(example, {name: tf.io.FixedLenFeature([], tf.string) for name in ("lr", "hr")})
    return tuple(tf.io.decode_png(record[name], channels=3) for name in ("lr", "hr"))


@contextlib.contextmanager
def encoding(name: str) -> Iterator[None]:
    """Write and read records as pixels ("raw") or PNG files ("png") within the block."""
    with contextlib.ExitStack() as stack:
        if name == "png":
            stack.enter_context(mock.patch.object(tfrecords, "serialize", serialize_png))
            stack.enter_context(mock.patch.object(tfrecords, "parse", parse_png))
        yield


def measure(name: str, crops: int, records: str, seconds: float) -> input_pipeline.Measurement:
    """Measure the reading of records in this process."""
    load = functools.partial(input_pipeline.our_dataset, crops_per_record=crops)
    with encoding(name):
        return input_pipeline.measure(load, records, crops, seconds)


def main() -> None:
    """Print a row of a table for each format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of photographs")
    parser.add_argument(
        "--seconds", type=readers.positive_float, default=6, help="seconds of each measurement (%(default)s)"
    )
    args = parser.parse_args()
    print("| record | crops a visit | pairs/s, warm | cold | MB on disk | records in 4,096 crops | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for size, name, visits in (
        (240, "raw", (1, 8)),
        (360, "raw", (8, 16)),
        (480, "raw", (1, 8, 16, 32, 64)),
        (640, "raw", (32,)),
        (960, "raw", (32, 64)),
        (WHOLE, "raw", (1, 32, 64)),
        (480, "png", (8, 32)),
    ):
        with tempfile.TemporaryDirectory() as records:
            with encoding(name):
                processes = os.cpu_count() if name == "raw" else 1
                stored = input_pipeline.make_records(args.images, records, Config(record_size=size), processes)
            for crops in visits:
                found = input_pipeline.in_a_process(measure, name, crops, records, args.seconds)
                what = "whole" if size == WHOLE else size
                print(
                    f"| {what}, {name} | {crops} | {found.warm:,.0f} | {found.cold:,.0f} | {stored / 1e6:,.0f} | "
                    f"{np.ceil(4096 / crops):,.0f} | {found.peak / 1e6:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
