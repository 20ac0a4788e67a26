"""Results that agree with their inputs: reduced again, they have the input's colours.

A network shifts colours where its input is unlike its training data, such as patterns of single pixels and saturated
colours. The reduction is that of `pairs.shrink`, antialiased bicubic interpolation as MATLAB's imresize.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
import scipy.linalg
import scipy.sparse

from pyimagesearch.metrics import cubic_kernel

BLOCK = 16
"""The side, in LR pixels, of the blocks whose mean colours a result keeps, from the upper left corner."""

_STRIP = 16  # LR rows at once
_PROJECTIONS = 5
_ENOUGH = 0.9995  # of the pixels that are rounded to what they are to be
_BANDS = 3  # diagonals beside the main one in the product of the taps and their transpose

Lowpass = Callable[[np.ndarray], np.ndarray]
"""From float32 [h, w, C] to the same, smoothed."""


class Reduction:
    """Antialiased bicubic reduction of images of one size, in strips."""

    def __init__(self, height: int, width: int, scale: int) -> None:
        """Prepare the reduction from [scale * height, scale * width, C] to [height, width, C]."""
        self.scale = scale
        self.rows, self.columns = (_taps(length, scale) for length in (height, width))
        self.columns_transposed = self.columns.T.tocsr()
        self.strips = [slice(top, min(top + _STRIP, height)) for top in range(0, height, _STRIP)]

    def for_strips(self, function: Callable[[slice], Any]) -> list[Any]:
        """Return what a function gives for each strip of rows of the small image, on all cores."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(function, self.strips))

    def enlarged(self, strip: slice) -> slice:
        """Return the rows of the large image that belong to a strip of the small one."""
        return slice(self.scale * strip.start, self.scale * strip.stop)

    def reduce(self, sr: np.ndarray) -> np.ndarray:
        """Return an image [S*h, S*w, C] of any dtype in its small size, float32 [h, w, C], not clipped."""
        return np.concatenate(self.for_strips(partial(self._reduce_strip, sr)))

    def _reduce_strip(self, sr: np.ndarray, strip: slice) -> np.ndarray:
        taps = self.rows[strip]
        first, last = taps.indices.min(), taps.indices.max() + 1
        seen = sr[first:last].astype(np.float32)
        narrow = taps[:, first:last] @ seen.reshape(last - first, -1)
        return _along_columns(self.columns, narrow.reshape(-1, *sr.shape[1:]))

    def transpose(self, lr: np.ndarray, strip: slice) -> np.ndarray:
        """Return a strip, float32 [S*n, S*w, C], of the large image that the transposed reduction makes of `lr`."""
        taps = self.rows[:, self.enlarged(strip)].T.tocsr()
        first, last = taps.indices.min(), taps.indices.max() + 1
        wide = _along_columns(self.columns_transposed, lr[first:last])
        return (taps[:, first:last] @ wide.reshape(last - first, -1)).reshape(-1, *wide.shape[1:])

    def solve(self, difference: np.ndarray) -> np.ndarray:
        """Return that of which `transpose` makes the least image whose reduction is `difference`, float32 [h, w, C]."""
        by_rows = _solve(self.rows, difference)
        return np.ascontiguousarray(_solve(self.columns, by_rows.swapaxes(0, 1)).swapaxes(0, 1))


def _taps(length: int, scale: int) -> scipy.sparse.csr_array:
    """Return the matrix, float32 [length, scale * length], that reduces a line; taps beyond its ends are left out."""
    centres = scale * (np.arange(length)[:, None] + 0.5)  # [n, 1]
    places = np.floor(centres).astype(int) + np.arange(-2 * scale, 2 * scale)  # [n, 4*S]
    weights = cubic_kernel((places + 0.5 - centres) / scale)
    inside = (places >= 0) & (places < scale * length) & (weights != 0)
    weights = np.where(inside, weights, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(length)[:, None], places.shape)
    entries = weights[inside].astype(np.float32), (rows[inside], places[inside])
    return scipy.sparse.csr_array(entries, shape=(length, scale * length))


