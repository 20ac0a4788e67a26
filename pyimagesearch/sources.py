"""Where pairs of low and high resolution come from: DIV2K, folders of photographs, the sample photographs."""

import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import skimage.data
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image, ImageOps
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from pyimagesearch.errors import UserError
from pyimagesearch.metrics import to_uint8
from pyimagesearch.tfrecords import Pair

PICTURE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What the names of photographs end with, in a folder."""

SAMPLE_PIECE_SIZE = 152
"""The longest side of the held-out pieces of the sample photographs."""


class Source(NamedTuple):
    """The pairs to train on and the pairs held out; each is gone through once."""

    train: Iterator[Pair]
    test: Iterator[Pair]


def div2k(dataset: str, manual_dir: str | None = None) -> Source:
    """Return DIV2K (Agustsson and Timofte, 2017), prepared by tensorflow-datasets the first time.

    Args:
        dataset: its name in tensorflow-datasets, "div2k/bicubic_x4".
        manual_dir: a folder with DIV2K's own four zip files; they are downloaded if None.

    Raises:
        UserError: a zip file is missing or damaged, or cannot be downloaded.
    """
    builder = tfds.builder(dataset)
    if not builder.is_prepared():
        _prepare(builder, manual_dir)
    read_config = tfds.ReadConfig(add_tfds_id=True)

    def pairs(split: str) -> Iterator[Pair]:
        for example in tfds.as_numpy(builder.as_dataset(split=split, read_config=read_config)):
            yield Pair(example["tfds_id"].decode(), example["lr"], example["hr"])

    return Source(pairs("train"), pairs("validation"))


def _prepare(builder: tfds.core.DatasetBuilder, manual_dir: str | None) -> None:
    zips = [builder.url_infos[url] for url in builder.builder_config.download_urls.values()]
    needed = ", ".join(f"{zip_file.filename} ({zip_file.size:,} bytes)" for zip_file in zips)
    if manual_dir:
        for zip_file in zips:
            path = os.path.join(manual_dir, zip_file.filename)
            if not os.path.exists(path):
                raise UserError(f"{path}: missing; --manual-dir needs {needed}")
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except NonMatchingChecksumError as error:
        damaged = next((zip_file.filename for zip_file in zips if zip_file.filename in str(error)), "a zip file")
        raise UserError(f"{damaged}: damaged, not the file that DIV2K offers; download it again") from error
    except (tfds.download.DownloadError, OSError) as error:
        raise UserError(f"DIV2K cannot be downloaded; fetch {needed} and give --manual-dir") from error


def folders(train_dir: str, test_dir: str, scale: int, min_size: int) -> Source:
    """Return the photographs of two folders and their subfolders.

    Args:
        train_dir: the folder to train on.
        test_dir: the folder to hold out.
        scale: how many times larger HR is than LR, which is made by `shrink`.
        min_size: the least height and width of a photograph, in pixels.

    Raises:
        UserError: a folder has no photographs; while going through them, one is unreadable or too small.
    """
    return Source(*(_photographs(find_pictures(folder), scale, min_size) for folder in (train_dir, test_dir)))


def folder(images_dir: str, test_fraction: float, scale: int, min_size: int, seed: int) -> Source:
    """Return the photographs of one folder, a random `test_fraction` of them (at least one) held out.

    The other arguments are those of `folders`.

    Raises:
        UserError: there are fewer than two photographs; while going through them, one is unreadable or too small.
    """
    paths = find_pictures(images_dir)
    if len(paths) < 2:
        raise UserError(f"--images {images_dir}: one photograph cannot be split; add more or give --test-images")
    held_out = min(max(1, round(test_fraction * len(paths))), len(paths) - 1)
    test = set(random.Random(seed).sample(paths, held_out))
    train = [path for path in paths if path not in test]
    return Source(*(_photographs(part, scale, min_size) for part in (train, sorted(test))))


def find_pictures(root: str) -> list[str]:
    """Return the paths of the photographs in a folder and its subfolders, sorted.

    Raises:
        UserError: there is no such folder, or no photograph in it.
    """
    paths = [os.path.join(place, name) for place, _, names in os.walk(root) for name in names]
    pictures = sorted(path for path in paths if path.lower().endswith(PICTURE_ENDINGS))
    if not pictures:
        what = "no photographs in it" if os.path.isdir(root) else "no such folder"
        raise UserError(f"{root}: {what}; give a folder with {', '.join(PICTURE_ENDINGS)} files")
    return pictures


def _photographs(paths: Sequence[str], scale: int, min_size: int) -> Iterator[Pair]:
    for path in paths:
        hr = _read(path)
        height, width, _ = hr.shape
        if min(height, width) < min_size:
            raise UserError(f"{path}: {width}x{height} pixels are too few, {min_size}x{min_size} are needed; remove it")
        yield _pair(os.path.basename(path), hr, scale)


def _read(path: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable picture; repair or remove it") from error


def sample(scale: int) -> Source:
    """Return scikit-image's sample photographs: three to train on and, held out, a cat in six pieces.

    Args:
        scale: how many times larger HR is than LR, which is made by `shrink`.
    """

    def pairs(*photographs: Callable[[], np.ndarray]) -> Iterator[Pair]:
        return (_pair(photograph.__name__, photograph(), scale) for photograph in photographs)

    train = pairs(skimage.data.astronaut, skimage.data.coffee, skimage.data.rocket)
    return Source(train, cut(pairs(skimage.data.chelsea), SAMPLE_PIECE_SIZE))


def _pair(name: str, hr: np.ndarray, scale: int) -> Pair:
    height, width, _ = hr.shape
    hr = hr[: height // scale * scale, : width // scale * scale]
    return Pair(name, shrink(hr, scale), hr)


def shrink(hr: np.ndarray, scale: int) -> np.ndarray:
    """Reduce a picture by antialiased bicubic interpolation, as MATLAB's imresize does.

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
    """
    for pair in pairs:
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        overlap = crop_size // scale - 1 if crop_size else 0
        height, width, _ = pair.lr.shape
        for top, bottom in _spans(height, piece_size // scale, overlap):
            for left, right in _spans(width, piece_size // scale, overlap):
                lr = pair.lr[top:bottom, left:right]
                hr = pair.hr[top * scale : bottom * scale, left * scale : right * scale]
                yield Pair(pair.name, lr, hr, top, left)


def _spans(length: int, longest: int, overlap: int) -> list[tuple[int, int]]:
    count = math.ceil((length - overlap) / (longest - overlap))
    edges = [round(i * (length - overlap) / count) for i in range(count + 1)]
    return [(start, end + overlap) for start, end in pairwise(edges)]
