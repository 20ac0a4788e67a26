#!/usr/bin/env python3
"""Draw what the generators of the project make of a benchmark: crops of full size, side by side.

Examples:
    python benchmarks/gallery.py --benchmark docs/crops --output gallery.png
    python benchmarks/gallery.py --benchmark docs/crops --only animal-cat text-sign --degradation jpeg:75 --output g.jpg
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import numpy as np
from PIL import Image, ImageDraw

from pyimagesearch.config import SHIPPED_GENERATORS
from pyimagesearch.data import degradations
from pyimagesearch.evaluation import benchmarks
from pyimagesearch.inference import comparison, generators, upscaling

SCALE = 4
SIDE = 200  # of a crop in pixels
TITLE = 16  # the height of a title in pixels


def row(images: dict[str, np.ndarray]) -> Image.Image:
    """Draw the part of each image that is the most detailed one in the last image. All are uint8 RGB [H, W, 3]."""
    *_, hr = images.values()
    top, left, _ = comparison.most_detailed(hr, SIDE)
    drawn = Image.new("RGB", (len(images) * SIDE, SIDE + TITLE), "white")
    for number, (title, image) in enumerate(images.items()):
        drawn.paste(Image.fromarray(image[top : top + SIDE, left : left + SIDE]), (number * SIDE, TITLE))
        ImageDraw.Draw(drawn).text((number * SIDE + 4, 2), title, "black")
    return drawn


def stacked(rows: list[Image.Image]) -> Image.Image:
    """Draw rows of one size below each other."""
    width, height = rows[0].size
    drawn = Image.new("RGB", (width, height * len(rows)))
    for number, image in enumerate(rows):
        drawn.paste(image, (0, number * height))
    return drawn


def main() -> None:
    """Write one image with a row for each image of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", required=True, help="a folder, as for evaluate.py")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="images to draw (all)")
    parser.add_argument("--models", nargs="+", choices=SHIPPED_GENERATORS, default=list(SHIPPED_GENERATORS))
    parser.add_argument("--degradation", type=degradations.parse, default="clean", help="as for evaluate.py")
    parser.add_argument("--output", required=True, help="path of a PNG or JPEG file")
    args = parser.parse_args()
    methods = {name: upscaling.Upscaler(generators.load_generator(SHIPPED_GENERATORS[name])) for name in args.models}
    benchmark = benchmarks.find_benchmark("crops", args.benchmark, SCALE).degraded(args.degradation)
    numbers = {name: number for number, (name, _, _) in enumerate(benchmark.files)}
    rows = []
    for name in args.only or numbers:
        pair = benchmark.read(numbers[name])
        results = {title: upscale(pair.lr) for title, upscale in methods.items()}
        bicubic = upscaling.bicubic(pair.lr[None], SCALE)[0]
        rows.append(row({"bicubic": bicubic, **results, "high resolution": pair.hr}))
    stacked(rows).save(args.output, quality=92, subsampling=0)


if __name__ == "__main__":
    main()
