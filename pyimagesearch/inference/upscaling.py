"""Upscale whole images with a generator, in tiles without seams, or with bicubic interpolation."""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

import cv2
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from pyimagesearch import devices
from pyimagesearch.data.image_io import LoadedImage
from pyimagesearch.errors import UserError
from pyimagesearch.files import printable
from pyimagesearch.inference.consistency import hold_colours, project
from pyimagesearch.inference.generators import (
    fold_batch_norm,
    load_interpolated,
    scaling_factor,
    shuffle_last,
    split,
)
from pyimagesearch.inference.runtimes import choose_runtime, compile_network, count_devices, describe, threads
from pyimagesearch.inference.sizes import NATURAL, OutputSize
from pyimagesearch.metrics import to_integers, to_uint8

TILE = 1024
"""The largest side, in LR pixels, of a tile for the trunk of a generator."""

HEAD_TILE = 128
"""The largest side, in LR pixels, of a tile for the head of a generator."""

VISIBLE = 1 / 32
"""The smallest opacity, in 0..1, of pixels whose colours are used. Premultiplied colours below it are inaccurate."""

_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # luma of ITU-R BT.601 with full range

OUT_OF_MEMORY = (tf.errors.ResourceExhaustedError, MemoryError)
"""The exceptions for too little memory."""


class Piece(NamedTuple):
    """A piece of a length, in pixels from its start.

    Attributes:
        outer: the part that is computed.
        inner: the part of `outer` whose result is used.
    """

    outer: slice
    inner: slice


