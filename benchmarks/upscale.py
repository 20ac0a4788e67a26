#!/usr/bin/env python3
"""Measure the speed of upscaling whole images, and compare it with plain Keras and the peak speed of matrix products.

Examples:
    python benchmarks/upscale.py                                       # speed of each runtime and precision
    python benchmarks/upscale.py --memory                              # time and memory up to 100 megapixels
    python benchmarks/upscale.py --tilings                             # speed and error of other tiles
    python benchmarks/upscale.py --quality SET5 --model outputs/models/generator.keras
    python benchmarks/upscale.py --colours SET5                        # effect of consistency with the input
"""

import argparse
import functools
import itertools
import multiprocessing
import pathlib
import sys
import time
from collections.abc import Callable
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import metrics, readers
from pyimagesearch.config import SHIPPED_GENERATORS, Config
from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.evaluation import benchmarks
from pyimagesearch.inference import upscaling
from pyimagesearch.inference.consistency import Reduction
from pyimagesearch.inference.generators import load_generator
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.training.builders import build_generator

LR_SIZE = (384, 512)
FLOP_A_PIXEL = 231e3  # for each pixel of the result, by the tutorial's generator
WAYS_TO_AGREE = ("colours held", "faithful")
WAYS = [(runtime, precision) for runtime in ("tensorflow", "openvino") for precision in ("float32", "bfloat16")]


def noise(height: int, width: int) -> np.ndarray:
    """Return an image of noise, uint8 RGB [height, width, 3]."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def seconds(function: Callable[[], object]) -> float:
    """Return the time of a call in seconds."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def plain_keras(generator: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes the generator on the whole image, like the inference of the tutorial."""
    return lambda lr: metrics.to_uint8(generator.predict(lr[None].astype("float32"), verbose=0)[0])


def matrix_peak(dtype: tf.DType) -> float:
    """Return the floating-point operations per second of a large matrix product."""
    a = tf.cast(tf.random.normal((4096, 4096)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.cast(tf.matmul(a, a), tf.float32)))
    return 2 * 4096**3 / min(seconds(lambda: product().numpy()) for _ in range(5))


def compare_speed(rounds: int) -> None:
    """Print the speed of each runtime and precision, measured in alternation."""
    generator, lr = build_generator(Config()), noise(*LR_SIZE)
    ways = {"plain Keras, float32": plain_keras(generator)}
    ways |= {f"{runtime}, {precision}": Upscaler(generator, runtime, precision) for runtime, precision in WAYS}
    taken = np.array([[seconds(functools.partial(way, lr)) for way in ways.values()] for _ in range(rounds + 1)])[1:]
    megapixels = 16 * np.prod(LR_SIZE) / 1e6
    peaks = {name: matrix_peak(getattr(tf, name)) for name in ("float32", "bfloat16")}
    print("peaks of matrix products: " + ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()))
    for (name, column), precision in zip(
        zip(ways, taken.T, strict=True), ["float32", *(precision for _, precision in WAYS)], strict=True
    ):
        low, median, high = np.percentile(taken[:, 0] / column, (10, 50, 90))
        rate = megapixels / np.median(column)
        print(
            f"{name:24} {rate:5.2f} MPix/s   x {median:.2f} ({low:.2f} to {high:.2f})   "
            f"{rate * 1e6 * FLOP_A_PIXEL / peaks[precision]:.0%} of the peak in {precision}"
        )


def upscale_once(megapixels: float, runtime: str, precision: str, tile: int | None) -> tuple[float, int]:
    """Make a result of `megapixels` in this process, and return the seconds and the peak memory in bytes."""
    side = round((megapixels * 1e6 / 16) ** 0.5)
    upscale = Upscaler(build_generator(Config()), runtime, precision, tile)
    taken = seconds(lambda: upscale(noise(side, side)))
    (peak,) = (line.split()[1] for line in pathlib.Path("/proc/self/status").open() if line.startswith("VmHWM"))
    return taken, int(peak) * 1024


def compare_memory(tile: int | None) -> None:
    """Print time and memory for results of several sizes, each in a separate process."""
    for runtime, precision in (WAYS[0], WAYS[-1]):
        for megapixels in (1, 10, 30, 100):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                taken, peak = pool.apply(upscale_once, (megapixels, runtime, precision, tile))
            rate = f"{megapixels:3} megapixels in {taken:6.1f} s, {megapixels / taken:.2f} MPix/s"
            print(f"{runtime}, {precision}: {rate}, {peak / 1e9:.2f} GB at most", flush=True)


