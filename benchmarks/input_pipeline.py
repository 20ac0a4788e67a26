#!/usr/bin/env python3
"""Measure the speed of reading and cropping training pairs, and compare it with the pipeline of the tutorial.

Both use the same photographs. Each measurement runs in a separate process, whose peak memory is reported. "Cold" is the
first pass over the records after they were removed from the page cache. "Warm" is the time after this pass.

Example:
    python benchmarks/input_pipeline.py --images ~/Pictures
"""

import argparse
import functools
import itertools
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import numpy as np
import tensorflow as tf

from pyimagesearch import data_preprocess, readers
from pyimagesearch.config import Config
from pyimagesearch.data import creation, tfrecords
from pyimagesearch.data.photographs import folder

Load = Callable[[Sequence[str]], tf.data.Dataset]

BATCH_SIZE = 64


class Measurement(NamedTuple):
    """The measurement of a process.

    Attributes:
        cold: pairs per second in the first pass.
        warm: pairs per second after it.
        peak: the peak memory in bytes.
    """

    cold: float
    warm: float
    peak: int


def tutorial_dataset(shards: Sequence[str]) -> tf.data.Dataset:
    """Load training batches like the tutorial, which reads and parses a whole image for each crop."""

    def read(example: tf.Tensor) -> data_preprocess.TensorPair:
        pair = data_preprocess.random_crop(*tfrecords.parse(example))
        return data_preprocess.random_rotate(*data_preprocess.random_flip(*pair))

    records = tf.data.TFRecordDataset(shards, num_parallel_reads=tf.data.AUTOTUNE)
    pairs = records.map(read, tf.data.AUTOTUNE).shuffle(BATCH_SIZE).repeat()
    return pairs.batch(BATCH_SIZE, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


our_dataset = functools.partial(
    data_preprocess.load_dataset, batch_size=BATCH_SIZE, train=True, crops_per_record=Config().crops_per_record, seed=42
)


def drop_from_page_cache(paths: Sequence[str]) -> None:
    """Remove files from the page cache, so that they are read from the disk."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(load: Load, records: str, crops_per_record: int, seconds: float) -> Measurement:
    """Measure in this process, which must be new."""
    shards = tfrecords.find_shards(records, "train", 4)
    batches_a_pass = len(tfrecords.locate_records(shards).offsets) * crops_per_record // BATCH_SIZE
    batches = iter(load(shards))
    drop_from_page_cache(shards)
    cold = _rate(itertools.islice(batches, max(1, batches_a_pass)))
    end = time.perf_counter() + seconds
    warm = _rate(itertools.takewhile(lambda _: time.perf_counter() < end, batches))
    (peak,) = (line.split()[1] for line in pathlib.Path("/proc/self/status").open() if line.startswith("VmHWM"))
    return Measurement(cold, warm, int(peak) * 1024)


def _rate(batches: itertools.islice) -> float:
    began = time.perf_counter()
    count = sum(1 for _ in batches)
    return count * BATCH_SIZE / (time.perf_counter() - began)


def in_a_process(function: Callable[..., Measurement], *args: object) -> Measurement:
    """Call a function in a separate process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def make_records(images: str, records: str, config: Config, processes: int | None = None) -> int:
    """Make records of a folder of photographs, and return the size of the training records in bytes."""
    source = folder(images, 0.1, 4, config.hr_shape[0], config.seed)
    creation.create(records, source, config, processes)
    return sum(path.stat().st_size for path in pathlib.Path(records, "train").iterdir())


def copied_per_second() -> float:
    """Return the bytes per second that all cores copy together, between arrays that are larger than the caches."""
    cores = os.cpu_count()
    arrays = [np.ones(2**28, np.uint8) for _ in range(2 * cores)]
    with ThreadPoolExecutor(cores) as pool:
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            list(pool.map(np.copyto, arrays[:cores], arrays[cores:]))
            seconds.append(time.perf_counter() - began)
    return cores * 2**28 / min(seconds)


def main() -> None:
    """Print a line for each pipeline, and the time of copies alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of photographs")
    parser.add_argument(
        "--rounds", type=readers.positive_int, default=3, help="number of measurements of each variant (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=readers.positive_float, default=10, help="seconds of each measurement (%(default)s)"
    )
    args = parser.parse_args()
    config = Config()
    with tempfile.TemporaryDirectory() as parent:
        whole = Config(record_size=10**5, shard_size=1)
        ways = {}
        for name, load, crops, made_with in (
            ("tutorial", tutorial_dataset, 1, whole),
            ("this project", our_dataset, config.crops_per_record, config),
        ):
            records = os.path.join(parent, name)
            make_records(args.images, records, made_with)
            ways[name] = (load, records, crops, args.seconds)
        rounds = [{name: in_a_process(measure, *way) for name, way in ways.items()} for _ in range(args.rounds)]
    for name in ways:
        found = Measurement(*np.median([measured[name] for measured in rounds], axis=0))
        print(f"{name:14} cold {found.cold:8,.0f}, warm {found.warm:8,.0f} pairs/s, {found.peak / 1e6:,.0f} MB at most")
    ratios = np.array([np.divide(measured["this project"], measured["tutorial"]) for measured in rounds])
    for name, column in zip(("cold", "warm"), ratios.T, strict=False):
        print(f"ratio, {name}: {np.median(column):.0f} ({column.min():.0f} to {column.max():.0f})")
    report_copying(found.warm, config)


def report_copying(rate: float, config: Config) -> None:
    """Print the fraction of the time for one copy of each pair, and for all copies of the pipeline."""
    bandwidth = copied_per_second()
    pair = np.prod(config.hr_shape) + np.prod(config.lr_shape)
    record = config.record_size**2 * 3 * 17 / 16 / config.crops_per_record
    # A record is copied into a string, into two parsed strings and into arrays. A pair is copied by the crop, by two
    # flips, by the transposition and into its batch.
    copied = 3 * record + 5 * pair
    print(
        f"copying: {bandwidth / 1e9:.1f} GB/s; one copy of each pair ({pair / 1e3:.1f} kB) is "
        f"{rate * pair / bandwidth:.0%} of the time, all that the pipeline copies ({copied / 1e3:.0f} kB a pair) "
        f"{rate * copied / bandwidth:.0%}"
    )


if __name__ == "__main__":
    main()
