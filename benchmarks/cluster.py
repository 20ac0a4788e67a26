#!/usr/bin/env python3
"""Measure upscaling on Ray: two workers beside one, one worker beside none, and many tasks that do nothing.

Examples:
    python benchmarks/cluster.py                   # needs pip install -r requirements-cluster.txt
    python benchmarks/cluster.py --listed 100000   # fewer files for the tasks that do nothing
"""

import argparse
import os
import pathlib
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
from PIL import Image

from pyimagesearch import devices, readers
from pyimagesearch.data.image_io import read_image
from pyimagesearch.inference import batch, cluster, generators, runtimes, upscaling
from pyimagesearch.inference.jobs import Job, Jobs, Plan
from pyimagesearch.inference.sizes import NATURAL
from pyimagesearch.workers import LOCAL, Pool, Progress, connected

ROOT = pathlib.Path(__file__).parents[1]
CORES = os.cpu_count()


def load() -> upscaling.Upscaler:
    """Load the fast generator, with the runtime and the precision that are the default of this machine."""
    generator = generators.load_generator(str(ROOT / "weights" / "fast.keras"))
    return upscaling.Upscaler(generator, runtimes.choose_runtime("auto"), devices.choose_precision("auto"))


def make_images(folder: str, count: int, side: int) -> None:
    """Write a photograph of `side` pixels in each direction as many PNG files."""
    pixels = read_image(str(ROOT / "docs" / "photographs" / "HR" / "osprey.png")).pixels[..., :3]
    for number in range(count):
        Image.fromarray(pixels).resize((side, side)).save(f"{folder}/{number:04d}.png")


def rate(times: Sequence[float]) -> float:
    """Return the images a second of the last two thirds, given when each was done: all workers have started by then."""
    first = len(times) // 3
    return (len(times) - first) / (times[-1] - times[first - 1])


def alone(jobs: Jobs) -> float:
    """Return the images a second of this process with all cores."""
    times: list[float] = []
    assert not list(batch.run(jobs, load(), done=lambda job: times.append(time.perf_counter())))
    return rate(times)


def on_workers(jobs: Jobs, workers: int, cores: int) -> float:
    """Return the images a second of workers on Ray."""
    times = []
    with connected(LOCAL) as ray:
        pool = Pool(ray, cluster.Worker, os.getcwd(), load, NATURAL, False, None, cores=cores)
        for outcome in pool.run(map(cluster.Task, jobs), workers):
            assert outcome.value.is_written
            times.append(time.perf_counter())
    return rate(times)


class Idle:
    """A worker that does nothing."""

    def __init__(self, cores: int) -> None:
        pass

    def start(self) -> str:
        """Start."""
        return "nothing"

    def run(self, task: Job, attempt: int) -> None:
        """Do nothing."""


def drive(count: int, folder: str) -> None:
    """Plan the upscaling of many empty files, give them to workers that do nothing, and print time and memory."""
    for number in range(count):
        if number % 1000 == 0:
            os.makedirs(f"{folder}/in/{number // 1000:04d}")
        os.close(os.open(f"{folder}/in/{number // 1000:04d}/{number:07d}.png", os.O_CREAT))
    before = _peak()
    began = time.perf_counter()
    jobs = Plan([f"{folder}/in"], f"{folder}/out", "png")
    print(f"| list and plan {count} files | {count / (time.perf_counter() - began):.0f} files/s | {_peak()} MB |")
    progress = Progress(jobs)
    with connected(LOCAL) as ray:
        began = time.perf_counter()
        for _ in Pool(ray, Idle, cores=1).run(jobs, CORES):
            progress.tell(0)
        took = time.perf_counter() - began
    print(f"| {count} tasks that do nothing | {count / took:.0f} files/s | {_peak()} MB |")
    print(f"\nPeak memory of the driver; {before} MB of it before the listing.")


def _peak() -> int:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=readers.positive_int, default=24, help="images of each round (%(default)s)")
    parser.add_argument("--side", type=readers.positive_int, default=500, help="their sides in pixels (%(default)s)")
    parser.add_argument("--rounds", type=readers.positive_int, default=3, help="rounds, taking turns (%(default)s)")
    parser.add_argument("--listed", type=readers.positive_int, default=1_000_000, help="files to list (%(default)s)")
    args = parser.parse_args()
    ways: dict[str, Callable[[Jobs], float]] = {
        "one worker with one core": lambda jobs: on_workers(jobs, 1, 1),
        "two workers with one core each": lambda jobs: on_workers(jobs, 2, 1),
        f"one worker with {CORES} cores": lambda jobs: on_workers(jobs, 1, CORES),
        f"without Ray, {CORES} cores": alone,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        make_images(folder, args.images, args.side)
        for _ in range(args.rounds):
            for name, way in ways.items():
                with tempfile.TemporaryDirectory() as output:
                    rates[name].append(way(Plan([folder], output, "png")))
    one, two, worker, none = (statistics.median(values) for values in rates.values())
    print(f"| images of {args.side} px | images/s, median of {args.rounds} | range |\n|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} |")
    print(f"\nTwo beside one: {two / one:.2f} times. With Ray beside without: {worker / none:.2f} times.\n")
    print("| | speed | memory |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        drive(args.listed, folder)


if __name__ == "__main__":
    main()
