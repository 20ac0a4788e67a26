"""Pairs of a low-resolution and a high-resolution image: make them from images, and cut them into records."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pyimagesearch.metrics import to_uint8


class Pair(NamedTuple):
    """An image or a piece of an image, in both resolutions.

    Attributes:
        name: the name of the image.
        lr: uint8 RGB [h, w, 3].
        hr: uint8 RGB [S*h, S*w, 3].
        top: the row of the piece in the image, in LR pixels.
        left: the column of the piece in the image, in LR pixels.
        area: the weight of the piece when records are drawn at random, in HR pixels; see `cut`. None: its own area.
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray
    top: int = 0
    left: int = 0
    area: float | None = None


def make_pair(name: str, hr: np.ndarray, scale: int) -> Pair:
    """Make a pair from an image. LR is made by `shrink`.

    Args:
        name: the name of the image.
        hr: uint8 RGB [H, W, 3]. Rows and columns beyond a multiple of `scale` are cut off.
        scale: the scaling factor of HR relative to LR.
    """
    height, width, _ = hr.shape
    hr = hr[: height // scale * scale, : width // scale * scale]
    return Pair(name, shrink(hr, scale), hr)


def shrink(hr: np.ndarray, scale: int) -> np.ndarray:
    """Reduce an image by antialiased bicubic interpolation, as MATLAB's imresize does.

    Args:
        hr: uint8 RGB [scale * h, scale * w, 3].
        scale: the factor of the reduction.

    Returns:
        uint8 RGB [h, w, 3].
    """
    height, width, _ = hr.shape
    return to_uint8(tf.image.resize(hr, (height // scale, width // scale), "bicubic", antialias=True).numpy())


def cut(pairs: Iterable[Pair], piece_size: int, crop_size: int | None = None) -> Iterator[Pair]:
    """Cut pairs into pieces of about the same size.

    Args:
        pairs: the pairs.
        piece_size: the longest HR side of a piece in pixels.
        crop_size: the side of the HR crops in pixels that will be drawn from the pieces. The pieces overlap so that
            each position of a crop is in exactly one piece. If None, pieces do not overlap.

    Yields:
        The pieces. Their areas are in proportion to the number of crop positions, and their sum is the area of the
        image.
    """
    for pair in pairs:
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        overlap = crop_size // scale - 1 if crop_size else 0
        (height, width, _), (hr_height, hr_width, _) = pair.lr.shape, pair.hr.shape
        positions = (height - overlap) * (width - overlap)
        for top, bottom in spans(height, piece_size // scale, overlap):
            for left, right in spans(width, piece_size // scale, overlap):
                lr = pair.lr[top:bottom, left:right]
                hr = pair.hr[top * scale : bottom * scale, left * scale : right * scale]
                share = (bottom - top - overlap) * (right - left - overlap) / positions
                yield Pair(pair.name, lr, hr, top, left, share * hr_height * hr_width)


def spans(length: int, longest: int, overlap: int) -> list[tuple[int, int]]:
    """Divide a length into pieces of about the same length.

    Args:
        length: the length in pixels.
        longest: the longest piece in pixels.
        overlap: the overlap of neighbouring pieces in pixels.

    Returns:
        The start and the end of each piece.
    """
    count = math.ceil((length - overlap) / (longest - overlap))
    edges = [round(i * (length - overlap) / count) for i in range(count + 1)]
    return [(start, end + overlap) for start, end in pairwise(edges)]
