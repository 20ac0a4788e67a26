"""Bands of a large image, which several workers compute. They are stored in a folder beside the result."""

import math
import os
from collections.abc import Callable

import numpy as np

from pyimagesearch import files
from pyimagesearch.data.image_io import read_image, read_size
from pyimagesearch.inference.upscaling import Upscaler, colours

LARGE = 8_000_000
"""An image of more pixels is divided into bands."""


def is_large(source: str) -> bool:
    """Return whether an image is divided. Return False if it cannot be read."""
    try:
        return math.prod(read_size(source)) > LARGE
    except Exception:  # errors are reported when the image is read
        return False


def folder_of(target: str) -> str:
    """Return the folder of the bands of a result."""
    folder, name = os.path.split(target)
    return os.path.join(folder, files.fitting_name(f".unfinished-{name}.bands"))


def begin(source: str, target: str, upscale: Upscaler) -> int:
    """Remove earlier bands, and return the number of bands, or 0 if the image has only one.

    Args:
        source: the path of the image.
        target: the path of the result.
        upscale: the upscaler.

    Raises:
        ImageError: the image cannot be read.
    """
    remove(target)
    count = upscale.count_bands(read_image(source).pixels.shape[0])
    return count if count > 1 else 0


def make(number: int, source: str, target: str, upscale: Upscaler, progress: Callable[[float], None]) -> None:
    """Compute a band and store it.

    Args:
        number: the number of the band, counted from 0.
        source: the path of the image.
        target: the path of the result.
        upscale: the upscaler.
        progress: see `Upscaler`.
    """
    band = upscale.compute_band(colours(read_image(source)), number, progress)
    with files.written_whole(_path(target, number)) as aside:
        np.save(aside, band)


def remove(target: str) -> None:
    """Remove the bands of a result, if there are any."""
    if files.is_local(target):
        files.remove(folder_of(target))


def _path(target: str, number: int) -> str:
    return os.path.join(folder_of(target), f"{number}.npy")


class Joined:
    """An upscaler for the image of a result, which joins its bands. It computes the image if a band is missing."""

    def __init__(self, target: str, upscale: Upscaler) -> None:
        """Prepare the upscaler.

        Args:
            target: the path of the result.
            upscale: what has computed the bands.
        """
        self._target, self._upscale = target, upscale
        self.scale = upscale.scale

    def __call__(self, lr: np.ndarray, progress: Callable[[float], None] | None = None) -> np.ndarray:
        """Return the result of the upscaler. See `Upscaler`."""
        paths = [_path(self._target, number) for number in range(self._upscale.count_bands(lr.shape[0]))]
        if len(paths) > 1 and all(map(os.path.exists, paths)):
            return self._upscale.join_bands(lr, [np.load(path) for path in paths])
        return self._upscale(lr, progress)
