#!/usr/bin/env python3
"""Measure the speed of making records, and compare it with decoding and reducing the same photographs alone.

Example:
    python benchmarks/creation.py --images ~/Pictures
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
import numpy as np

from pyimagesearch import readers
from pyimagesearch.config import Config
from pyimagesearch.data import creation
from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.data.pairs import make_pair
from pyimagesearch.data.photographs import find_images, folder


def decode_and_reduce(path: str) -> None:
    """Decode a photograph and reduce it: the smallest possible work for its records."""
    make_pair(path, read_rgb(path), Config().scaling_factor)


def decode_and_reduce_all(images: str, records: str) -> None:
    """Decode and reduce all photographs of a folder on all cores. `records` is not used."""
    paths = [os.path.join(images, name) for name in find_images(images).names]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([cli.__name__, creation.__name__])
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), context, creation.prepare_worker) as pool:
        list(pool.map(decode_and_reduce, paths))


def create(images: str, records: str) -> None:
    """Make the records of a folder on all cores, as create_tfrecords.py does."""
    config = Config()
    source = folder(images, 0.1, config.scaling_factor, config.hr_shape[0], config.seed)
    creation.create(records, source, config, os.cpu_count())


def seconds(way: Callable[[str, str], None], images: str) -> float:
    """Return the time of a variant in seconds."""
    with tempfile.TemporaryDirectory() as records:
        began = time.perf_counter()
        way(images, records)
        return time.perf_counter() - began


def main() -> None:
    """Print the rates of both variants, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of photographs")
    parser.add_argument(
        "--rounds", type=readers.positive_int, default=5, help="number of measurements of each variant (%(default)s)"
    )
    args = parser.parse_args()
    count = len(find_images(args.images).names)
    ways = {"decode and reduce": decode_and_reduce_all, "create": create}
    taken = [[seconds(way, args.images) for way in ways.values()] for _ in range(args.rounds + 1)]
    taken = np.array(taken[1:])  # the first round warms the page cache
    for name, column in zip(ways, taken.T, strict=True):
        print(f"{name:18} {count / np.median(column):5.1f} images/s ({np.median(column):.1f} s)")
    ratios = taken[:, 0] / taken[:, 1]
    print(f"ratio: {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
    peaks = [resource.getrusage(who).ru_maxrss / 1e3 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"memory at most: {peaks[0]:,.0f} MB, and {peaks[1]:,.0f} MB in each of the other processes")


if __name__ == "__main__":
    main()