def pieces(length: int, longest: int, reach: int) -> list[Piece]:
    """Divide a length into pieces whose inner parts do not depend on pixels outside the piece.

    Args:
        length: the length in pixels.
        longest: the longest piece in pixels, more than twice `reach`.
        reach: the radius of the receptive field in pixels.

    Returns:
        Pieces of the same size. Their inner parts cover the length without overlap.
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
    """Upscales images with a generator. The result does not depend on the tiles.

    A reduced result has the colours of its input; see `consistency`.
    """

    def __init__(
        self,
        generator: keras.Model,
        runtime: str = "tensorflow",
        precision: str = "float32",
        tile: int | None = None,
        faithful: bool = False,
        ensemble: bool = False,
    ) -> None:
        """Prepare a generator.

        Args:
            generator: from `generators.load_generator`.
            runtime: "tensorflow" or "openvino".
            precision: "float32" or "bfloat16". Images of 16 bits are computed in float32.
            tile: the largest side of a tile in LR pixels; by default `TILE`.
            faithful: whether a reduced result must equal its input in each pixel, as far as the range of pixels allows.
            ensemble: whether to return the mean of the results of all eight flips and rotations, in eight times the
                time. See Timofte et al., arXiv 1511.02228.

        Raises:
            UserError: the tiles are not larger than the receptive field, or the generator cannot be split.
        """
        self.scale = scaling_factor(generator)
        self.devices = count_devices(runtime)
        self.precision = precision
        self.method = f"{runtime}, {precision}"
        self._make_exact = functools.partial(Upscaler, generator, runtime, "float32", tile, faithful, ensemble)
        in_layers = runtime == "tensorflow" and precision == "bfloat16"  # OpenVINO converts the layers itself
        folded = fold_batch_norm(generator, "mixed_bfloat16" if in_layers else "float32")
        if devices.is_cpu():
            folded = shuffle_last(folded)
        trunk, head, self.trunk_reach, self.head_reach = split(folded)
        self.trunk, self.head = (compile_network(network, runtime, precision) for network in (trunk, head))
        self.reach = self.trunk_reach + self.head_reach
        self.faithful = faithful
        self.ensemble = ensemble
        self.tile = tile or max(TILE, 3 * self.reach)
        if self.tile <= 2 * self.reach:
            raise UserError(
                f"tiles of {tile} pixels: too small, the radius of the receptive field is {self.reach} pixels; "
                f"choose more than {2 * self.reach}"
            )

    def __call__(self, lr: np.ndarray, progress: Callable[[float], None] | None = None) -> np.ndarray:
        """Upscale an image.

        Args:
            lr: RGB [h, w, 3], uint8 or uint16.
            progress: a function that is called with the number of LR pixels computed since the last call.

        Returns:
            RGB [S*h, S*w, 3] of the same dtype. If `lr` is grey, with equal channels, the result is grey.
        """
        if lr.dtype == np.uint16 and self.precision != "float32":
            return self._exact(lr, progress)
        compute = self._upscale_turned if self.ensemble else self._upscale
        while True:
            try:
                return self._finish(lr, compute(lr, _is_grey(lr), progress or (lambda pixels: None)))
            except OUT_OF_MEMORY:
                if self.tile // 2 <= 2 * self.reach:
                    raise
                self.tile //= 2
                logging.warning("out of memory: continuing with tiles of %d pixels", self.tile)

    def _finish(self, lr: np.ndarray, sr: np.ndarray) -> np.ndarray:
        """Make the result of the generator, [S*h, S*w, C], consistent with the image. Return it as RGB."""
        self.agree(lr[..., : sr.shape[-1]], sr)
        return sr.repeat(3, axis=-1) if sr.shape[-1] == 1 else sr

    def agree(self, lr: np.ndarray, sr: np.ndarray) -> None:
        """Make a result consistent with its input, in place.

        Args:
            lr: the input [h, w, C], uint8 or uint16; C is 1 or 3.
            sr: the result [S*h, S*w, C] of the same dtype.
        """
        if self.faithful:
            project(lr, sr)
        hold_colours(lr, sr)

    @functools.cached_property
    def _exact(self) -> Self:
        """The upscaler for images of 16 bits, because bfloat16 has only 8 bits of precision."""
        return self._make_exact()

    def _upscale_turned(self, lr: np.ndarray, is_grey: bool, progress: Callable[[float], None]) -> np.ndarray:
        """Return the mean of the results for all flips and rotations of an image, turned back."""
        total = 0
        for image, back in ((lr, np.asarray), (lr[:, ::-1], np.fliplr)):
            for turns in range(4):
                turned = np.ascontiguousarray(np.rot90(image, turns))
                sr = self._upscale(turned, is_grey, lambda pixels: progress(pixels / 8))
                total = total + back(np.rot90(sr, -turns)).astype(np.uint32)
        return ((total + 4) // 8).astype(lr.dtype)

    def _upscale(self, lr: np.ndarray, is_grey: bool, progress: Callable[[float], None]) -> np.ndarray:
        """Return the result of the generator, [S*h, S*w, 3], or its luma [S*h, S*w, 1] for a grey image."""
        return self._compute(lr, self._rows(lr.shape[0]), is_grey, progress)

    def _rows(self, height: int) -> list[Piece]:
        """Return the rows of the tiles."""
        share = max(math.ceil(height / self.devices) + 2 * self.reach, 3 * self.reach)  # rows of each GPU
        return pieces(height, min(share, self.tile), self.reach)

    def count_bands(self, height: int) -> int:
        """Return the number of bands into which an image of this height is divided, one for each row of tiles."""
        return 1 if self.ensemble else len(self._rows(height))

    def compute_band(
        self, lr: np.ndarray, number: int, progress: Callable[[float], None] = lambda pixels: None
    ) -> np.ndarray:
        """Return what `join_bands` needs of a band, [S*h_band, S*w, C] of the type of the image; C is 1 or 3.

        Args:
            lr: the whole image, as in a call.
            number: the number of the band, counted from 0.
            progress: as in a call.
        """
        if lr.dtype == np.uint16 and self.precision != "float32":
            return self._exact.compute_band(lr, number, progress)
        rows = self._rows(lr.shape[0])[number]
        inside = Piece(slice(0, rows.outer.stop - rows.outer.start), _relative(rows.outer, rows.inner))
        sr = self._compute(lr[rows.outer], [inside], _is_grey(lr), progress)
        return sr[self._times(inside.inner)]

    def join_bands(self, lr: np.ndarray, bands: Sequence[np.ndarray]) -> np.ndarray:
        """Return the result of a call, [S*h, S*w, 3], from all bands of an image.

        Args:
            lr: the whole image, as in a call.
            bands: from `compute_band`.
        """
        return self._finish(lr, np.concatenate(bands))

    def _compute(
        self, lr: np.ndarray, rows: Sequence[Piece], is_grey: bool, progress: Callable[[float], None]
    ) -> np.ndarray:
        """Return the result of the generator where the inner parts of `rows` are. The other rows are undefined."""
        height, width, _ = lr.shape
        sr = np.empty((self.scale * height, self.scale * width, 1 if is_grey else 3), lr.dtype)

        def upscale(window: tuple[Piece, Piece]) -> int:
            rows, columns = window
            pixels = lr[rows.outer, columns.outer].astype(np.float32) * (255 / np.iinfo(lr.dtype).max)
            self._compute_head(self.trunk(pixels[None])[0], rows, columns, sr)
            return (rows.inner.stop - rows.inner.start) * (columns.inner.stop - columns.inner.start)

        with threads(self.devices) as pool:
            for done in pool.map(upscale, itertools.product(rows, pieces(width, self.tile, self.reach))):
                progress(done)
        return sr

    def _compute_head(self, features: np.ndarray, rows: Piece, columns: Piece, sr: np.ndarray) -> None:
        """Compute the head on the features [h, w, F] of a tile, and write its result to `sr`."""
        windows = (within(piece, HEAD_TILE, self.head_reach) for piece in (rows, columns))
        for top, left in itertools.product(*windows):
            window = features[_relative(rows.outer, top.outer), _relative(columns.outer, left.outer)]
            large = self.head(window[None])[0]  # [S*h, S*w, 3]
            if sr.shape[-1] == 1:
                large = large @ _LUMA
            inside = (_relative(piece.outer, piece.inner) for piece in (top, left))
            sr[self._times(top.inner), self._times(left.inner)] = to_integers(
                large[tuple(map(self._times, inside))] * (np.iinfo(sr.dtype).max / 255), sr.dtype
            )

    def _times(self, part: slice) -> slice:
        return slice(self.scale * part.start, self.scale * part.stop)


def _is_grey(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())


def load_upscaler(
    paths: Sequence[str],
    alpha: float | None,
    runtime: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    faithful: bool = False,
    ensemble: bool = False,
) -> Upscaler:
    """Load one generator, or interpolate two, and return their upscaler.

    Args:
        paths: as in `generators.load_interpolated`.
        alpha: as in `generators.load_interpolated`.
        runtime: see `runtimes.choose_runtime`.
        precision: "float32", "bfloat16" or "auto"; see `devices.choose_precision`.
        tile: as in `Upscaler`.
        faithful: as in `Upscaler`.
        ensemble: as in `Upscaler`.

    Raises:
        UserError: see `generators.load_interpolated`, `runtimes.choose_runtime` and `Upscaler`.
    """
    runtime, precision = choose_runtime(runtime), devices.choose_precision(precision)
    names = " and ".join(map(printable, paths)) + ("" if alpha is None else f", alpha {alpha:g}")
    logging.info("computing with %s: %s", names, describe(runtime, precision))
    return Upscaler(load_interpolated(paths, alpha), runtime, precision, tile, faithful, ensemble)


def within(piece: Piece, longest: int, reach: int) -> Iterator[Piece]:
    """Divide the inner part of a piece as `pieces` does. The new pieces may extend into its outer part.

    Args:
        piece: the piece to divide.
        longest: the longest new piece in pixels, more than twice `reach`.
        reach: the radius of the receptive field in pixels.
    """
    start = max(piece.outer.start, piece.inner.start - reach)
    stop = min(piece.outer.stop, piece.inner.stop + reach)
    for outer, inner in pieces(stop - start, longest, reach):
        first, last = max(inner.start + start, piece.inner.start), min(inner.stop + start, piece.inner.stop)
        yield Piece(slice(outer.start + start, outer.stop + start), slice(first, last))


def _relative(whole: slice, part: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def upscale_image(
    image: LoadedImage,
    upscale: Upscaler,
    size: OutputSize = NATURAL,
    progress: Callable[[float], None] | None = None,
) -> LoadedImage:
    """Upscale an image and keep its metadata. Grey stays grey, and transparency is upscaled by bicubic interpolation.

    Args:
        image: from `image_io.read_image`.
        upscale: the upscaler.
        size: the size of the result. If it is not that of the generator, the result is resampled.
        progress: see `Upscaler`.
    """
    channels = image.pixels.shape[-1]
    sr = upscale(colours(image), progress)[..., : 3 if channels > 2 else 1]
    if channels in (2, 4):
        height, width, _ = sr.shape
        alpha = cv2.resize(image.pixels[..., -1], (width, height), interpolation=cv2.INTER_CUBIC)
        sr = np.concatenate([sr, alpha[..., None]], axis=-1)
    if size != NATURAL:
        sr = resample(sr, *size.of(*image.pixels.shape[:2], upscale.scale))
    return dataclasses.replace(image, pixels=sr)


def colours(image: LoadedImage) -> np.ndarray:
    """Return the colours of an image as RGB [h, w, 3], with `filled` invisible pixels.

    Args:
        image: from `image_io.read_image`.
    """
    channels = image.pixels.shape[-1]
    visible = image.pixels[..., : 3 if channels > 2 else 1]
    if channels in (2, 4):
        visible = filled(visible, image.pixels[..., -1])
    return np.broadcast_to(visible, (*visible.shape[:2], 3))


def filled(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give each invisible pixel the colour of the nearest visible pixel, to avoid wrong colours at edges.

    Args:
        colours: uint8 or uint16 [H, W, C].
        alpha: the opacity of the pixels, [H, W] of the same dtype.

    Returns:
        As `colours`. It is `colours` itself if all pixels are visible or none is.
    """
    hidden = alpha < np.iinfo(alpha.dtype).max * VISIBLE
    if not hidden.any() or hidden.all():
        return colours
    _, nearest = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )  # for each pixel the label of the nearest visible pixel
    positions = np.zeros(nearest.max() + 1, np.intp)
    positions[nearest[~hidden]] = np.flatnonzero(~hidden)
    return colours.reshape(-1, colours.shape[-1])[positions[nearest]]


def resample(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample an image by antialiased bicubic interpolation.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        height: the height of the result in pixels.
        width: the width of the result in pixels.

    Returns:
        [height, width, C] of the same dtype.
    """

    def one(channel: np.ndarray) -> np.ndarray:
        image = Image.fromarray(channel if channel.dtype == np.uint8 else channel.astype(np.float32))
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

    channels = [one(np.ascontiguousarray(channel)) for channel in np.moveaxis(pixels, -1, 0)]
    return to_integers(np.stack(channels, axis=-1), pixels.dtype)


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """Upscale images by bicubic interpolation.

    Args:
        lr: uint8 RGB [B, h, w, 3].
        scale: the scaling factor.

    Returns:
        uint8 RGB [B, scale*h, scale*w, 3].
    """
    _, height, width, _ = lr.shape
    return to_uint8(tf.image.resize(lr, (height * scale, width * scale), "bicubic").numpy())
