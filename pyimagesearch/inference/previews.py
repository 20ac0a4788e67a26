"""Images for a browser: before and after, and where two generators differ."""

import os
from typing import NamedTuple

import cv2
import numpy as np

from pyimagesearch.data.image_io import LoadedImage
from pyimagesearch.files import written_whole
from pyimagesearch.inference.comparison import as_jpeg, as_rgb, enlarged_part, shrunk
from pyimagesearch.metrics import to_uint8

SIZE = 4096
"""The longest side of a preview in pixels. Larger images are reduced."""

STRONGEST = 16
"""The difference, in levels of 0..255, from which the heat map has its last colour."""

VISIBLE = 4
"""The difference, in levels of 0..255, from which a pixel counts as changed."""

_SPREAD = 2  # the standard deviation, in pixels, of the blur of differences: single pixels could not be seen


class Pair(NamedTuple):
    """Two images of the same size to be compared, as paths of JPEG files."""

    left: str
    right: str


class Difference(NamedTuple):
    """How much two results differ.

    Attributes:
        mean: the mean absolute difference of all channels, in levels of 0..255.
        changed: the part of the pixels, from 0 to 1, whose blurred difference is more than `VISIBLE`.
    """

    mean: float
    changed: float


def write_before_and_after(folder: str, before: LoadedImage, after: LoadedImage) -> Pair:
    """Write previews of an input, upscaled by bicubic interpolation, and of its result.

    Args:
        folder: the folder of the previews.
        before: the input.
        after: the result.
    """
    right = shrunk(after.pixels, SIZE)
    left = enlarged_part(before.pixels, right.shape, 0, 0, *right.shape[:2])
    return _write(folder, left, before.metadata.icc, right, after.metadata.icc)


def write_heat_map(folder: str, result: LoadedImage, other: LoadedImage) -> tuple[Pair, Difference]:
    """Write previews of a result and of the result below the heat map of its difference from another one.

    Args:
        folder: the folder of the previews.
        result: the result that is shown.
        other: a result of the same size.
    """
    pixels, others = as_rgb(result.pixels), as_rgb(other.pixels)
    levels = cv2.absdiff(pixels, others)
    blurred = cv2.GaussianBlur(levels.astype(np.float32).mean(axis=-1), (0, 0), _SPREAD)
    difference = Difference(float(levels.mean()), float((blurred > VISIBLE).mean()))
    shown = shrunk(heat_map(pixels, blurred), SIZE)
    return _write(folder, shrunk(pixels, SIZE), result.metadata.icc, shown, None), difference


def heat_map(image: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Lay the heat map of a difference over an image, which is drawn in grey.

    Args:
        image: uint8 RGB [H, W, 3].
        difference: float32 [H, W] in levels of 0..255. 0 shows the image; `STRONGEST` and more cover it.

    Returns:
        uint8 RGB [H, W, 3].
    """
    strength = np.minimum(difference / STRONGEST, 1)[..., None]
    heat = cv2.applyColorMap(to_uint8(255 * strength), cv2.COLORMAP_AUTUMN)[..., ::-1]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return to_uint8(grey * (1 - strength) + heat * strength)


def _write(folder: str, left: np.ndarray, left_icc: bytes | None, right: np.ndarray, right_icc: bytes | None) -> Pair:
    pair = Pair(os.path.join(folder, "left.jpg"), os.path.join(folder, "right.jpg"))
    for path, image, icc in ((pair.left, left, left_icc), (pair.right, right, right_icc)):
        with written_whole(path) as aside, open(aside, "wb") as file:
            file.write(as_jpeg(image, icc))
    return pair
