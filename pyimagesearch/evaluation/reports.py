"""What an evaluation is written down as: tables, JSON, CSV, a figure, and how everything was measured."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from pyimagesearch import metrics
from pyimagesearch.data.degradations import Fixed
from pyimagesearch.evaluation.benchmarks import Benchmark, Row, Upscale, means
from pyimagesearch.evaluation.figures import Truth, against_truth
from pyimagesearch.evaluation.scores import PSNR_OF_EQUALS, Score
from pyimagesearch.files import written_whole

FIGURE_ROWS = 5
"""How many images a figure shows at most."""


class Measured(NamedTuple):
    """How models were measured.

    At which `scale`, which `models` by their names, what `computed`, which `vgg` features if any, and whether any
    inputs were `degraded`.
    """

    scale: int
    models: Mapping[str, str]
    computed: str
    vgg: str | None = None
    degraded: bool = False


class Result(NamedTuple):
    """What was measured on a benchmark."""

    benchmark: Benchmark
    rows: Sequence[Row]


COLUMNS = {
    "psnr_y": ("PSNR Y (dB)", ".2f"),
    "ssim_y": ("SSIM Y", ".4f"),
    "psnr_rgb": ("PSNR RGB (dB)", ".2f"),
    "ssim_rgb": ("SSIM RGB", ".4f"),
    "lr_psnr": ("LR PSNR (dB)", ".2f"),
    "perceptual_distance": ("perceptual distance", ".3f"),
    "grid": ("grid", ".2f"),
    "detail": ("detail", ".2f"),
    "seconds": ("s/image", ".2f"),
}
"""The heading of each measure in tables, and how its numbers are written."""


def protocol(measured: Measured) -> dict[str, str]:
    """Say how everything is measured."""
    said = {
        "images": f"8 bits, results clipped and rounded; {measured.scale} pixels cut from each side",
        "means": "of the images' own figures",
        "psnr_y": f"PSNR on Y of ITU-R BT.601 (16..235), peak 255, at most {PSNR_OF_EQUALS:.0f} dB",
        "ssim_y": "SSIM on that Y: Gaussian window of 11 x 11 pixels, sigma 1.5, K1 0.01, K2 0.03, range 255",
        "psnr_rgb": "the same on red, green and blue together",
        "ssim_rgb": "the mean of the three channels",
        "lr_psnr": "PSNR on RGB of the result, reduced again by antialiased bicubic interpolation, against the input; "
        "1 pixel cut from each side",
        "perceptual_distance": f"of the features of whole images, {measured.vgg}: each place's vector divided by its "
        "length, the squared distance summed over channels, the mean over places and, of several, layers; LPIPS "
        "(Zhang et al., arXiv 1801.03924) without its learned weights",
        "grid": f"energy of the Laplacian of that Y at each place of the {measured.scale} x {measured.scale} pixels "
        f"that an input pixel becomes, the largest over the smallest: up to {metrics.NO_GRID} in photographs, more "
        "where a pattern repeats and in what is as soft as bicubic interpolation",
        "detail": "energy of the Laplacian of that Y over the original's: 1 is as sharp as it, less is softer",
        "seconds": "to compute a result in memory, after a first one that is not timed",
        "degradation": "of LR, where its table says so: blurred by a Gaussian (its standard deviation in LR pixels), "
        "then Gaussian noise added (its standard deviation in levels, other values in each channel, seeded by the "
        "CRC-32 of the name), then stored as JPEG (libjpeg's quality, colours at half the resolution) and read again; "
        "8 bits after each",
        "bicubic": "interpolation with a = -0.5, as tf.image.resize does it",
        "blend": "weights between those of the first and the second model, that share of the way",
        "computed": measured.computed,
    }
    used = {"perceptual_distance": measured.vgg, "degradation": measured.degraded}
    return {name: text for name, text in said.items() if used.get(name, True)}


def lr_origin(benchmark: Benchmark) -> str:
    """Say where the inputs of a benchmark come from."""
    origin = f"the benchmark's own LRx{benchmark.scale}"
    if benchmark.lr_is_made:
        origin = "made from HR by antialiased bicubic interpolation, as MATLAB's imresize does, in 8 bits"
    return origin if benchmark.degradation == Fixed() else f"{origin}; then degraded: {benchmark.degradation}"


def by_model(rows: Sequence[Row]) -> dict[str, Score]:
    """Return each model's means."""
    models = dict.fromkeys(row.model for row in rows)
    return {model: means([row for row in rows if row.model == model]) for model in models}


