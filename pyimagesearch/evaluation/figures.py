"""Figures of results beside their ground truth."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyimagesearch.inference.comparison import most_detailed, shrunk

TRUTH_INSET_SIZE = 160
"""The side of the part of an image that an inset shows, in pixels."""


class Truth(NamedTuple):
    """A row of a figure.

    Attributes:
        title: the title of the image.
        hr: the ground truth, uint8 RGB [H, W, 3].
        results: the results by the name of the model, as `hr`.
        captions: the captions of the results, by the name of the model.
    """

    title: str
    hr: np.ndarray
    results: Mapping[str, np.ndarray]
    captions: Mapping[str, str]


def against_truth(rows: Sequence[Truth]) -> Figure:
    """Draw results and their ground truth. Each row has the whole image, then the most detailed part of each result.

    Args:
        rows: the rows. All have the same number of results.
    """
    columns = 2 + max(len(row.results) for row in rows)
    figure = Figure((3.2 * columns, 3.6 * len(rows)), layout="constrained")
    for axes, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        height, width, _ = row.hr.shape
        top, left, size = most_detailed(row.hr, TRUTH_INSET_SIZE)
        whole, *insets = axes
        whole.imshow(shrunk(row.hr), extent=(0, width, height, 0))
        whole.add_patch(Rectangle((left, top), size, size, fill=False, color="blue"))
        whole.set_title(row.title, parse_math=False)
        whole.set(xticks=[], yticks=[])
        images = [*row.results.items(), ("High resolution", row.hr)]
        for inset, (title, image) in zip(insets, images, strict=True):
            inset.imshow(image[top : top + size, left : left + size], interpolation="nearest")
            inset.set_title(title, parse_math=False)
            inset.set(xlabel=row.captions.get(title, ""), xticks=[], yticks=[])
    return figure
