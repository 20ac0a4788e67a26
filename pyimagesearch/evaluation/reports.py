"""The reports of an evaluation: tables, JSON, CSV, a figure, and the protocol of the measures."""

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
from pyimagesearch.files import write_text

FIGURE_ROWS = 5
"""The largest number of images in a figure."""


class Measured(NamedTuple):
    """The conditions of an evaluation.

    Attributes:
        scale: the scaling factor.
        models: the paths of the models by name.
        computed: the runtime, precision and device.
        vgg: the VGG layers and weights of the perceptual distance, or None if it was not measured.
        degraded: whether inputs of a benchmark were degraded.
    """

    scale: int
    models: Mapping[str, str]
    computed: str
    vgg: str | None = None
    degraded: bool = False


class Result(NamedTuple):
    """The results of a benchmark."""

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
"""The heading of each measure in tables, and the format of its numbers."""


def protocol(measured: Measured) -> dict[str, str]:
    """Return a description of each measure and of the conditions, by name."""
    texts = {
        "images": f"8 bits, results clipped and rounded; {measured.scale} pixels cut from each side",
        "means": "over the measures of single images",
        "psnr_y": f"PSNR on Y of ITU-R BT.601 (16..235), peak 255, at most {PSNR_OF_EQUALS:.0f} dB",
        "ssim_y": "SSIM on that Y: Gaussian window of 11 x 11 pixels, sigma 1.5, K1 0.01, K2 0.03, range 255",
        "psnr_rgb": "the same on red, green and blue together",
        "ssim_rgb": "the mean of the three channels",
        "lr_psnr": "PSNR on RGB of the result, reduced again by antialiased bicubic interpolation, against the input; "
        "1 pixel cut from each side",
        "perceptual_distance": f"of the features of whole images, {measured.vgg}: the vector at each position divided "
        "by its length, the squared distance summed over channels, the mean over positions and layers; LPIPS "
        "(Zhang et al., arXiv 1801.03924) without its learned weights",
        "grid": f"energy of the Laplacian of that Y at each position of the {measured.scale} x {measured.scale} pixels "
        f"of an input pixel, the largest divided by the smallest: up to {metrics.NO_GRID} in photographs, "
        "higher if a pattern repeats and if the result is as soft as bicubic interpolation",
        "detail": "energy of the Laplacian of that Y, divided by that of the ground truth: less than 1 is softer",
        "seconds": "to compute a result in memory, after a first result that is not timed",
        "degradation": "of LR in tables that name it: Gaussian blur (standard deviation in LR pixels), then Gaussian "
        "noise (standard deviation in levels, independent in each channel, seeded by the CRC-32 of the name), then "
        "JPEG (the quality of libjpeg, colours at half the resolution); rounded to 8 bits after each step",
        "bicubic": "interpolation with a = -0.5, by tf.image.resize",
        "alpha": "interpolated weights: 1 - alpha times those of the first model plus alpha times those of the second",
        "computed": measured.computed,
    }
    used = {"perceptual_distance": measured.vgg, "degradation": measured.degraded}
    return {name: text for name, text in texts.items() if used.get(name, True)}


def lr_origin(benchmark: Benchmark) -> str:
    """Return a description of the LR images of a benchmark."""
    origin = f"the benchmark's own LRx{benchmark.scale}"
    if benchmark.lr_is_made:
        origin = "made from HR by antialiased bicubic interpolation, as MATLAB's imresize does, in 8 bits"
    return origin if benchmark.degradation == Fixed() else f"{origin}; then degraded: {benchmark.degradation}"


def by_model(rows: Sequence[Row]) -> dict[str, Score]:
    """Return the mean score of each model.

    Args:
        rows: from `benchmarks.evaluate`.
    """
    models = dict.fromkeys(row.model for row in rows)
    return {model: means([row for row in rows if row.model == model]) for model in models}


def table(scores: Mapping[str, Score]) -> str:
    """Return a Markdown table of scores by name, with aligned columns for terminals.

    Args:
        scores: the scores by the name of their row. A measure that a score does not have is left out.
    """
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
    """Return the heading and the table of a benchmark, as Markdown."""
    benchmark, rows = result
    heading = f"## {benchmark.name}, ×{benchmark.scale}, images: {len(benchmark.files)}"
    return f"{heading}\n\n{table(by_model(rows))}\n\nLR: {lr_origin(benchmark)}."


def markdown(results: Sequence[Result], measured: Measured) -> str:
    """Return the tables of all benchmarks and the protocol, as Markdown.

    Args:
        results: the results of all benchmarks.
        measured: the conditions.
    """
    headings = {column: heading for column, (heading, _) in COLUMNS.items()}
    measures = "\n".join(f"- {headings.get(name, name)}: {text}" for name, text in protocol(measured).items())
    models = "\n".join(f"- {name}: `{path}`" for name, path in measured.models.items())
    parts = [*map(section, results), f"## Models\n\n{models}", f"## How it was measured\n\n{measures}"]
    return "# Evaluation\n\n" + "\n\n".join(parts) + "\n"


def as_json(results: Sequence[Result], measured: Measured) -> str:
    """Return the means of all benchmarks, the paths of the models and the protocol, as JSON.

    Args:
        results: the results of all benchmarks.
        measured: the conditions.
    """
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
    """Return a table with a row for each image and model, as CSV.

    Args:
        results: the results of all benchmarks.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["benchmark", "image", "model", *Score._fields])
    for benchmark, rows in results:
        writer.writerows([benchmark.name, row.image, row.model, *row.score] for row in rows)
    return text.getvalue()


def write_tables(results: Sequence[Result], measured: Measured, folder: str) -> None:
    """Write the tables of benchmarks to a folder: results.md, results.json and images.csv.

    Args:
        results: the results of all benchmarks.
        measured: the conditions.
        folder: the folder, which must exist.
    """
    texts = {
        "results.md": markdown(results, measured),
        "results.json": as_json(results, measured),
        "images.csv": as_csv(results),
    }
    for name, text in texts.items():
        write_text(os.path.join(folder, name), text)


def from_worst_to_best(result: Result, methods: Mapping[str, Upscale]) -> Figure:
    """Draw the results of at most `FIGURE_ROWS` images, which are evenly spaced in the last model's PSNR.

    Args:
        result: the results of a benchmark.
        methods: functions that upscale images, by the name of the model.
    """
    benchmark, rows = result
    last = [row.score.psnr_y for row in rows if row.model == rows[-1].model]
    positions = np.linspace(0, len(last) - 1, min(FIGURE_ROWS, len(last)))
    numbers = np.argsort(last)[positions.round().astype(int)]
    return against_truth([_truth(benchmark, number, rows, methods) for number in numbers])


def _truth(benchmark: Benchmark, number: int, rows: Sequence[Row], methods: Mapping[str, Upscale]) -> Truth:
    pair = benchmark.read(number)
    captions = {
        row.model: f"{row.score.psnr_y:.2f} dB / {row.score.ssim_y:.4f}" for row in rows if row.image == pair.name
    }
    results = {name: upscale(pair.lr) for name, upscale in methods.items()}
    return Truth(pair.name, pair.hr, results, captions)
