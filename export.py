#!/usr/bin/env python3
"""Write a trained generator in the format of another runtime, or in half the space.

Examples:
    python export.py --format saved_model       # TensorFlow and TensorFlow Serving: generator_saved_model/
    python export.py --format onnx              # ONNX Runtime and OpenCV: generator.onnx
    python export.py --format litert            # LiteRT, on phones and small devices: generator.tflite
    python export.py --format keras --output small.keras     # the generator itself, its weights in 16 bits
    python export.py --format onnx --model outputs/models/best_generator.keras --output ~/srgan.onnx
    python export.py --format onnx --model FAITHFUL.keras SHARP.keras --blend 0.5      # a mixture of the two

Pictures go in as lr, RGB [B, H, W, 3], and come out as sr, RGB [B, S*H, S*W, 3], of any number, height and width, in
0..255: uint8 in a SavedModel, float32 in the others. ONNX needs pip install -r requirements-export.txt.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, whose start it quiets

# isort: split
from pyimagesearch import readers
from pyimagesearch.config import Paths
from pyimagesearch.inference import export, generators


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", nargs="+", metavar="PATH", help="the generator (the SRGAN in outputs, or else the project's)"
    )
    parser.add_argument("--blend", type=readers.share, metavar="A", help="mix two --model: 0 the first, 1 the second")
    parser.add_argument("--format", choices=export.FORMATS, required=True, help="what to write")
    parser.add_argument("--output", metavar="PATH", help="where to (beside the model, with the format's ending)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    args = parser.parse_args(argv)
    if args.model and len(args.model) != (1 if args.blend is None else 2):
        parser.error("--model: give one generator, or with --blend two, a pretrained and an SRGAN generator")
    return args


@cli.command
@cli.stops_at_once
def main(argv: Sequence[str] | None = None) -> int:
    """Write the generator in the format that is asked for."""
    args = parse_args(argv)
    export.require_package(args.format)
    models = args.model or generators.choose_paths(Paths())[1 if args.blend is None else 0 :]
    beside = None if args.model else Paths().model(os.path.basename(models[-1]))  # not among the project's own
    output = export.choose_output(models[-1], args.format, args.output, args.overwrite, beside)
    export.export(generators.load_mixture(models, args.blend), args.format, output)
    logging.info("written: %s", output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
