"""Figures: the comparison grid, zoomed images and training curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.inset_locator import mark_inset, zoomed_inset_axes

CELL_INCHES = 2.6


def comparison_grid(columns: Mapping[str, Sequence[np.ndarray]], captions: Mapping[str, Sequence[str]]) -> Figure:
    """Draw images in a grid with a titled column for each method.

    Args:
        columns: the images of each column by its title, uint8 RGB [H, W, 3] of any size. All columns have the same
            number of images.
        captions: the captions of the images, by the title of the column. A column need not have captions.
    """
    rows = len(next(iter(columns.values())))
    figure = Figure((CELL_INCHES * len(columns), (CELL_INCHES + 0.2) * rows + 0.2), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, images) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title)
        for row, (cell, image) in enumerate(zip(column, images, strict=True)):
            cell.imshow(image, interpolation="nearest")
            cell.set(xticks=[], yticks=[])
            if title in captions:
                cell.set_xlabel(captions[title][row])
    return figure


def zoom_into_images(image: np.ndarray, image_title: str) -> Figure:
    """Draw an image with an enlarged inset at the upper left. Blue lines connect the inset with its part of the image.

    Args:
        image: uint8 RGB [H, W, 3], at least 40 x 40 pixels.
        image_title: the title of the figure.

    Returns:
        The figure. The inset shows the square from (20, 20) to (40, 40), counted from the lower left, at twice the
        size.
    """
    figure = Figure((6, 6), layout="constrained")
    whole = figure.subplots()
    whole.imshow(image[::-1], origin="lower", interpolation="nearest")
    whole.set(title=image_title, xticks=[], yticks=[])
    inset = zoomed_inset_axes(whole, zoom=2, loc="upper left")
    inset.imshow(image[::-1], origin="lower", interpolation="nearest")
    inset.set(xlim=(20, 40), ylim=(20, 40), xticks=[], yticks=[])
    mark_inset(whole, inset, loc1=1, loc2=3, fc="none", ec="blue")
    return figure


CURVES = {
    "first stage": ("pixel_loss",),
    "generator": ("content_loss", "adversarial_loss", "l1_loss", "reduced_loss", "grid_loss"),
    "discriminator: probability of being real": ("d_real", "d_fake"),
    "fraction of the generator's gradient": (
        "content_share",
        "adversarial_share",
        "l1_share",
        "reduced_share",
        "grid_share",
    ),
    "validation: PSNR on Y (dB)": ("val_psnr",),
    "validation: SSIM on Y": ("val_ssim",),
    "validation: perceptual distance": ("val_perceptual_distance",),
    "validation: grid and detail": ("val_grid", "val_detail"),
}


def training_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the curves of a training over the steps of both stages.

    Args:
        rows: from `callbacks.read_history`.

    Returns:
        The figure. It has a panel for each entry of `CURVES`. The axes of losses are logarithmic.
    """
    before = max((row["step"] for row in rows if row["stage"] == "pretrain"), default=0)
    figure = Figure((18, 7.5))
    figure.subplots_adjust(left=0.04, right=0.99, bottom=0.07, top=0.95, wspace=0.2, hspace=0.3)
    for axes, (title, columns) in zip(figure.subplots(2, 4).flat, CURVES.items(), strict=True):
        axes.set_title(title, y=1)  # matplotlib searches for the position if it is not given, which takes long
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=5)  # numbers of steps are long
        for column in columns:
            points = [
                (row["step"] + (before if row["stage"] == "finetune" else 0), row[column])
                for row in rows
                if column in row
            ]
            if points:
                axes.plot(*zip(*points, strict=True), label=column, marker="." if len(points) < 50 else "")
                axes.legend()
                axes.set_yscale("log" if column.endswith("_loss") else "linear")
        if before:
            axes.axvline(before, color="grey", linestyle=":")
    return figure
