"""Photographs with low-resolution images of their own, taken or made elsewhere, matched by their names."""

import collections
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Self

from pyimagesearch.errors import UserError
from pyimagesearch.files import printable
from pyimagesearch.photographs import File, describe, find_pictures, hold_out, usable
from pyimagesearch.pictures import PictureError, read_rgb
from pyimagesearch.sources import Skipped, Source
from pyimagesearch.tfrecords import Pair


@dataclasses.dataclass(frozen=True)
class PairedPhotographs:
    """HR and LR images of two folders; `files` has the file of each below its folder, HR first."""

    root: str
    lr_root: str
    files: tuple[tuple[File, File], ...]
    scale: int

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """See `Pictures`."""
        return [(self.scale * lr.height, self.scale * lr.width) for _, lr in self.files]

    def part(self, first: int, last: int) -> Self:
        """See `Pictures`."""
        return dataclasses.replace(self, files=self.files[first:last])

    def __iter__(self) -> Iterator[Pair | Skipped]:
        """See `Pictures`. HR is trimmed at the bottom and the right to `scale` times LR; nothing is reduced."""
        for hr_file, lr_file in self.files:
            path = os.path.join(self.lr_root, lr_file.name)
            try:
                lr = read_rgb(path)  # [h, w, 3]
                path = os.path.join(self.root, hr_file.name)
                hr = read_rgb(path)  # [H, W, 3]
            except PictureError as error:
                yield Skipped(printable(path), str(error))
            else:
                height, width = (self.scale * side for side in lr.shape[:2])
                yield Pair(hr_file.name, lr, hr[:height, :width])


def folder(images_dir: str, lr_dir: str, test_fraction: float, scale: int, min_size: int, seed: int) -> Source:
    """Return the pairs of two folders, a random `test_fraction` of them (at least one) held out.

    Args:
        images_dir: the folder of HR images.
        lr_dir: the folder of their LR images: `sub/0001.jpg` or `sub/0001x4.jpg` for `sub/0001.png`.
        test_fraction: the part to hold out.
        scale: how many times larger HR is than LR, but for less than one LR pixel.
        min_size: the least height and width of an HR image, in pixels.
        seed: settles which are held out.

    Raises:
        UserError: there are fewer than two pairs.
    """
    skipped = []
    files = _match_folders(images_dir, lr_dir, scale, min_size, {}, skipped)
    if len(files) < 2:
        raise UserError(f"--images {images_dir}: one pair cannot be split; add more or give --test-images")
    train, test = hold_out(files, test_fraction, seed)
    return Source(*(PairedPhotographs(images_dir, lr_dir, part, scale) for part in (train, test)), skipped)


def folders(train: tuple[str, str], test: tuple[str, str], scale: int, min_size: int) -> Source:
    """Return the pairs to train on and those held out, each of a folder of HR images and one of their LR images.

    HR images that are in both are held out. `scale` and `min_size` are those of `folder`.

    Raises:
        UserError: two folders have no pair.
    """
    known, skipped = {}, []
    held_out, trained_on = (
        PairedPhotographs(*roots, _match_folders(*roots, scale, min_size, known, skipped), scale)
        for roots in (test, train)
    )
    return Source(trained_on, held_out, skipped)


def _match_folders(
    root: str, lr_root: str, scale: int, min_size: int, known: dict[str, str], skipped: list[Skipped]
) -> tuple[tuple[File, File], ...]:
    """Return the pairs of two folders; what cannot be used or has no match is added to `skipped`."""
    lr_names = collections.defaultdict(list)
    for name in find_pictures(lr_root):
        lr_names[_stem(name)].append(name)
    stems = set(map(_stem, find_pictures(root)))
    pairs, taken = [], {}
    for file in usable(root, min_size, known, skipped):
        try:
            pairs.append((file, _find_lr(file, lr_root, lr_names, taken, scale)))
        except PictureError as error:
            skipped.append(Skipped(printable(file.name), str(error)))
    if not pairs:
        raise UserError(f"{lr_root}: no image there belongs to one in {root}; {': '.join(skipped[-1])}")
    skipped += [
        Skipped(printable(os.path.join(lr_root, name)), f"no image of that name in {printable(root)}")
        for stem, names in lr_names.items()
        for name in names
        if not {stem, stem.removesuffix(f"x{scale}")} & stems
    ]
    return tuple(pairs)


def _find_lr(file: File, lr_root: str, lr_names: dict[str, list[str]], taken: dict[str, str], scale: int) -> File:
    """Return the LR image of an HR image, and note in `taken` that it is.

    Raises:
        PictureError: there is none or more than one, it belongs to another, cannot be read, or is of another size.
    """
    stem = _stem(file.name)
    names = [*lr_names.get(stem, ()), *lr_names.get(f"{stem}x{scale}", ())]
    if len(names) != 1:
        found = f"{len(names)} images" if names else "no image"
        raise PictureError(f"{found} of that name in {printable(lr_root)}")
    if (other := taken.setdefault(names[0], file.name)) != file.name:
        raise PictureError(f"its low-resolution image is that of {printable(other)}")
    try:
        lr = describe(lr_root, names[0])
    except PictureError as error:
        raise PictureError(f"{printable(os.path.join(lr_root, names[0]))}: {error}") from error
    excess = file.height - scale * lr.height, file.width - scale * lr.width
    if min(excess) < 0 or max(excess) >= scale:
        sizes = f"{file.width}x{file.height} pixels are not {scale} times {lr.width}x{lr.height}"
        raise PictureError(f"{sizes}, the size of its low-resolution image")
    return lr


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