def _along_columns(matrix: scipy.sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Return an image [n, w, C] whose rows are multiplied by a matrix [m, w]: [n, m, C]."""
    height, width, channels = image.shape
    lines = np.ascontiguousarray(image.swapaxes(0, 1)).reshape(width, -1)
    return np.ascontiguousarray((matrix @ lines).reshape(-1, height, channels).swapaxes(0, 1))


def _solve(taps: scipy.sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Return an image [n, m, C] multiplied along its first axis by the inverse of the taps times their transpose."""
    product = taps @ taps.T
    bands = min(_BANDS, len(image) - 1)
    diagonals = np.stack([np.pad(product.diagonal(-band), (0, band)) for band in range(bands + 1)])
    solved = scipy.linalg.solveh_banded(diagonals, image.reshape(len(image), -1), lower=True)
    return solved.reshape(image.shape).astype(np.float32)


def block_means(image: np.ndarray) -> np.ndarray:
    """Return an image [h, w, C] in which each pixel has the mean of its block, of `BLOCK` pixels a side at most."""
    for axis in (0, 1):
        length = image.shape[axis]
        starts = np.arange(0, length, BLOCK)
        sizes = np.minimum(BLOCK, length - starts)
        sums = np.add.reduceat(image, starts, axis)
        image = (sums / np.expand_dims(sizes, (1 - axis, 2)).astype(np.float32)).repeat(sizes, axis)
    return image


def _smoothed(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(image.shape)


_SMOOTHINGS: tuple[Lowpass, ...] = (partial(_smoothed, sigma=0.5), partial(_smoothed, sigma=1.5))
_LITTLE = 8 / 255  # of the range: what the pixels of a block may lack on average for one correction to be enough


def hold_colours(lr: np.ndarray, sr: np.ndarray) -> None:
    """Give a result the low frequencies of its input.

    What the reduced result lacks, smoothed, is mixed into the result as white or black: no value leaves its range, and
    textures of extreme values get the right mean, too. Then the mean of each block of 16 pixels differs by less than a
    level. An exception are blocks of an extreme colour that border on the opposite one, such as black on white: no
    image in this range reduces to these, and several levels may remain.

    Args:
        lr: the input, uint8 or uint16 [h, w, C].
        sr: the result, [S*h, S*w, C] of the same dtype; is changed in place.
    """
    reduction = Reduction(*lr.shape[:2], len(sr) // len(lr))
    full = np.float32(np.iinfo(lr.dtype).max)
    reduced = np.clip(reduction.reduce(sr), 0, full)
    if block_means(np.abs(lr - reduced)).max() <= _LITTLE * full:
        _correct(reduction, lr, sr, reduced, *_SMOOTHINGS)
        return
    for lowpass in (*_SMOOTHINGS, block_means):
        _correct(reduction, lr, sr, reduced, lowpass)
        reduced = np.clip(reduction.reduce(sr), 0, full)


def _correct(reduction: Reduction, lr: np.ndarray, sr: np.ndarray, reduced: np.ndarray, *lowpasses: Lowpass) -> None:
    """Mix into a result, in place, what it lacks at the frequencies of each lowpass in turn.

    What one mixture makes of the reduced result is computed from its pixels, float32 [h, w, C], for the next one. That
    is nearly right where little is mixed in.
    """
    target, full = reduced, np.iinfo(lr.dtype).max
    for lowpass in lowpasses:
        shares = _shares(lr, target, full, lowpass)
        target = target * (1 - np.abs(shares)) + np.maximum(shares, 0) * np.float32(full)
    _mix(reduction, sr, _shares(target, reduced, full, np.asarray))


def _shares(lr: np.ndarray, reduced: np.ndarray, full: int, lowpass: Lowpass) -> np.ndarray:
    """Return how much white, or if negative black, is to be mixed in, float32 [h, w, C] from -1 to 1."""
    lacking = lowpass(lr - reduced)
    room = np.where(lacking > 0, lowpass(full - reduced), lowpass(reduced))
    shares = np.clip(lacking / np.maximum(room, np.float32(full / 255)), -1, 1)
    if lowpass is block_means:  # which leaves ordinary images alone
        shares[np.abs(lacking) < full / 510] = 0
    return shares


def _mix(reduction: Reduction, sr: np.ndarray, shares: np.ndarray) -> None:
    """Mix white and black into a result, in place; shares between pixels are interpolated linearly.

    They change their sign together with what is lacking, so that an edge between extreme colours stays sharp.
    """
    full, scale = np.iinfo(sr.dtype).max, reduction.scale

    def mix(strip: slice) -> None:
        first, last = max(0, strip.start - 1), min(len(shares), strip.stop + 1)
        seen = shares[first:last]
        if np.abs(seen).max() * full < 0.5:  # nothing would change
            return
        place = sr[reduction.enlarged(strip)]
        large = cv2.resize(seen, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        share = large[scale * (strip.start - first) :][: len(place)].reshape(place.shape)  # [S*n, S*w, C]
        kept = cv2.multiply(place, 1 - np.abs(share), dtype=cv2.CV_32F)
        _add(kept, np.maximum(share, 0) * np.float32(full), place)

    reduction.for_strips(mix)


def _add(image: np.ndarray, other: np.ndarray, place: np.ndarray) -> None:
    """Put the sum of two images into the place of integers of their shape, rounded and clipped to their range."""
    depth = {np.dtype(np.uint8): cv2.CV_8U, np.dtype(np.uint16): cv2.CV_16U}[place.dtype]
    place[:] = cv2.add(image, other.reshape(image.shape), dtype=depth).reshape(place.shape)


def project(lr: np.ndarray, sr: np.ndarray) -> None:
    """Change a result as little as possible so that, reduced again, it is the input, as far as its range permits.

    The orthogonal projection onto all images that reduce to the input, and clipping, in turn. It is the back-projection
    of Irani and Peleg, "Improving resolution by image registration", 1991, with the pseudoinverse of the reduction. An
    original that reduces to the input lies among those images: so the squared error does not rise, rounding apart.

    Args:
        lr: as for `hold_colours`.
        sr: as for `hold_colours`.
    """
    reduction = Reduction(*lr.shape[:2], len(sr) // len(lr))
    half = np.iinfo(lr.dtype).max / 510  # a level
    for _ in range(_PROJECTIONS):
        lacking = lr - reduction.reduce(sr)
        if np.mean(np.abs(lacking) < half) > _ENOUGH:
            break
        difference = reduction.solve(lacking)

        def change(strip: slice, difference: np.ndarray = difference) -> None:
            place = sr[reduction.enlarged(strip)]
            _add(place, reduction.transpose(difference, strip), place)

        reduction.for_strips(change)
