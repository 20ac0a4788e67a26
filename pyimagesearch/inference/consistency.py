"""Make results consistent with their inputs: a reduced result has the colours of its input.

A network shifts colours if its input differs from its training data, such as patterns of single pixels and saturated
colours. The reduction is that of `pairs.shrink`: antialiased bicubic interpolation, as in MATLAB's imresize.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import scipy.linalg
import scipy.sparse

from pyimagesearch.metrics import cubic_kernel

BLOCK = 16
"""The side of a block in LR pixels. A result keeps the mean colour of each block. Blocks start at the upper left."""

_STRIP_ROWS = 16  # the smallest number of LR rows in a strip or in a part of it
_STRIP_PIXELS = 2**15  # the size of a strip in LR pixels; with smaller ones, threads cost more time than they save
_BLENDED_PIXELS = 2**12  # LR pixels that are blended at a time, so that the large arrays stay in the cache
_PROJECTIONS = 5  # the largest number of projections
_ENOUGH = 0.9995  # fraction of reduced pixels that are equal to the input after rounding
_BANDS = 3  # lower diagonals of the product of the taps and their transpose

Lowpass = Callable[[np.ndarray], np.ndarray]
"""A function that smooths an image, from float32 [h, w, C] to the same."""


class Reduction:
    """The antialiased bicubic reduction of images of one size, in strips of rows."""

    def __init__(self, height: int, width: int, scale: int) -> None:
        """Prepare the reduction from [scale * height, scale * width, C] to [height, width, C].

        Args:
            height: the height of the reduced image in pixels.
            width: the width of the reduced image in pixels.
            scale: the factor of the reduction.
        """
        self.scale = scale
        self.rows, self.columns = (_taps(length, scale) for length in (height, width))
        self.columns_transposed = self.columns.T.tocsr()
        rows = max(_STRIP_ROWS, _STRIP_PIXELS // width)
        self.strips = [slice(top, min(top + rows, height)) for top in range(0, height, rows)]

    def for_strips(self, function: Callable[[slice], Any]) -> list[Any]:
        """Return the results of a function for all strips of the reduced image, which share the cores.

        Args:
            function: a function of a strip, which is a range of rows of the reduced image.
        """
        if len(self.strips) == 1:
            return [function(self.strips[0])]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(function, self.strips))

    def large(self, strip: slice) -> slice:
        """Return the rows of the large image for a strip of the reduced image."""
        return slice(self.scale * strip.start, self.scale * strip.stop)

    def reduce(self, sr: np.ndarray) -> np.ndarray:
        """Reduce an image [S*h, S*w, C] of any dtype to float32 [h, w, C], without clipping."""
        return np.concatenate(self.for_strips(partial(self._reduce_strip, sr)))

    def _reduce_strip(self, sr: np.ndarray, strip: slice) -> np.ndarray:
        taps = self.rows[strip]
        first, last = taps.indices.min(), taps.indices.max() + 1
        rows = sr[first:last].astype(np.float32)
        narrow = taps[:, first:last] @ rows.reshape(last - first, -1)
        return _along_columns(self.columns, narrow.reshape(-1, *sr.shape[1:]))

    def transpose(self, lr: np.ndarray, strip: slice) -> np.ndarray:
        """Apply the transposed reduction.

        Args:
            lr: float32 [h, w, C].
            strip: the rows of `lr` whose part of the result is returned.

        Returns:
            float32 [S*n, S*w, C] for a strip of n rows.
        """
        taps = self.rows[:, self.large(strip)].T.tocsr()
        first, last = taps.indices.min(), taps.indices.max() + 1
        wide = _along_columns(self.columns_transposed, lr[first:last])
        return (taps[:, first:last] @ wide.reshape(last - first, -1)).reshape(-1, *wide.shape[1:])

    def solve(self, difference: np.ndarray) -> np.ndarray:
        """Return the image x for which the reduction of `transpose(x)` is `difference`.

        `transpose(x)` is the smallest image with this reduction, by its squared norm.

        Args:
            difference: float32 [h, w, C].

        Returns:
            x, as `difference`.
        """
        by_rows = _solve(self.rows, difference)
        return np.ascontiguousarray(_solve(self.columns, by_rows.swapaxes(0, 1)).swapaxes(0, 1))


@lru_cache(maxsize=8)  # the frames of a video have one size
def _taps(length: int, scale: int) -> scipy.sparse.csr_array:
    """Return the matrix of the reduction of a line, float32 [length, scale * length], without taps beyond the ends."""
    centres = scale * (np.arange(length)[:, None] + 0.5)  # [n, 1]
    positions = np.floor(centres).astype(int) + np.arange(-2 * scale, 2 * scale)  # [n, 4*S]
    weights = cubic_kernel((positions + 0.5 - centres) / scale)
    inside = (positions >= 0) & (positions < scale * length) & (weights != 0)
    weights = np.where(inside, weights, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(length)[:, None], positions.shape)
    entries = weights[inside].astype(np.float32), (rows[inside], positions[inside])
    return scipy.sparse.csr_array(entries, shape=(length, scale * length))


def _along_columns(matrix: scipy.sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Multiply the rows of an image [n, w, C] by a matrix [m, w]. The result is [n, m, C]."""
    height, width, channels = image.shape
    lines = np.ascontiguousarray(image.swapaxes(0, 1)).reshape(width, -1)
    return np.ascontiguousarray((matrix @ lines).reshape(-1, height, channels).swapaxes(0, 1))


