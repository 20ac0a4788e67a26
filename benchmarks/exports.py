#!/usr/bin/env python3
"""Measure LiteRT files of `export.py` on a benchmark, as LiteRT computes them on the CPU.

Example:
    python export.py --format litert --model weights/srgan.keras --output srgan.tflite
    python export.py --format litert --precision int8 --model weights/srgan.keras --output srgan-int8.tflite
    python benchmarks/exports.py --benchmark Set5 --files srgan.tflite srgan-int8.tflite
"""

import argparse
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from pyimagesearch.evaluation import benchmarks
from pyimagesearch.metrics import to_uint8


def open_file(path: str) -> benchmarks.Upscale:
    """Return an exported network with the range 0..255 as a function of an image."""
    interpreter = Interpreter(path, num_threads=os.cpu_count())
    (place,) = interpreter.get_input_details()
    upscale = interpreter.get_signature_runner()

    def on_image(lr: np.ndarray) -> np.ndarray:
        sr = upscale(lr=lr[None].astype(place["dtype"]))["sr"][0]
        return sr if sr.dtype == np.uint8 else to_uint8(sr)

    return on_image


def main() -> None:
    """Print a row for each file."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", required=True, metavar="DIR", help="folder with HR/ and optionally LRx4/")
    parser.add_argument("--files", nargs="+", required=True, metavar="PATH", help="files to measure, for any size")
    args = parser.parse_args()
    models = {path: open_file(path) for path in args.files}
    benchmark = benchmarks.find_benchmark(args.benchmark, args.benchmark, 4)
    rows = list(benchmarks.evaluate(benchmark, models))
    for path in args.files:
        mean = benchmarks.means([row for row in rows if row.model == path])
        size = os.path.getsize(path) / 1e6
        print(f"{path}: {mean.psnr_y:.2f} dB, SSIM {mean.ssim_y:.4f} (Y), {mean.seconds:.3f} s, {size:.2f} MB")


if __name__ == "__main__":
    main()
