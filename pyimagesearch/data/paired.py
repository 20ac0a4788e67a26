"""Photographs with given low-resolution images, which are matched by their names."""

import collections
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from pyimagesearch.data.image_io import IMAGE_ENDINGS, ImageError, read_rgb, read_size
from pyimagesearch.data.pairs import Pair
from pyimagesearch.data.photographs import File, Photographs
from pyimagesearch.data.sources import Skipped, Source
from pyimagesearch.errors import UserError
from pyimagesearch.files import printable


@dataclasses.dataclass(frozen=True)
class PairedPhotographs:
    """Pairs of HR and LR images from two folders.

    Attributes:
        root: the folder of the HR images.
        lr_root: the folder of the LR images.
        files: pairs of files, (HR, LR), relative to their folders.
        scale: the scaling factor of HR relative to LR.
    """

    root: str = dataclasses.field(repr=False)
    lr_root: str = dataclasses.field(repr=False)
    files: tuple[tuple[File, File], ...]
    scale: int

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """See `ImageSource`."""
        return [(self.scale * lr.height, self.scale * lr.width) for _, lr in self.files]

    def part(self, first: int, last: int) -> Self:
        """See `ImageSource`."""
        return dataclasses.replace(self, files=self.files[first:last])

    def __iter__(self) -> Iterator[Pair | Skipped]:
        """See `ImageSource`. HR is cropped at the bottom and the right to `scale` times the size of LR."""
        for hr_file, lr_file in self.files:
            path = os.path.join(self.lr_root, lr_file.name)
            try:
                lr = read_rgb(path)  # [h, w, 3]
                path = os.path.join(self.root, hr_file.name)
                hr = read_rgb(path)  # [H, W, 3]
            except (ImageError, OSError) as error:
                yield Skipped(printable(path), str(error))
            else:
                height, width = (self.scale * side for side in lr.shape[:2])
                yield Pair(hr_file.name, lr, hr[:height, :width])


def match(source: Source, lr_dir: str, test_lr_dir: str | None = None) -> Source:
    """Match photographs with given low-resolution images by their names.

    `sub/0001.jpg` or `sub/0001x4.jpg` is the LR image of `sub/0001.png`. The HR image must be `scale` times as large.
    Fewer than `scale` additional rows and columns are cut off. HR and LR images without a match are skipped.

    Args:
        source: `Photographs` for training and testing, from one folder or from two.
        lr_dir: the folder of the LR images for training, or of all LR images.
        test_lr_dir: the folder of the LR images for testing. If None, all photographs are from one folder, and all LR
            images, too.

    Raises:
        UserError: a folder has no images or no pairs, or one folder has fewer than two pairs.
    """
    if test_lr_dir:
        (train, skipped), (test, test_skipped) = (
            _match_folder(photographs, place, source.skipped)
            for photographs, place in ((source.train, lr_dir), (source.test, test_lr_dir))
        )
        return source._replace(train=train, test=test, skipped=[*source.skipped, *skipped, *test_skipped])
    together = dataclasses.replace(source.train, files=tuple(sorted(source.train.files + source.test.files)))
    pairs, skipped = _match_folder(together, lr_dir, source.skipped)
    if len(pairs.files) < 2:
        raise UserError(f"{lr_dir}: one pair cannot be split; add more pairs or give test images of both sizes")
    # Each split has at least one pair, even if held-out photographs have no match.
    held_out = [pair for pair in pairs.files if pair[0] in source.test.files]
    test = held_out[: len(pairs.files) - 1] or pairs.files[:1]
    train = [pair for pair in pairs.files if pair not in test]
    return source._replace(
        train=dataclasses.replace(pairs, files=tuple(train)),
        test=dataclasses.replace(pairs, files=tuple(test)),
        skipped=[*source.skipped, *skipped],
    )


def _match_folder(
    photographs: Photographs, lr_root: str, unusable: Sequence[Skipped]
) -> tuple[PairedPhotographs, list[Skipped]]:
    """Return the pairs of two folders and the skipped images. `unusable` HR images need no match."""
    root, scale = photographs.root, photographs.scale
    lr_names = _names_by_stem(lr_root)
    pairs, skipped, taken = [], [], {}
    for file in photographs.files:
        try:
            pairs.append((file, _find_lr(file, lr_root, lr_names, taken, scale)))
        except ImageError as error:
            skipped.append(Skipped(printable(file.name), str(error)))
    if not pairs:
        raise UserError(f"{lr_root}: no image matches an image in {root}; {': '.join(skipped[0])}")
    stems = {_stem(printable(name)) for name, *_ in (*photographs.files, *unusable)}
    for stem, names in lr_names.items():
        if not {printable(stem), printable(stem).removesuffix(f"x{scale}")} & stems:
            reason = f"no image of that name in {printable(root)}"
            skipped += [Skipped(printable(os.path.join(lr_root, name)), reason) for name in names]
    return PairedPhotographs(root, lr_root, tuple(pairs), scale), skipped


def _names_by_stem(root: str) -> Mapping[str, Sequence[str]]:
    """Return the relative paths of the images below a folder, by the path without its ending."""
    paths = sorted(path for path in pathlib.Path(root).rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not paths:
        what = "no images in it" if os.path.isdir(root) else "no such folder"
        raise UserError(f"{root}: {what}; give the folder of the low-resolution images")
    names = collections.defaultdict(list)
    for path in paths:
        name = os.path.relpath(path, root)
        names[_stem(name)].append(name)
    return names


def _find_lr(
    file: File, lr_root: str, lr_names: Mapping[str, Sequence[str]], taken: dict[str, str], scale: int
) -> File:
    """Return the LR image of an HR image, and add it to `taken`.

    Raises:
        ImageError: there is no match or more than one, the match belongs to another HR image, cannot be read, or has a
            wrong size.
    """
    stem = _stem(file.name)
    names = [*lr_names.get(stem, ()), *lr_names.get(f"{stem}x{scale}", ())]
    if len(names) != 1:
        found = f"{len(names)} images" if names else "no image"
        raise ImageError(f"{found} of that name in {printable(lr_root)}")
    (name,) = names
    if (other := taken.setdefault(name, file.name)) != file.name:
        raise ImageError(f"its low-resolution image already belongs to {printable(other)}")
    try:
        lr = _describe(lr_root, name)
    except (ImageError, OSError) as error:
        raise ImageError(f"{printable(os.path.join(lr_root, name))}: {error}") from error
    excess = file.height - scale * lr.height, file.width - scale * lr.width
    if min(excess) < 0 or max(excess) >= scale:
        sizes = f"{file.width}x{file.height} pixels are not {scale} times {lr.width}x{lr.height}"
        raise ImageError(f"{sizes}, the size of its low-resolution image")
    return lr


def _describe(root: str, name: str) -> File:
    path = os.path.join(root, name)
    height, width = read_size(path)
    with open(path, "rb") as file:
        return File(name, height, width, hashlib.file_digest(file, "sha256").hexdigest())


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