def table(scores: Mapping[str, Score]) -> str:
    """Return a Markdown table of scores by name, aligned so that it reads well at a terminal, too."""
    shown = [column for column in COLUMNS if None not in [getattr(score, column) for score in scores.values()]]
    lines = [["", *(COLUMNS[column][0] for column in shown)]]
    for name, score in scores.items():
        cells = (format(getattr(score, column), COLUMNS[column][1]) for column in shown)
        lines.append([name.replace("|", "\\|"), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    padded = (
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def section(result: Result) -> str:
    """Return a benchmark's heading and table, as Markdown."""
    benchmark, rows = result
    heading = f"## {benchmark.name}, ×{benchmark.scale}, images: {len(benchmark.files)}"
    return f"{heading}\n\n{table(by_model(rows))}\n\nLR: {lr_origin(benchmark)}."


def markdown(results: Sequence[Result], measured: Measured) -> str:
    """Return the tables of all benchmarks and how everything was measured, as Markdown."""
    headings = {column: heading for column, (heading, _) in COLUMNS.items()}
    said = "\n".join(f"- {headings.get(name, name)}: {text}" for name, text in protocol(measured).items())
    models = "\n".join(f"- {name}: `{path}`" for name, path in measured.models.items())
    parts = [*map(section, results), f"## Models\n\n{models}", f"## How it was measured\n\n{said}"]
    return "# Evaluation\n\n" + "\n\n".join(parts) + "\n"


def as_json(results: Sequence[Result], measured: Measured) -> str:
    """Return the means of all benchmarks, of which files and how everything was measured, as JSON."""
    content = {
        "protocol": protocol(measured),
        "models": dict(measured.models),
        "benchmarks": {
            benchmark.name: {
                "scale": benchmark.scale,
                "lr": lr_origin(benchmark),
                "images": len(benchmark.files),
                "means": {model: score._asdict() for model, score in by_model(rows).items()},
            }
            for benchmark, rows in results
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """Return a line for each image of each model, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["benchmark", "image", "model", *Score._fields])
    for benchmark, rows in results:
        writer.writerows([benchmark.name, row.image, row.model, *row.score] for row in rows)
    return text.getvalue()


def write_tables(results: Sequence[Result], measured: Measured, folder: str) -> None:
    """Write the tables of some benchmarks into a folder, as Markdown, JSON and CSV."""
    texts = {
        "results.md": markdown(results, measured),
        "results.json": as_json(results, measured),
        "images.csv": as_csv(results),
    }
    for name, text in texts.items():
        with written_whole(os.path.join(folder, name)) as aside, open(aside, "w", encoding="utf-8") as file:
            file.write(text)


def from_worst_to_best(result: Result, methods: Mapping[str, Upscale]) -> Figure:
    """Draw what the methods make of at most `FIGURE_ROWS` images, evenly spread in the order of the last one's PSNR."""
    benchmark, rows = result
    last = [row.score.psnr_y for row in rows if row.model == rows[-1].model]
    places = np.linspace(0, len(last) - 1, min(FIGURE_ROWS, len(last)))
    numbers = np.argsort(last)[places.round().astype(int)]
    return against_truth([_truth(benchmark, number, rows, methods) for number in numbers])


def _truth(benchmark: Benchmark, number: int, rows: Sequence[Row], methods: Mapping[str, Upscale]) -> Truth:
    pair = benchmark.read(number)
    captions = {
        row.model: f"{row.score.psnr_y:.2f} dB / {row.score.ssim_y:.4f}" for row in rows if row.image == pair.name
    }
    results = {name: upscale(pair.lr) for name, upscale in methods.items()}
    return Truth(pair.name, pair.hr, results, captions)
