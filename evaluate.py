#!/usr/bin/env python3
"""Measure generators on benchmarks: how close their results come to the truth, beside bicubic interpolation.

Examples:
    python evaluate.py --benchmark Set5                                # the generators that came with the project
    python evaluate.py --benchmark Set5 Set14 --model outputs/models/generator.keras
    python evaluate.py --benchmark Set5 --blend 0.25 0.5 0.75          # and mixtures of the two
    python evaluate.py --benchmark Set5 --vgg-weights imagenet         # and the distance of VGG features

A benchmark is a folder with HR/ and LRx4/, pictures of the same names, or with HR/ alone: LR is then made by
antialiased bicubic interpolation.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from pyimagesearch import cli  # before TensorFlow, whose start it quiets

# isort: split
import keras

from pyimagesearch import devices, evaluation, evaluation_reports, generators, runtimes, upscaling, utils
from pyimagesearch.config import SHIPPED_GENERATOR, SHIPPED_PRETRAINED_GENERATOR, Config
from pyimagesearch.errors import UserError
from pyimagesearch.evaluation import Upscale
from pyimagesearch.evaluation_reports import Measured, Result
from pyimagesearch.files import short_names, written_whole
from pyimagesearch.vgg import VGG


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--benchmark", nargs="+", required=True, metavar="DIR", help="folders with HR/, and LRx4/ if there is one")
    add("--model", nargs="+", metavar="PATH", help="the generators (the two that came with the project)")
    add(
        "--blend",
        nargs="+",
        type=cli.share,
        default=[],
        metavar="A",
        help="mix the two --model: 0 the first, 1 the second",
    )
    add("--output", metavar="DIR", default="outputs/evaluation", help="where tables and figures go (%(default)s)")
    add("--vgg-weights", metavar="imagenet|random|PATH", help="compare VGG features, too, of these weights")
    add("--vgg-layer", metavar="NETWORK:LAYER", default=Config.vgg_layer, help="which features (%(default)s)")
    add("--runtime", choices=runtimes.RUNTIMES, default="auto", help="auto: OpenVINO on CPUs that have it")
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="float32",
        help="auto: bfloat16 where it is fast",
    )
    args = parser.parse_args(argv)
    args.model = args.model or [SHIPPED_PRETRAINED_GENERATOR, SHIPPED_GENERATOR]
    if args.blend and len(args.model) != 2:
        parser.error("--blend mixes two models; give a pretrained and an SRGAN generator with --model")
    return args


def load_models(paths: Sequence[str], shares: Sequence[float]) -> dict[str, keras.Model]:
    """Load generators, by short names, and add mixtures of the two."""
    models = {name: generators.load_generator(path) for path, name in short_names(paths).items()}
    pair = tuple(models.values())
    return models | {f"blend {share:g}": generators.blend(*pair, share) for share in shares}


def common_scale(models: Mapping[str, keras.Model]) -> int:
    """Return how many times larger all of the generators make pictures.

    Raises:
        UserError: they differ in that.
    """
    scales = {generators.scaling_factor(model): name for name, model in models.items()}
    if len(scales) > 1:
        different = ", ".join(f"{name} ×{scale}" for scale, name in scales.items())
        raise UserError(f"--model: one table holds generators of one scale only: {different}; measure them apart")
    return next(iter(scales))


def write(results: Sequence[Result], measured: Measured, methods: Mapping[str, Upscale], folder: str) -> None:
    """Write the tables of all benchmarks, and a figure for each."""
    texts = {
        "results.md": evaluation_reports.markdown(results, measured),
        "results.json": evaluation_reports.as_json(results, measured),
        "pictures.csv": evaluation_reports.as_csv(results),
    }
    for name, text in texts.items():
        with written_whole(os.path.join(folder, name)) as aside, open(aside, "w", encoding="utf-8") as file:
            file.write(text)
    for result in results:
        figure = evaluation_reports.worst_and_best(result, methods)
        utils.save_figure(figure, os.path.join(folder, f"{result.benchmark.name.replace('/', ' ')}.png"))
    logging.info("tables and figures written: %s", folder)


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Measure the generators on the benchmarks, and write tables and figures."""
    args = parse_args(argv)
    models = load_models(args.model, args.blend)
    scale = common_scale(models)
    benchmarks = [
        evaluation.find_benchmark(name, folder, scale) for folder, name in short_names(args.benchmark).items()
    ]
    runtime, precision = runtimes.choose_runtime(args.runtime), devices.choose_precision(args.precision)
    methods = {"bicubic": lambda lr: upscaling.bicubic(lr[None], scale)[0]}
    methods |= {name: upscaling.Upscaler(model, runtime, precision) for name, model in models.items()}
    vgg = VGG.build(args.vgg_layer, args.vgg_weights) if args.vgg_weights else None
    measured = Measured(
        scale,
        models=dict(short_names(args.model)),
        computed=f"{runtime}, {precision}, {devices.describe()}",
        vgg=f"{args.vgg_layer}, {args.vgg_weights}" if vgg else None,
    )
    results = []
    for benchmark in benchmarks:
        results.append(Result(benchmark, list(evaluation.evaluate(benchmark, methods, vgg))))
        print(evaluation_reports.section(results[-1]), end="\n\n")
    write(results, measured, methods, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
