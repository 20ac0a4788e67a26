"""Whole images, made larger by a generator, in tiles that leave no seams, or by interpolation."""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import cv2
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from pyimagesearch import devices
from pyimagesearch.data.image_io import LoadedImage
from pyimagesearch.errors import UserError
from pyimagesearch.inference.consistency import hold_colours, project
from pyimagesearch.inference.generators import fold_batch_norm, pack_last_convolution, scaling_factor, split
from pyimagesearch.inference.runtimes import compile_network, count_devices, threads
from pyimagesearch.metrics import to_integers, to_uint8

TILE = 1024
"""The side of the largest window, in LR pixels, that goes through the generator's trunk at once."""

HEAD_TILE = 128
"""The side of the largest window, in LR pixels, that goes through its head at once."""

VISIBLE = 1 / 32
"""The least opacity of pixels whose colours count; below, there is little left of them in 8 bits."""

_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R BT.601, full range

OUT_OF_MEMORY = (tf.errors.ResourceExhaustedError, MemoryError)
"""What is raised where an image needs more memory than there is."""


class Piece(NamedTuple):
    """A part of a length: what is computed, and the part of it that counts, both from the start of the length."""

    outer: slice
    inner: slice


def pieces(length: int, longest: int, reach: int) -> list[Piece]:
    """Divide a length so that what counts of each piece depends on nothing outside that piece.

    Args:
        length: of what is divided.
        longest: how long a piece may be, more than twice `reach`.
        reach: how far beyond its place a result depends on the input.

    Returns:
        Pieces of one size whose inner parts make up the length.
    """
    count = max(1, -(-(length - 2 * reach) // (longest - 2 * reach)))
    size = -(-(length + (count - 1) * 2 * reach) // count)
    starts = [i * (length - size) // max(1, count - 1) for i in range(count)]
    edges = [0, *(start + reach for start in starts[1:]), length]
    return [
        Piece(slice(start, start + size), slice(first, last))
        for start, (first, last) in zip(starts, itertools.pairwise(edges), strict=True)
    ]


class Upscaler:
    """Makes images larger by a generator; each result is that of the whole image, whatever the tiles are.

    Reduced again, a result has the colours of its input: see `consistency`.
    """

    def __init__(
        self,
        generator: keras.Model,
        runtime: str = "tensorflow",
        precision: str = "float32",
        tile: int | None = None,
        faithful: bool = False,
    ) -> None:
        """Prepare a generator.

        Args:
            generator: from `generators.load_generator`.
            runtime: "tensorflow" or "openvino".
            precision: "float32" or "bfloat16", which is for images of 8 bits; those of 16 are computed in float32.
            tile: the side of the largest window, in LR pixels, that is computed at once; by default `TILE`.
            faithful: whether a result, reduced again, is to be its input to the pixel, as far as its range permits.

        Raises:
            UserError: tiles of that size are too small for what the generator sees, or it cannot be split.
        """
        self.scale = scaling_factor(generator)
        self.devices = count_devices(runtime)
        self.precision = precision
        self._make_exact = functools.partial(Upscaler, generator, runtime, "float32", tile, faithful)
        in_layers = runtime == "tensorflow" and precision == "bfloat16"  # OpenVINO converts by itself
        folded = fold_batch_norm(generator, "mixed_bfloat16" if in_layers else "float32")
        trunk, head, self.trunk_reach, self.head_reach = split(folded)
        if devices.is_cpu():
            head = pack_last_convolution(head, self.scale)
        self.trunk, self.head = (compile_network(network, runtime, precision) for network in (trunk, head))
        self.reach = self.trunk_reach + self.head_reach
        self.faithful = faithful
        self.tile = tile or max(TILE, 3 * self.reach)
        if self.tile <= 2 * self.reach:
            raise UserError(
                f"tiles of {tile} pixels: too small, the generator sees {self.reach} pixels to each side; take more"
            )

    def __call__(self, lr: np.ndarray, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Make an image larger.

        Args:
            lr: RGB [h, w, 3], uint8 or uint16.
            progress: is called with the number of LR pixels done since the last call.

        Returns:
            RGB [S*h, S*w, 3] of the same dtype. If the three channels of `lr` are equal, so are those of the result.
        """
        if lr.dtype == np.uint16 and self.precision != "float32":
            return self._exact(lr, progress)
        is_grey = bool((lr == lr[..., :1]).all())
        while True:
            try:
                sr = self._upscale(lr, is_grey, progress or (lambda pixels: None))
                self.agree(lr[..., : sr.shape[-1]], sr)
                return sr.repeat(3, axis=-1) if is_grey else sr
            except OUT_OF_MEMORY:
                if self.tile // 2 <= 2 * self.reach:
                    raise
                self.tile //= 2
                logging.warning("out of memory: going on with tiles of %d pixels", self.tile)

    def agree(self, lr: np.ndarray, sr: np.ndarray) -> None:
        """Make a result agree with its input, in place; both have one channel or three."""
        if self.faithful:
            project(lr, sr)
        hold_colours(lr, sr)

    @functools.cached_property
    def _exact(self) -> Self:
        """What computes images of 16 bits: bfloat16 has 8."""
        return self._make_exact()

    def _upscale(self, lr: np.ndarray, is_grey: bool, progress: Callable[[int], None]) -> np.ndarray:
        """Return what the generator makes, [S*h, S*w, 3], or of what is grey the luma, [S*h, S*w, 1]."""
        height, width, _ = lr.shape
        sr = np.empty((self.scale * height, self.scale * width, 1 if is_grey else 3), lr.dtype)
        share = max(math.ceil(height / self.devices) + 2 * self.reach, 3 * self.reach)  # of each GPU, in rows
        longest = min(share, self.tile), self.tile
        windows = (pieces(*lengths, self.reach) for lengths in zip((height, width), longest, strict=True))

        def upscale(window: tuple[Piece, Piece]) -> int:
            rows, columns = window
            pixels = lr[rows.outer, columns.outer].astype(np.float32) * (255 / np.iinfo(lr.dtype).max)
            self._enlarge(self.trunk(pixels[None])[0], rows, columns, sr)
            return (rows.inner.stop - rows.inner.start) * (columns.inner.stop - columns.inner.start)

        with threads(self.devices) as pool:
            for done in pool.map(upscale, itertools.product(*windows)):
                progress(done)
        return sr

    def _enlarge(self, features: np.ndarray, rows: Piece, columns: Piece, sr: np.ndarray) -> None:
        """Put what the head makes of a window's features [h, w, F] into its place in the result."""
        windows = (within(piece, HEAD_TILE, self.head_reach) for piece in (rows, columns))
        for top, left in itertools.product(*windows):
            window = features[_seen_from(rows.outer, top.outer), _seen_from(columns.outer, left.outer)]
            enlarged = self.head(window[None])[0]  # [S*h, S*w, 3]
            if sr.shape[-1] == 1:
                enlarged = enlarged @ _LUMA
            inside = (_seen_from(piece.outer, piece.inner) for piece in (top, left))
            sr[self._times(top.inner), self._times(left.inner)] = to_integers(
                enlarged[tuple(map(self._times, inside))] * (np.iinfo(sr.dtype).max / 255), sr.dtype
            )

    def _times(self, part: slice) -> slice:
        return slice(self.scale * part.start, self.scale * part.stop)


def within(piece: Piece, longest: int, reach: int) -> Iterator[Piece]:
    """Divide the inner part of a piece in turn, as `pieces` does, using what its outer part has beyond."""
    start = max(piece.outer.start, piece.inner.start - reach)
    stop = min(piece.outer.stop, piece.inner.stop + reach)
    for outer, inner in pieces(stop - start, longest, reach):
        first, last = max(inner.start + start, piece.inner.start), min(inner.stop + start, piece.inner.stop)
        yield Piece(slice(outer.start + start, outer.stop + start), slice(first, last))


def _seen_from(whole: slice, part: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def upscale_image(
    image: LoadedImage, upscale: Upscaler, outscale: float | None = None, progress: Callable[[int], None] | None = None
) -> LoadedImage:
    """Make an image larger, with all that it carries: grey stays grey, and transparency becomes larger with it.

    Args:
        image: from `image_io.read_image`.
        upscale: makes RGB larger.
        outscale: how many times larger the result is; the generator's scale if None, otherwise its result is resampled.
        progress: as for `Upscaler`.
    """
    channels = image.pixels.shape[-1]
    colours = image.pixels[..., : 3 if channels > 2 else 1]
    if channels in (2, 4):
        colours = filled(colours, image.pixels[..., -1])
    sr = upscale(np.broadcast_to(colours, (*colours.shape[:2], 3)), progress)[..., : colours.shape[-1]]
    if channels in (2, 4):
        height, width, _ = sr.shape
        alpha = cv2.resize(image.pixels[..., -1], (width, height), interpolation=cv2.INTER_CUBIC)
        sr = np.concatenate([sr, alpha[..., None]], axis=-1)
    if outscale:
        height, width = (max(1, round(outscale * length)) for length in image.pixels.shape[:2])
        sr = resample(sr, height, width)
    return dataclasses.replace(image, pixels=sr)


def filled(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give each pixel that cannot be seen the colour of the nearest that can, so that no other colour gets to its edge.

    Args:
        colours: uint8 or uint16 [H, W, C].
        alpha: how opaque they are, [H, W] of the same dtype.

    Returns:
        As `colours`, which it is if all pixels can be seen or none.
    """
    hidden = alpha < np.iinfo(alpha.dtype).max * VISIBLE
    if not hidden.any() or hidden.all():
        return colours
    _, nearest = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )  # a number for each visible pixel, at its own place and at those that it is nearest to
    places = np.zeros(nearest.max() + 1, np.intp)
    places[nearest[~hidden]] = np.flatnonzero(~hidden)
    return colours.reshape(-1, colours.shape[-1])[places[nearest]]


def resample(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return an image, uint8 or uint16 [H, W, C], in another size, by antialiased bicubic interpolation."""

    def one(channel: np.ndarray) -> np.ndarray:
        image = Image.fromarray(channel if channel.dtype == np.uint8 else channel.astype(np.float32))
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

    channels = [one(np.ascontiguousarray(channel)) for channel in np.moveaxis(pixels, -1, 0)]
    return to_integers(np.stack(channels, axis=-1), pixels.dtype)


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge images, uint8 RGB [B, h, w, 3], by bicubic interpolation; uint8 RGB [B, scale*h, scale*w, 3]."""
    _, height, width, _ = lr.shape
    return to_uint8(tf.image.resize(lr, (height * scale, width * scale), "bicubic").numpy())
