#!/usr/bin/env python3
"""Export a trained generator to the format of another runtime, or with 16-bit weights.

Examples:
    python export.py --format saved_model       # TensorFlow and TensorFlow Serving: generator_saved_model/
    python export.py --format onnx              # ONNX Runtime and OpenCV: generator.onnx
    python export.py --format onnx --layout nchw --range 0..1            # chaiNNer and other programs for ESRGAN
    python export.py --format litert            # LiteRT, on phones and small devices: generator.tflite
    python export.py --format litert --size 240x320 --precision int8     # for the integer units of phones
    python export.py --format keras --output small.keras     # a Keras model with 16-bit weights
    python export.py --format onnx --model outputs/models/best_generator.keras --output ~/srgan.onnx
    python export.py --format onnx --model FAITHFUL.keras SHARP.keras --alpha 0.5      # their interpolation

The input lr is RGB [B, H, W, 3], and the output sr is RGB [B, S*H, S*W, 3], in 0..255. Batch size, height and width are
arbitrary. The dtype is uint8 in a SavedModel and with --precision int8, and float32 otherwise. ONNX needs
pip install -r requirements-export.txt.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
from pyimagesearch import readers
from pyimagesearch.config import Paths
from pyimagesearch.inference import export, generators


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="PATH",
        help="generator to export, or two with --alpha (the SRGAN in outputs, or else the project's)",
    )
    parser.add_argument("--alpha", "--blend", type=readers.share, metavar="A", help=cli.ALPHA_HELP)
    parser.add_argument("--format", choices=export.FORMATS, required=True, help="format to write")
    add_option_flags(parser)
    parser.add_argument(
        "--output", metavar="PATH", help="path to write to (beside the model, with the ending of the format)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing export")
    args = parser.parse_args(argv)
    if args.model and len(args.model) != (1 if args.alpha is None else 2):
        parser.error("--model: give one generator, or with --alpha two: a pretrained and an SRGAN generator")
    return args


def add_option_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of `export.Options`."""
    parser.add_argument(
        "--layout",
        choices=export.LAYOUTS,
        default=export.Options.layout,
        help="order of the dimensions, for onnx: nhwc, colours last; nchw, colours first (%(default)s)",
    )
    parser.add_argument(
        "--range",
        choices=export.RANGES,
        default=export.Options.range,
        help="range of the pixels, for onnx and litert (%(default)s)",
    )
    parser.add_argument(
        "--size",
        type=readers.size,
        metavar="HxW",
        help="height and width of the only input, for onnx and litert (any number of images of any size)",
    )
    parser.add_argument(
        "--precision",
        choices=export.PRECISIONS,
        default=export.Options.precision,
        help="precision, for litert: int8 computes in integers of 8 bits (%(default)s)",
    )


@cli.command
@cli.stops_at_once
def main(argv: Sequence[str] | None = None) -> int:
    """Export the generator to the chosen format."""
    args = parse_args(argv)
    options = export.Options(args.layout, args.range, args.size, args.precision)
    export.check_options(args.format, options)
    export.require_package(args.format)
    models = args.model or generators.choose_paths(Paths())[1 if args.alpha is None else 0 :]
    beside = (
        None if args.model else Paths().model(os.path.basename(models[-1]))
    )  # not in the folder of the project's generators
    output = export.choose_output(models[-1], args.format, args.output, args.overwrite, beside)
    generator = generators.load_interpolated(models, args.alpha)
    export.export(generator, args.format, output, options, generators.license_of(models))
    logging.info("written: %s", output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
