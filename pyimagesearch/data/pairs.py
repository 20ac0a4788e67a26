"""Pairs of low and high resolution: how one is made of an image, and cut into records."""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pyimagesearch.metrics import to_uint8


class Pair(NamedTuple):
    """An image or a piece of one, in both resolutions.

    `lr` is uint8 RGB [h, w, 3], `hr` uint8 RGB [S*h, S*w, 3]; `top` and `left` are the place of the piece in the
    image called `name`, in LR pixels; `area` is what it stands for of that image, in HR pixels, where None means
    its own.
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray
    top: int = 0
    left: int = 0
    area: float | None = None


def make_pair(name: str, hr: np.ndarray, scale: int) -> Pair:
    """Return the pair of an image, uint8 RGB [H, W, 3], trimmed to a multiple of `scale`; LR is made by `shrink`."""
    height, width, _ = hr.shape
    hr = hr[: height // scale * scale, : width // scale * scale]
    return Pair(name, shrink(hr, scale), hr)


def shrink(hr: np.ndarray, scale: int) -> np.ndarray:
    """Reduce an image by antialiased bicubic interpolation, as MATLAB's imresize does.

    Args:
        hr: uint8 RGB [scale * h, scale * w, 3].
        scale: how many times smaller the result is.

    Returns:
        uint8 RGB [h, w, 3].
    """
    height, width, _ = hr.shape
    return to_uint8(tf.image.resize(hr, (height // scale, width // scale), "bicubic", antialias=True).numpy())


def cut(pairs: Iterable[Pair], piece_size: int, crop_size: int | None = None) -> Iterator[Pair]:
    """Cut pairs into pieces of about the same size.

    Args:
        pairs: the pairs.
        piece_size: the longest side of a piece, HR.
        crop_size: the side of the crops, HR, that will be drawn from the pieces: they then overlap so that each
            place for a crop is in one piece and no other. Pieces do not overlap if None.

    Yields:
        The pieces; each stands for the part of the image's area that it has of the places for a crop.
    """
    for pair in pairs:
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        overlap = crop_size // scale - 1 if crop_size else 0
        (height, width, _), (hr_height, hr_width, _) = pair.lr.shape, pair.hr.shape
        places = (height - overlap) * (width - overlap)
        for top, bottom in spans(height, piece_size // scale, overlap):
            for left, right in spans(width, piece_size // scale, overlap):
                lr = pair.lr[top:bottom, left:right]
                hr = pair.hr[top * scale : bottom * scale, left * scale : right * scale]
                share = (bottom - top - overlap) * (right - left - overlap) / places
                yield Pair(pair.name, lr, hr, top, left, share * hr_height * hr_width)


def spans(length: int, longest: int, overlap: int) -> list[tuple[int, int]]:
    """Return where each piece of a length begins and ends, if none is longer than `longest`."""
    count = math.ceil((length - overlap) / (longest - overlap))
    edges = [round(i * (length - overlap) / count) for i in range(count + 1)]
    return [(start, end + overlap) for start, end in pairwise(edges)]
