"""Folders of photographs: which can be used, which are there twice, and which are held out."""

import dataclasses
import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from tqdm import tqdm

from pyimagesearch.errors import UserError
from pyimagesearch.files import find_files, printable
from pyimagesearch.pictures import PICTURE_ENDINGS, PictureError, read_rgb, read_size
from pyimagesearch.sources import Skipped, Source, make_pair
from pyimagesearch.tfrecords import Pair


class File(NamedTuple):
    """A picture's file: its path below a folder, its height and width in pixels, the SHA-256 of its content."""

    name: str
    height: int
    width: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Photographs of a folder; LR is made by `shrink`."""

    root: str
    files: tuple[File, ...]
    scale: int

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """See `Pictures`."""
        return [(file.height, file.width) for file in self.files]

    def part(self, first: int, last: int) -> Self:
        """See `Pictures`."""
        return dataclasses.replace(self, files=self.files[first:last])

    def __iter__(self) -> Iterator[Pair | Skipped]:
        """See `Pictures`."""
        for file in self.files:
            try:
                hr = read_rgb(os.path.join(self.root, file.name))
            except PictureError as error:
                yield _skipped(file.name, error)
            else:
                yield make_pair(file.name, hr, self.scale)


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
    test, train = (Photographs(root, _usable(root, min_size, known, skipped), scale) for root in (test_dir, train_dir))
    return Source(train, test, skipped)


def folder(images_dir: str, test_fraction: float, scale: int, min_size: int, seed: int) -> Source:
    """Return the photographs of one folder, a random `test_fraction` of them (at least one) held out.

    The other arguments are those of `folders`.

    Raises:
        UserError: there are fewer than two photographs that can be used.
    """
    skipped = []
    files = _usable(images_dir, min_size, {}, skipped)
    if len(files) < 2:
        raise UserError(f"--images {images_dir}: one photograph cannot be split; add more or give --test-images")
    held_out = min(max(1, round(test_fraction * len(files))), len(files) - 1)
    test = set(random.Random(seed).sample(files, held_out))
    train, test = (tuple(file for file in files if (file in test) == wanted) for wanted in (False, True))
    return Source(Photographs(images_dir, train, scale), Photographs(images_dir, test, scale), skipped)


def find_pictures(root: str) -> list[str]:
    """Return the paths of the photographs below a folder, from there, sorted.

    Raises:
        UserError: there is no such folder, or no photograph in it.
    """
    pictures = [os.path.relpath(path, root) for path in find_files(root, PICTURE_ENDINGS)]
    if not pictures:
        what = "no photographs in it" if os.path.isdir(root) else "no such folder"
        raise UserError(f"{root}: {what}; give a folder with {', '.join(PICTURE_ENDINGS)} files")
    return pictures


def _usable(root: str, min_size: int, known: dict[str, str], skipped: list[Skipped]) -> tuple[File, ...]:
    """Return the photographs below a folder that can be used, as far as their headers tell, each content once.

    Those that cannot be used are added to `skipped`; those in `known` are among them, and the others are added to it.
    """
    names = find_pictures(root)
    files = []
    for name in tqdm(names, desc=f"looking through {root}", unit=" pictures", disable=None):
        path = os.path.join(root, name)
        try:
            height, width = read_size(path)
            if min(height, width) < min_size:
                raise PictureError(f"{width}x{height} pixels are too few, {min_size}x{min_size} are needed")
            sha256 = _sha256(path)
            if (double := known.setdefault(sha256, path)) != path:
                raise PictureError(f"the same file as {printable(double)}")
        except PictureError as error:
            skipped.append(_skipped(name, error))
        else:
            files.append(File(name, height, width, sha256))
    if not files:
        raise UserError(f"{root}: none of {len(names)} photographs can be used; {': '.join(skipped[-1])}")
    return tuple(files)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _skipped(name: str, error: PictureError) -> Skipped:
    return Skipped(printable(name), str(error))
