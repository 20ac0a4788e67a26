"""Find benchmarks, and measure models on them."""

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
from pyimagesearch.files import count_endings, find_files, kinds, printable
from pyimagesearch.inference.upscaling import OUT_OF_MEMORY

Upscale = Callable[[np.ndarray], np.ndarray]
"""A function from uint8 RGB [h, w, 3] to uint8 RGB [S*h, S*w, 3]."""

SMALLEST_SIDE = 11
"""The smallest side of an image in pixels after its border is cut off: the window of SSIM."""


class Benchmark(NamedTuple):
    """A folder of images with known ground truth.

    Attributes:
        name: the name of the benchmark.
        scale: the scaling factor of HR relative to LR.
        files: for each image its name, the path of HR, and the path of LR or None if LR is made from HR.
        degradation: the degradation of LR.
    """

    name: str
    scale: int
    files: Sequence[tuple[str, str, str | None]]
    degradation: Fixed = Fixed()

    @property
    def lr_is_made(self) -> bool:
        """Whether the LR images are made from the HR images."""
        return self.files[0][2] is None

    def degraded(self, degradation: Fixed) -> Self:
        """Return a benchmark with the same images and degraded LR images. Its name contains the degradation.

        Args:
            degradation: the degradation of the LR images.
        """
        name = self.name if degradation == Fixed() else f"{self.name}, {degradation}"
        return self._replace(name=name, degradation=degradation)

    def read(self, number: int) -> Pair:
        """Read an image and degrade it. The noise is a function of the name of the image.

        Args:
            number: the index in `files`.

        Raises:
            UserError: the image cannot be read or is too small, or the sizes of LR and HR do not match.
        """
        pair = self._read_clean(number)
        return pair._replace(lr=self.degradation.apply(pair.lr, zlib.crc32(pair.name.encode())))

    def _read_clean(self, number: int) -> Pair:
        name, hr_path, lr_path = self.files[number]
        hr = _read(hr_path)
        if min(hr.shape[:2]) < SMALLEST_SIDE + 3 * self.scale:
            raise UserError(f"{hr_path}: too small for the measures; remove it from the benchmark")
        if lr_path is None:
            return make_pair(name, hr, self.scale)
        lr = _read(lr_path)
        height, width = (self.scale * side for side in lr.shape[:2])
        excess = hr.shape[0] - height, hr.shape[1] - width
        if min(excess) < 0 or max(excess) >= self.scale:
            raise UserError(
                f"{hr_path} and {lr_path}: HR is not {self.scale} times as large as LR; remove both from the benchmark"
            )
        return Pair(name, lr, hr[:height, :width])


def find_benchmark(name: str, folder: str, scale: int) -> Benchmark:
    """Find the images of a benchmark: those in `HR/`, and those in `LRx4/` if that folder exists.

    Args:
        name: the name of the benchmark.
        folder: the folder of `HR/` and `LRx4/`. Their images have the same names. Names in `LRx4/` may end in `x4`, as
            in `0801x4.png`.
        scale: the scaling factor of HR relative to LR.

    Raises:
        UserError: a folder or an image is missing, or several images have the same name.
    """
    hr_folder, lr_folder = os.path.join(folder, "HR"), os.path.join(folder, f"LRx{scale}")
    hr_paths = _by_name(hr_folder)
    if not hr_paths:
        raise UserError(f"benchmark {folder}: no images in {hr_folder}; put the ground truth there")
    lr_is_made = not os.path.isdir(lr_folder)
    lr_paths = {} if lr_is_made else _by_name(lr_folder)
    files = []
    for image_name, hr_path in hr_paths.items():
        lr_path = lr_paths.get(image_name) or lr_paths.get(f"{image_name}x{scale}")
        if not lr_path and not lr_is_made:
            raise UserError(f"{hr_path}: no image of the same name in {lr_folder}; add it or remove this one")
        files.append((image_name, hr_path, lr_path))
    return Benchmark(name, scale, files)


def _by_name(folder: str) -> dict[str, str]:
    paths, found = {}, find_files(folder, IMAGE_ENDINGS)
    if found.others:
        logging.info("%s: skipped files that are not images: %s", printable(folder), kinds(count_endings(found.others)))
    for path in found.files:
        name = printable(os.path.splitext(os.path.relpath(path, folder))[0])
        if name in paths:
            raise UserError(f"{paths[name]} and {path}: two images with the same name; remove one from the benchmark")
        paths[name] = path
    return paths


def _read(path: str) -> np.ndarray:
    try:
        return read_rgb(path)
    except ImageError as error:
        raise UserError(f"{path}: {error}; remove it from the benchmark") from error


class Row(NamedTuple):
    """The score of a model on an image."""

    image: str
    model: str
    score: scores.Score


def evaluate(benchmark: Benchmark, models: Mapping[str, Upscale], vgg: keras.Model | None = None) -> Iterator[Row]:
    """Measure models on a benchmark.

    Args:
        benchmark: from `find_benchmark`.
        models: functions that upscale images, by name.
        vgg: from `VGG.build`, for the perceptual distance. If None, it is not measured.

    Yields:
        A row for each model on each image.

    Raises:
        UserError: see `Benchmark.read`; or an image is too large for the memory or too small for the features.
    """
    distance = scores.perceptual_distance(vgg) if vgg else None
    for number, (_, hr_path, _) in enumerate(benchmark.files):
        pair = benchmark.read(number)
        if vgg:
            _check_features(vgg, pair.hr, hr_path)
        for name, upscale in models.items():
            try:
                if number == 0:
                    upscale(pair.lr)  # the compilation is not timed
                start = time.perf_counter()
                sr = upscale(pair.lr)
                seconds = time.perf_counter() - start
                row = Row(pair.name, name, scores.score(pair, sr, benchmark.scale, distance, seconds))
            except OUT_OF_MEMORY as error:
                raise UserError(f"{hr_path}: too large for the memory; remove it from the benchmark") from error
            yield row


def _check_features(vgg: keras.Model, hr: np.ndarray, path: str) -> None:
    try:
        vgg.compute_output_shape((1, *hr.shape))
    except ValueError as error:
        raise UserError(f"{path}: too small for the features of this VGG layer; choose another one") from error


def means(rows: Sequence[Row]) -> scores.Score:
    """Return the means of the scores of some rows.

    Args:
        rows: from `evaluate`.
    """
    return scores.mean_score([row.score for row in rows])
