#!/usr/bin/env python3
"""Measure the speed of training pairs with the degradation "photo", and compare it with clean pairs in alternation.

"pairs/s of one core" is measured by the CPU time of all threads of the process, so it is valid beside other work, too.

Example:
    python benchmarks/degradations.py --images ~/Pictures
"""

import argparse
import pathlib
import sys
import tempfile
import time
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import input_pipeline
import numpy as np

from pyimagesearch import data_preprocess, readers
from pyimagesearch.config import Config
from pyimagesearch.data import tfrecords

BATCH_SIZE = 64
WARM_UP = 4  # batches


class Speed(NamedTuple):
    """A speed.

    Attributes:
        wall: pairs per second.
        cpu: pairs per second of CPU time.
    """

    wall: float
    cpu: float


def measure(crops_per_degradation: int | None, records: str, crop_size: int, seconds: float) -> Speed:
    """Measure the speed in this process. If `crops_per_degradation` is None, pairs are clean."""
    if crops_per_degradation:
        data_preprocess.CROPS_PER_DEGRADATION = crops_per_degradation
    batches = data_preprocess.load_dataset(
        tfrecords.find_shards(records, "train", 4),
        BATCH_SIZE,
        train=True,
        hr_crop_size=crop_size,
        crops_per_record=Config().crops_per_record,
        seed=42,
        degradation="photo" if crops_per_degradation else "bicubic",
    ).as_numpy_iterator()
    # The first batches fill the buffers and are not measured.
    for _ in range(WARM_UP * Config().crops_per_record):
        next(batches)
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < wall + seconds:
        next(batches)
        count += BATCH_SIZE
    return Speed(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))


def main() -> None:
    """Print a row of a table for clean pairs, and for each number of crops from one degraded image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of photographs")
    add(
        "--crop-size",
        type=readers.crop_side,
        default=64,
        metavar="N",
        help="side of the HR crops in pixels (%(default)s)",
    )
    add(
        "--crops",
        type=readers.positive_int,
        nargs="+",
        default=[8],
        help="numbers of crops from one degraded image (%(default)s)",
    )
    add("--rounds", type=readers.positive_int, default=3, help="number of measurements of each variant (%(default)s)")
    add("--seconds", type=readers.positive_float, default=8, help="seconds of each measurement (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as records:
        input_pipeline.make_records(args.images, records, Config())
        ways = [None, *args.crops]
        found = np.array(
            [
                [input_pipeline.in_a_process(measure, way, records, args.crop_size, args.seconds) for way in ways]
                for _ in range(args.rounds)
            ]
        )  # [rounds, ways, 2]
    print("| low resolution | crops of an image | pairs/s | pairs/s of one core |")
    print("|---|---|---|---|")
    for way, (wall, cpu) in zip(ways, np.median(found, axis=0), strict=True):
        print(f"| {'photo' if way else 'clean'} | {way or ''} | {wall:,.0f} | {cpu:,.0f} |")


if __name__ == "__main__":
    main()
