"""Benchmarks of the field, and how close models come to the truth on them."""

import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import keras
import numpy as np

from pyimagesearch.data.degradations import Fixed
from pyimagesearch.data.image_io import IMAGE_ENDINGS, ImageError, read_rgb
from pyimagesearch.data.pairs import Pair, make_pair
from pyimagesearch.errors import UserError
from pyimagesearch.evaluation import scores
from pyimagesearch.files import find_files, kinds, printable
from pyimagesearch.inference.upscaling import OUT_OF_MEMORY

Upscale = Callable[[np.ndarray], np.ndarray]
"""From uint8 RGB [h, w, 3] to uint8 RGB [S*h, S*w, 3]."""

SMALLEST_SIDE = 11
"""Pixels that an image must have left when it is trimmed and its border cut: the window of SSIM."""


class Benchmark(NamedTuple):
    """A folder of images whose truth is known: `files` are names, HR paths and LR paths, None where LR is made.

    `degradation` is done to LR.
    """

    name: str
    scale: int
    files: Sequence[tuple[str, str, str | None]]
    degradation: Fixed = Fixed()

    @property
    def lr_is_made(self) -> bool:
        """Whether the benchmark has only HR."""
        return self.files[0][2] is None

    def degraded(self, degradation: Fixed) -> Self:
        """Return a benchmark of the same images whose LR is degraded, and whose name says so."""
        name = self.name if degradation == Fixed() else f"{self.name}, {degradation}"
        return self._replace(name=name, degradation=degradation)

    def read(self, number: int) -> Pair:
        """Read an image, degraded in the same way each time: the name settles its noise.

        Raises:
            UserError: it cannot be read or is too small, or its two sides do not belong together.
        """
        pair = self._read_clean(number)
        return pair._replace(lr=self.degradation.apply(pair.lr, zlib.crc32(pair.name.encode())))

    def _read_clean(self, number: int) -> Pair:
        name, hr_path, lr_path = self.files[number]
        hr = _read(hr_path)
        if min(hr.shape[:2]) < SMALLEST_SIDE + 3 * self.scale:
            raise UserError(f"{hr_path}: too small to be measured; take it out of the benchmark")
        if lr_path is None:
            return make_pair(name, hr, self.scale)
        lr = _read(lr_path)
        height, width = (self.scale * side for side in lr.shape[:2])
        excess = hr.shape[0] - height, hr.shape[1] - width
        if min(excess) < 0 or max(excess) >= self.scale:
            raise UserError(f"{hr_path} and {lr_path}: not of the same image, HR is not {self.scale} times as large")
        return Pair(name, lr, hr[:height, :width])


def find_benchmark(name: str, folder: str, scale: int) -> Benchmark:
    """Find the images of a benchmark: `HR/`, and if it is there `LRx4/` with images of the same names.

    Args:
        name: what it is called.
        folder: the folder of those two. The names in `LRx4/` may end in `x4`, as in `0801x4.png`.
        scale: how many times larger HR is than LR.

    Raises:
        UserError: a folder or an image is missing, or there are several of one name.
    """
    hr_folder, lr_folder = os.path.join(folder, "HR"), os.path.join(folder, f"LRx{scale}")
    hr_paths = _by_name(hr_folder)
    if not hr_paths:
        raise UserError(f"benchmark {folder}: no images in {hr_folder}; put the true ones there")
    lr_is_made = not os.path.isdir(lr_folder)
    lr_paths = {} if lr_is_made else _by_name(lr_folder)
    files = []
    for image, hr_path in hr_paths.items():
        lr_path = lr_paths.get(image) or lr_paths.get(f"{image}x{scale}")
        if not lr_path and not lr_is_made:
            raise UserError(f"{hr_path}: has no image of that name in {lr_folder}")
        files.append((image, hr_path, lr_path))
    return Benchmark(name, scale, files)


def _by_name(folder: str) -> dict[str, str]:
    paths, found = {}, find_files(folder, IMAGE_ENDINGS)
    if found.others:
        logging.info("%s: left out what is of no kind read: %s", printable(folder), kinds(found.others))
    for path in found.files:
        name = printable(os.path.splitext(os.path.relpath(path, folder))[0])
        if name in paths:
            raise UserError(f"{paths[name]} and {path}: two images of one name; take one out of the benchmark")
        paths[name] = path
    return paths


def _read(path: str) -> np.ndarray:
    try:
        return read_rgb(path)
    except ImageError as error:
        raise UserError(f"{path}: {error}; take it out of the benchmark") from error


class Row(NamedTuple):
    """A model's score on an image."""

    image: str
    model: str
    score: scores.Score


def evaluate(benchmark: Benchmark, models: Mapping[str, Upscale], vgg: keras.Model | None = None) -> Iterator[Row]:
    """Measure models on a benchmark, image by image.

    Args:
        benchmark: what on.
        models: what makes images larger, by name.
        vgg: the network whose features are compared; they are not if None.

    Yields:
        A row for each model on each image.

    Raises:
        UserError: as `Benchmark.read` does, or an image is too large for the memory or too small for the features.
    """
    distance = scores.perceptual_distance(vgg) if vgg else None
    for number, (_, hr_path, _) in enumerate(benchmark.files):
        pair = benchmark.read(number)
        if vgg:
            _check_features(vgg, pair.hr, hr_path)
        for name, upscale in models.items():
            try:
                if number == 0:
                    upscale(pair.lr)  # what is done once is not timed
                start = time.perf_counter()
                sr = upscale(pair.lr)
                seconds = time.perf_counter() - start
                row = Row(pair.name, name, scores.score(pair, sr, benchmark.scale, distance, seconds))
            except OUT_OF_MEMORY as error:
                raise UserError(f"{hr_path}: too large for the memory; take it out of the benchmark") from error
            yield row


def _check_features(vgg: keras.Model, hr: np.ndarray, path: str) -> None:
    try:
        vgg.compute_output_shape((1, *hr.shape))
    except ValueError as error:
        raise UserError(f"{path}: too small for the features of that VGG layer; choose another") from error


def means(rows: Sequence[Row]) -> scores.Score:
    """Return the means over the images of some rows."""
    return scores.mean_score([row.score for row in rows])
