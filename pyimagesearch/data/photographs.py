"""Folders of photographs: which can be used, which are there twice, and which are held out."""

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
from pyimagesearch.files import fault, find_files, kinds, printable, reason


class File(NamedTuple):
    """An image's file: its path below a folder, its height and width in pixels, the SHA-256 of its content."""

    name: str
    height: int
    width: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Photographs of a folder; LR is made by `shrink`. They are the same wherever the folder is."""

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
            except Exception as error:  # whatever becomes of one photograph, the rest goes on
                yield _skipped(file.name, error)
            else:
                yield pair


def folders(train_dir: str, test_dir: str, scale: int, min_size: int) -> Source:
    """Return the photographs of two folders and their subfolders; those that are in both are held out.

    Args:
        train_dir: the folder to train on.
        test_dir: the folder to hold out.
        scale: how many times larger HR is than LR.
        min_size: the least height and width of a photograph, in pixels.

    Raises:
        UserError: a folder has no photograph that can be used.
    """
    known, skipped = {}, []
    held_out, images = find_images(test_dir), find_images(train_dir)
    reserved = {os.path.realpath(os.path.join(test_dir, name)) for name in held_out.names}
    names = [name for name in images.names if os.path.realpath(os.path.join(train_dir, name)) not in reserved]
    if not names:
        raise UserError(f"{train_dir}: all of its photographs are among the test images; give more")
    test = Photographs(test_dir, _usable(test_dir, held_out.names, min_size, known, skipped), scale)
    train = Photographs(train_dir, _usable(train_dir, names, min_size, known, skipped), scale)
    return Source(train, test, skipped, [*images.unread, *held_out.unread])


def folder(images_dir: str, test_fraction: float, scale: int, min_size: int, seed: int) -> Source:
    """Return the photographs of one folder, a random `test_fraction` of them (at least one) held out.

    The other arguments are those of `folders`.

    Raises:
        UserError: there are fewer than two photographs that can be used.
    """
    skipped, images = [], find_images(images_dir)
    files = _usable(images_dir, images.names, min_size, {}, skipped)
    if len(files) < 2:
        raise UserError(f"{images_dir}: one photograph cannot be split; add more or give test images")
    held_out = min(max(1, round(test_fraction * len(files))), len(files) - 1)
    test = set(random.Random(seed).sample(files, held_out))
    train, test = (tuple(file for file in files if (file in test) == wanted) for wanted in (False, True))
    return Source(Photographs(images_dir, train, scale), Photographs(images_dir, test, scale), skipped, images.unread)


class Found(NamedTuple):
    """The photographs below a folder, by their paths from there, sorted, and the files that are of no kind read."""

    names: list[str]
    unread: list[Skipped]


def find_images(root: str) -> Found:
    """Find the photographs below a folder, and say in a line what else is there.

    Raises:
        UserError: there is no such folder, or no photograph in it.
    """
    found = find_files(root, IMAGE_ENDINGS)
    if not found.files:
        what = "no photographs in it" if os.path.isdir(root) else "no such folder"
        raise UserError(f"{root}: {what}; give a folder with {', '.join(IMAGE_ENDINGS)} files")
    if found.others:
        logging.info("%s: left out what is of no kind read: %s", printable(root), kinds(found.others))
    others = (printable(os.path.relpath(path, root)) for path in found.others)
    return Found(
        [os.path.relpath(path, root) for path in found.files],
        [Skipped(name, "the name does not end as that of a photograph") for name in others],
    )


def _usable(
    root: str, names: Sequence[str], min_size: int, known: dict[str, str], skipped: list[Skipped]
) -> tuple[File, ...]:
    """Return those photographs of a folder that can be used, as far as their headers tell, each content once.

    Those that cannot be used are added to `skipped`; those in `known` are among them, and the others are added to it.
    """
    files = []
    for name in tqdm(names, desc=f"looking through {root}", unit=" images", disable=None):
        path = os.path.join(root, name)
        try:
            height, width = read_size(path)
            if small := too_small(height, width, min_size):
                raise ImageError(small)
            sha256 = _sha256(path)
            if sha256 in known:
                raise ImageError(f"the same file as {printable(known[sha256])}")
            known[sha256] = path
        except Exception as error:  # as above
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