def compare_tilings(runtime: str, precision: str) -> None:
    """Print the speed and the error of tiles of other sizes than those of `Upscaler`."""
    generator, lr = build_generator(Config()), noise(600, 800)
    whole = Upscaler(generator, runtime, precision, tile=2048)(lr).astype(int)
    undivided = 2048
    for tile, head_tile, reach in (
        *((tile, upscaling.HEAD_TILE, None) for tile in (256, 384, 512, 1024)),
        *((512, head_tile, None) for head_tile in (96, 128, 256)),
        *((tile, undivided, None) for tile in (192, 256, 384, 512)),
        *((tile, undivided, reach) for tile in (128, 256) for reach in (8, 16)),
    ):
        with mock.patch.object(upscaling, "HEAD_TILE", head_tile):
            upscale = Upscaler(generator, runtime, precision, tile)
            if reach:
                upscale.reach = upscale.head_reach = reach
            upscale(lr)
            began = time.perf_counter()
            error = np.abs(upscale(lr) - whole)
        rate = 16 * lr.size / 3 / 1e6 / (time.perf_counter() - began)
        print(
            f"tiles of {tile:4}, of the head {head_tile:4}, context {upscale.reach:2}: {rate:.2f} MPix/s, "
            f"largest error {error.max()}, mean {error.mean():.4f}",
            flush=True,
        )


def compare_quality(folder: str, model: str) -> None:
    """Print the mean PSNR on Y of a benchmark folder with HR/ and LRx4/ for each runtime and precision."""
    generator = load_generator(model)
    root = pathlib.Path(folder)
    pairs = [tuple(read_rgb(str(path)) for path in (hr, root / "LRx4" / hr.name)) for hr in sorted(root.glob("HR/*"))]
    for runtime, precision in WAYS:
        upscale = Upscaler(generator, runtime, precision)
        values = [metrics.psnr(hr, upscale(lr)) for hr, lr in pairs]
        print(f"{runtime}, {precision}: {np.mean(values):.3f} dB (Y, {len(values)} images, 4-pixel border cut)")


def as_made(upscale: Upscaler) -> Upscaler:
    """Return an upscaler without consistency: its results are those of the generator."""
    upscale.agree = lambda lr, sr: None
    return upscale


def compare_colours(folder: str, runtime: str, precision: str, rounds: int) -> None:
    """Print the PSNR on a benchmark and the CPU time with and without consistency, for the project's generators."""
    benchmark = benchmarks.find_benchmark(folder, folder, 4)
    pairs = [benchmark.read(number) for number in range(len(benchmark.files))]
    for path in SHIPPED_GENERATORS.values():
        generator = load_generator(path)
        ways = {"as made": as_made(Upscaler(generator, runtime, precision))}
        ways |= {name: Upscaler(generator, runtime, precision, faithful=name == "faithful") for name in WAYS_TO_AGREE}
        taken = {name: [] for name in ways}
        for _, (name, way) in itertools.product(range(rounds + 1), ways.items()):
            began = time.process_time()
            way(pairs[0].hr)
            taken[name].append(time.process_time() - began)
        for name, way in ways.items():
            results = [way(pair.lr) for pair in pairs]
            psnr = np.mean([metrics.psnr(pair.hr, sr) for pair, sr in zip(pairs, results, strict=True)])
            within = np.mean([within_a_level(pair.lr, sr) for pair, sr in zip(pairs, results, strict=True)])
            more = min(taken[name][1:]) / min(taken["as made"][1:]) - 1
            print(f"{path}, {name}: {psnr:.3f} dB, {within:.2%} of the input within a level, {more:+.1%} of the time")


def within_a_level(lr: np.ndarray, sr: np.ndarray) -> float:
    """Return the fraction of the values of an input that differ from the reduced result by at most one level."""
    reduced = metrics.to_uint8(Reduction(*lr.shape[:2], sr.shape[0] // lr.shape[0]).reduce(sr))
    return float(np.mean(np.abs(reduced.astype(int) - lr) <= 1))


def main() -> None:
    """Run the measurement that the flags select."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=readers.positive_int, default=5, help="number of measurements of each variant (%(default)s)"
    )
    parser.add_argument("--memory", action="store_true", help="measure time and memory up to 100 megapixels")
    parser.add_argument("--tilings", action="store_true", help="measure other tiles")
    parser.add_argument("--quality", metavar="DIR", help="measure PSNR on a benchmark folder with HR/ and LRx4/")
    parser.add_argument("--colours", metavar="DIR", help="measure consistency on a benchmark folder with HR/")
    parser.add_argument("--model", metavar="PATH", help="trained generator for --quality")
    parser.add_argument(
        "--tile", type=readers.positive_int, metavar="N", help="largest side of a tile in LR pixels, for --memory"
    )
    args = parser.parse_args()
    if args.quality:
        compare_quality(args.quality, args.model)
    elif args.colours:
        compare_colours(args.colours, "openvino", "bfloat16", args.rounds)
    elif args.memory:
        compare_memory(args.tile)
    elif args.tilings:
        compare_tilings("openvino", "bfloat16")
    else:
        compare_speed(args.rounds)


if __name__ == "__main__":
    main()
