"""Folders of photographs: find usable ones, skip duplicates, and hold out test images."""

import dataclasses
import hashlib
import logging
import os
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import tensorflow as tf
from tqdm import tqdm

from pyimagesearch.data.image_io import IMAGE_ENDINGS, ImageError, read_rgb, read_size
from pyimagesearch.data.pairs import Pair, make_pair
from pyimagesearch.data.sources import Skipped, Source, too_small
from pyimagesearch.errors import UserError
from pyimagesearch.files import count_endings, fault, find_files, kinds, printable, reason


class File(NamedTuple):
    """An image file.

    Attributes:
        name: its path relative to the folder.
        height: in pixels.
        width: in pixels.
        sha256: the SHA-256 of its content, in hexadecimal digits.
    """

    name: str
    height: int
    width: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Photographs:
    """The photographs of a folder. LR is made by `shrink`. The `repr` does not depend on where the folder is."""

    root: str = dataclasses.field(repr=False)
    files: tuple[File, ...]
    scale: int

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """See `ImageSource`."""
        return [(file.height, file.width) for file in self.files]

    def part(self, first: int, last: int) -> Self:
        """See `ImageSource`."""
        return dataclasses.replace(self, files=self.files[first:last])

    def __iter__(self) -> Iterator[Pair | Skipped]:
        """See `ImageSource`."""
        for file in self.files:
            try:
                hr = read_rgb(os.path.join(self.root, file.name))
                pair = make_pair(file.name, hr, self.scale)
            except Exception as error:  # an error of one photograph must not stop the others
                yield _skipped(file.name, error)
            else:
                yield pair


def folders(train_dir: str, test_dir: str, scale: int, min_size: int) -> Source:
    """Return the photographs of two folders and their subfolders. Photographs in both folders are held out.

    Args:
        train_dir: the folder of training photographs.
        test_dir: the folder of held-out photographs.
        scale: the scaling factor of HR relative to LR.
        min_size: the smallest height and width of a photograph, in pixels.

    Raises:
        UserError: a folder has no usable photograph.
    """
    known, skipped = {}, []
    held_out, images = find_images(test_dir), find_images(train_dir)
    reserved = {os.path.realpath(os.path.join(test_dir, name)) for name in held_out.names}
    names = [name for name in images.names if os.path.realpath(os.path.join(train_dir, name)) not in reserved]
    if not names:
        raise UserError(f"{train_dir}: all photographs are also test images; add more")
    test = Photographs(test_dir, _usable(test_dir, held_out.names, min_size, known, skipped), scale)
    train = Photographs(train_dir, _usable(train_dir, names, min_size, known, skipped), scale)
    return Source(train, test, skipped, [*images.unread, *held_out.unread])


def folder(images_dir: str, test_fraction: float, scale: int, min_size: int, seed: int) -> Source:
    """Return the photographs of one folder and its subfolders, a random part of them held out.

    Args:
        images_dir: the folder.
        test_fraction: the fraction to hold out, above 0 and below 1. At least one photograph is held out.
        scale: the scaling factor of HR relative to LR.
        min_size: the smallest height and width of a photograph, in pixels.
        seed: the random seed of the held-out part.

    Raises:
        UserError: fewer than two photographs are usable.
    """
    skipped, images = [], find_images(images_dir)
    files = _usable(images_dir, images.names, min_size, {}, skipped)
    if len(files) < 2:
        raise UserError(f"{images_dir}: one photograph cannot be split; add more photographs or give test images")
    held_out = min(max(1, round(test_fraction * len(files))), len(files) - 1)
    test = set(random.Random(seed).sample(files, held_out))
    train, test = (tuple(file for file in files if (file in test) == wanted) for wanted in (False, True))
    return Source(Photographs(images_dir, train, scale), Photographs(images_dir, test, scale), skipped, images.unread)


class Found(NamedTuple):
    """The photographs below a folder.

    Attributes:
        names: sorted paths relative to the folder.
        unread: files that are not images by their name.
    """

    names: list[str]
    unread: list[Skipped]


def find_images(root: str) -> Found:
    """Find the photographs below a folder. Other files are counted in a log line.

    Args:
        root: the folder.

    Raises:
        UserError: the folder does not exist or has no photographs.
    """
    found = find_files(root, IMAGE_ENDINGS)
    if not found.files:
        what = "no photographs in it" if os.path.isdir(root) else "no such folder"
        raise UserError(f"{root}: {what}; give a folder with {', '.join(IMAGE_ENDINGS)} files")
    if found.others:
        logging.info("%s: skipped files that are not images: %s", printable(root), kinds(count_endings(found.others)))
    others = (printable(os.path.relpath(path, root)) for path in found.others)
    return Found(
        [os.path.relpath(path, root) for path in found.files],
        [Skipped(name, "not an image by the ending of its name") for name in others],
    )


def _usable(
    root: str, names: Sequence[str], min_size: int, known: dict[str, str], skipped: list[Skipped]
) -> tuple[File, ...]:
    """Return the photographs of a folder that are usable according to their headers, without duplicates.

    Args:
        root: the folder.
        names: paths relative to the folder.
        min_size: the smallest height and width, in pixels.
        known: the paths of earlier photographs by SHA-256. The usable photographs are added.
        skipped: the list to which photographs that cannot be used are added.
    """
    files = []
    for name in tqdm(names, desc=f"checking {root}", unit=" images", disable=None):
        path = os.path.join(root, name)
        try:
            height, width = read_size(path)
            if small := too_small(height, width, min_size):
                raise ImageError(small)
            sha256 = _sha256(path)
            if sha256 in known:
                raise ImageError(f"the same file as {printable(known[sha256])}")
            known[sha256] = path
        except Exception as error:  # an error of one photograph must not stop the others
            skipped.append(_skipped(name, error))
        else:
            files.append(File(name, height, width, sha256))
    if not files:
        raise UserError(f"{root}: none of {len(names)} photographs can be used; {': '.join(skipped[-1])}")
    return tuple(files)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _skipped(name: str, error: Exception) -> Skipped:
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        why = "too large for the memory of this machine"
    elif isinstance(error, OSError):
        why = f"cannot be read: {reason(error)}"
    else:
        why = str(error) if isinstance(error, ImageError) else fault(error)
    return Skipped(printable(name), why)