def _solve(taps: scipy.sparse.csr_array, image: np.ndarray) -> np.ndarray:
    """Multiply an image [n, m, C] along its first axis by the inverse of the taps times their transpose."""
    product = taps @ taps.T
    bands = min(_BANDS, len(image) - 1)
    diagonals = np.stack([np.pad(product.diagonal(-band), (0, band)) for band in range(bands + 1)])
    solved = scipy.linalg.solveh_banded(diagonals, image.reshape(len(image), -1), lower=True)
    return solved.reshape(image.shape).astype(np.float32)


def block_means(image: np.ndarray) -> np.ndarray:
    """Replace each pixel of an image [h, w, C] by the mean of its block of at most `BLOCK` x `BLOCK` pixels."""
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
_LITTLE = 8 / 255  # of the range: the largest mean error of a block for which one correction is sufficient


def hold_colours(lr: np.ndarray, sr: np.ndarray) -> None:
    """Give a result the low frequencies of its input.

    The difference between the input and the reduced result is smoothed. It is corrected by blending the result with
    white or black. Thus no value leaves its range, and textures of extreme values get the correct mean, too. Then the
    mean of each block of 16 pixels differs from the input by less than one level. Blocks of an extreme colour beside
    the opposite colour, such as black beside white, are an exception: no image in the range has such a reduction, and
    differences of several levels can remain. This method is the project's own.

    Args:
        lr: the input, uint8 or uint16 [h, w, C].
        sr: the result, [S*h, S*w, C] of the same dtype. It is changed in place.
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
    """Correct a result, in place, at the frequencies of each lowpass in turn.

    For the second lowpass, the effect of the first correction is computed on the reduced result, float32 [h, w, C].
    This is a good approximation for small corrections.
    """
    target, full = reduced, np.iinfo(lr.dtype).max
    for lowpass in lowpasses:
        shares = _shares(lr, target, full, lowpass)
        target = target * (1 - np.abs(shares)) + np.maximum(shares, 0) * np.float32(full)
    _blend(reduction, sr, _shares(target, reduced, full, np.asarray))


def _shares(lr: np.ndarray, reduced: np.ndarray, full: int, lowpass: Lowpass) -> np.ndarray:
    """Return the weight of white, or if negative of black, in the blend with a result, float32 [h, w, C] in -1..1."""
    missing = lowpass(lr - reduced)
    room = np.where(missing > 0, lowpass(full - reduced), lowpass(reduced))
    shares = np.clip(missing / np.maximum(room, np.float32(full / 255)), -1, 1)
    if lowpass is block_means:  # differences below half a level are ignored
        shares[np.abs(missing) < full / 510] = 0
    return shares


def _blend(reduction: Reduction, sr: np.ndarray, shares: np.ndarray) -> None:
    """Blend a result with white and black, in place. The weights are interpolated linearly between LR pixels.

    The interpolated weights keep the sign of the difference, so that edges between extreme colours stay sharp.
    """
    full, scale = np.iinfo(sr.dtype).max, reduction.scale

    def blend_strip(strip: slice) -> None:
        rows = max(_STRIP_ROWS, _BLENDED_PIXELS // shares.shape[1])
        for top in range(strip.start, strip.stop, rows):
            blend(slice(top, min(top + rows, strip.stop)))

    def blend(strip: slice) -> None:
        first, last = max(0, strip.start - 1), min(len(shares), strip.stop + 1)
        part = shares[first:last]
        if np.abs(part).max() * full < 0.5:  # nothing would change
            return
        rows = sr[reduction.large(strip)]
        large = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        share = large[scale * (strip.start - first) :][: len(rows)].reshape(rows.shape)  # [S*n, S*w, C]
        kept = cv2.multiply(rows, 1 - np.abs(share), dtype=cv2.CV_32F)
        _add(kept, np.maximum(share, 0) * np.float32(full), rows)

    reduction.for_strips(blend_strip)


def _add(image: np.ndarray, other: np.ndarray, target: np.ndarray) -> None:
    """Write the sum of two images to `target`, rounded and clipped to the range of its integers."""
    depth = {np.dtype(np.uint8): cv2.CV_8U, np.dtype(np.uint16): cv2.CV_16U}[target.dtype]
    target[:] = cv2.add(image, other.reshape(image.shape), dtype=depth).reshape(target.shape)


def project(lr: np.ndarray, sr: np.ndarray) -> None:
    """Change a result as little as possible so that its reduction is the input, as far as the range of pixels allows.

    The method alternates the orthogonal projection onto all images whose reduction is the input, and clipping. It is
    the back-projection of Irani and Peleg, "Improving resolution by image registration", 1991, with the pseudoinverse
    of the reduction. If the input is the reduction of the ground truth, the ground truth is one of these images. Then
    the squared error does not increase, except for rounding.

    Args:
        lr: see `hold_colours`.
        sr: see `hold_colours`.
    """
    reduction = Reduction(*lr.shape[:2], len(sr) // len(lr))
    half = np.iinfo(lr.dtype).max / 510  # half of a level of 8 bits
    for _ in range(_PROJECTIONS):
        missing = lr - reduction.reduce(sr)
        if np.mean(np.abs(missing) < half) > _ENOUGH:
            break
        difference = reduction.solve(missing)

        def change(strip: slice, difference: np.ndarray = difference) -> None:
            rows = sr[reduction.large(strip)]
            _add(rows, reduction.transpose(difference, strip), rows)

        reduction.for_strips(change)
