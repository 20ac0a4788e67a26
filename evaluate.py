#!/usr/bin/env python3
"""Measure generators on benchmarks and compare them with bicubic interpolation.

Examples:
    python evaluate.py --benchmark Set5                                # the generators that come with the project
    python evaluate.py --benchmark Set5 Set14 --model outputs/models/generator.keras
    python evaluate.py --benchmark Set5 --alpha 0.25 0.5 0.75          # and interpolations of the two
    python evaluate.py --benchmark Set5 --vgg-weights imagenet         # and the perceptual distance
    python evaluate.py --benchmark Set5 --degradation clean jpeg:75    # and on JPEG files

A benchmark is a folder with HR/ and LRx4/ that have images of the same names. Without LRx4/, the low-resolution images
are made by antialiased bicubic interpolation.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
import keras

from pyimagesearch import devices, files, readers
from pyimagesearch.config import SHIPPED_GENERATORS, Config
from pyimagesearch.data import degradations
from pyimagesearch.evaluation import benchmarks, reports
from pyimagesearch.evaluation.reports import Measured, Result
from pyimagesearch.files import short_names
from pyimagesearch.inference import generators, runtimes, upscaling
from pyimagesearch.vgg import VGG


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--benchmark", nargs="+", required=True, metavar="DIR", help="benchmark folders with HR/ and optionally LRx4/")
    add("--model", nargs="+", metavar="PATH", help="generators to measure (pretrained and srgan of the project)")
    add(
        "--alpha",
        "--blend",
        nargs="+",
        type=readers.share,
        default=[],
        metavar="A",
        help=cli.ALPHA_HELP,
    )
    add(
        "--degradation",
        nargs="+",
        type=degradation,
        default=[degradations.Fixed()],
        metavar="D",
        help="degrade the low-resolution images, such as clean jpeg:75 blur:1.0,noise:5,jpeg:75; a table for each",
    )
    add("--output", metavar="DIR", default="outputs/evaluation", help="folder for tables and figures (%(default)s)")
    add("--vgg-weights", metavar="imagenet|random|PATH", help="measure perceptual distances by VGG with these weights")
    add("--vgg-layer", metavar="NETWORK:LAYER", help=f"VGG layers of the perceptual distance ({Config.vgg_layer})")
    add("--ensemble", action="store_true", help=cli.ENSEMBLE_HELP)
    cli.add_computation_flags(parser, precision="float32")
    args = parser.parse_args(argv)
    args.model = args.model or [SHIPPED_GENERATORS[name] for name in ("pretrained", "srgan")]
    if "://" in args.output:
        parser.error(f"--output {args.output}: tables are written to this machine only; give a local folder")
    if args.vgg_layer and not args.vgg_weights:
        parser.error("--vgg-layer needs --vgg-weights; give both")
    args.vgg_layer = args.vgg_layer or Config.vgg_layer
    if args.alpha and len(short_names(args.model)) != 2:
        parser.error("--alpha interpolates two generators; give a pretrained and an SRGAN generator with --model")
    return args


def degradation(text: str) -> degradations.Fixed:
    """Read degradations with `degradations.parse`, for `type=`."""
    try:
        return degradations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def load_models(paths: Mapping[str, str], alphas: Sequence[float]) -> dict[str, keras.Model]:
    """Load generators and interpolate the weights of the two for each alpha."""
    models = {name: generators.load_generator(path) for name, path in paths.items()}
    pair = tuple(models.values())
    return models | {f"alpha {alpha:g}": generators.interpolate(*pair, alpha) for alpha in alphas}


@cli.command
@cli.stops_at_once
def main(argv: Sequence[str] | None = None) -> int:
    """Measure the generators on the benchmarks, and write tables and figures."""
    args = parse_args(argv)
    paths = short_names(args.model)
    models = load_models(paths, args.alpha)
    scale = generators.common_scale(models)
    chosen = [benchmarks.find_benchmark(name, folder, scale) for name, folder in short_names(args.benchmark).items()]
    chosen = [benchmark.degraded(how) for benchmark in chosen for how in dict.fromkeys(args.degradation)]
    runtime, precision = runtimes.choose_runtime(args.runtime), devices.choose_precision(args.precision)
    methods = {
        name: upscaling.Upscaler(model, runtime, precision, ensemble=args.ensemble) for name, model in models.items()
    }
    methods = {"bicubic": lambda lr: upscaling.bicubic(lr[None], scale)[0], **methods}
    vgg_weights = args.vgg_weights and VGG.resolve_weights(args.vgg_layer, args.vgg_weights)
    vgg = VGG.build(args.vgg_layer, vgg_weights) if vgg_weights else None
    features = f"{args.vgg_layer}, {vgg_weights}" if vgg else None
    degraded = any(how != degradations.Fixed() for how in args.degradation)
    measured = Measured(scale, paths, runtimes.describe(runtime, precision), features, degraded)
    os.makedirs(args.output, exist_ok=True)
    results = []
    for benchmark in chosen:
        results.append(Result(benchmark, list(benchmarks.evaluate(benchmark, methods, vgg))))
        print(reports.section(results[-1]), end="\n\n", flush=True)
        reports.write_tables(results, measured, args.output)
        figure = reports.from_worst_to_best(results[-1], methods)
        files.save_figure(figure, os.path.join(args.output, f"{benchmark.name.replace('/', ' ')}.png"))
    logging.info("tables and figures written: %s", args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
