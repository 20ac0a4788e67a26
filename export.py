#!/usr/bin/env python3
"""Write a trained generator in the format of another runtime, or in half the space.

Examples:
    python export.py --format saved_model       # TensorFlow and TensorFlow Serving: generator_saved_model/
    python export.py --format onnx              # ONNX Runtime and OpenCV: generator.onnx
    python export.py --format litert            # LiteRT, on phones and small devices: generator.tflite
    python export.py --format keras --output small.keras     # the generator itself, its weights in 16 bits
    python export.py --format onnx --model outputs/models/best_generator.keras --output ~/srgan.onnx

Pictures go in as lr, RGB [B, H, W, 3], and come out as sr, RGB [B, S*H, S*W, 3], of any number, height and width, in
0..255: uint8 in a SavedModel, float32 in the others. ONNX needs pip install -r requirements-export.txt.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, whose start it quiets

# isort: split
from pyimagesearch import exporting
from pyimagesearch.config import Paths
from pyimagesearch.generators import load_generator


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="PATH", default=Paths().generator, help="the generator (%(default)s)")
    parser.add_argument("--format", choices=exporting.FORMATS, required=True, help="what to write")
    parser.add_argument("--output", metavar="PATH", help="where to (beside the model, with the format's ending)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    return parser.parse_args(argv)


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Write the generator in the format that is asked for."""
    args = parse_args(argv)
    exporting.require_package(args.format)
    output = exporting.choose_output(args.model, args.format, args.output, args.overwrite)
    exporting.export(load_generator(args.model), args.format, output)
    logging.info("written: %s", output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
