"""Where pairs of low and high resolution come from: DIV2K and the sample photographs."""

import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self

import skimage.data
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.data.pairs import Pair, cut, make_pair
from pyimagesearch.errors import UserError

SAMPLE_PIECE_SIZE = 152
"""The longest side of the held-out pieces of the sample photographs; the shortest is eight pixels less at most."""

SAMPLE_SIZE = (300, 451)
"""The height and width of the smallest sample photograph, which is the one held out."""

DIV2K_SIZE = (1404, 2040)
"""About the height and width of an image of DIV2K."""


class Skipped(NamedTuple):
    """An image that is left out, and why."""

    name: str
    reason: str


def too_small(height: int, width: int, min_size: int) -> str | None:
    """Return why an image of this height and width cannot be used, if it is smaller than `min_size` on any side."""
    if min(height, width) < min_size:
        return f"{width}x{height} pixels are too few, {min_size}x{min_size} are needed"
    return None


class ImageSource(Protocol):
    """Images in a settled order, which parts of can be sent to other processes and be read there."""

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """About the height and width of each image, in pixels."""

    def part(self, first: int, last: int) -> Self:
        """Return the images from number `first` to before `last`."""

    def __iter__(self) -> Iterator[Pair | Skipped]:
        """Read them, one after the other."""


class Source(NamedTuple):
    """The images to train on, those held out, and those of which it is known already that they are left out.

    `unread` are files that do not claim to be images.
    """

    train: ImageSource
    test: ImageSource
    skipped: Sequence[Skipped] = ()
    unread: Sequence[Skipped] = ()


@dataclasses.dataclass(frozen=True)
class Div2k:
    """A part of a split of DIV2K, prepared by tensorflow-datasets in the folder `builder_dir`.

    Images of less than `min_size` pixels on any side are skipped.
    """

    builder_dir: str
    split: str
    scale: int
    min_size: int
    first: int
    last: int

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """See `ImageSource`."""
        return [DIV2K_SIZE] * (self.last - self.first)

    def part(self, first: int, last: int) -> Self:
        """See `ImageSource`."""
        return dataclasses.replace(self, first=self.first + first, last=self.first + last)

    def __iter__(self) -> Iterator[Pair | Skipped]:
        """See `ImageSource`. The PNG files are read as DIV2K has them: tensorflow-datasets keeps their bytes."""
        builder = tfds.builder_from_directory(self.builder_dir)
        examples = builder.as_dataset(
            split=f"{self.split}[{self.first}:{self.last}]",
            read_config=tfds.ReadConfig(add_tfds_id=True),
            decoders={name: tfds.decode.SkipDecoding() for name in ("lr", "hr")},
        )
        for example in tfds.as_numpy(examples):
            lr, hr = (read_rgb(io.BytesIO(example[name])) for name in ("lr", "hr"))
            name, height, width = example["tfds_id"].decode(), *(self.scale * side for side in lr.shape[:2])
            reason = too_small(height, width, self.min_size)
            yield Skipped(name, reason) if reason else Pair(name, lr, hr[:height, :width])


def div2k(dataset: str, scale: int, min_size: int, manual_dir: str | None = None) -> Source:
    """Return DIV2K (Agustsson and Timofte, 2017), prepared by tensorflow-datasets the first time.

    Args:
        dataset: its name in tensorflow-datasets, "div2k/bicubic_x4".
        scale: how many times larger HR is than LR.
        min_size: the least height and width of an image, in pixels.
        manual_dir: a folder with DIV2K's own four zip files; they are downloaded if None.

    Raises:
        UserError: most images are smaller than `min_size`; a zip file is missing or damaged, or cannot be downloaded.
    """
    _check_size("most photographs of DIV2K", DIV2K_SIZE, min_size)
    builder = tfds.builder(dataset)
    if not builder.is_prepared():
        _prepare(builder, manual_dir)
    splits = (
        Div2k(str(builder.data_path), split, scale, min_size, 0, builder.info.splits[split].num_examples)
        for split in ("train", "validation")
    )
    return Source(*splits)


def _check_size(what: str, size: tuple[int, int], min_size: int) -> None:
    if reason := too_small(*size, min_size):
        raise UserError(f"crop size: {reason} of {what}; {min(size) // 8 * 8} works")


def _prepare(builder: tfds.core.DatasetBuilder, manual_dir: str | None) -> None:
    zips = [builder.url_infos[url] for url in builder.builder_config.download_urls.values()]
    needed = ", ".join(f"{zip_file.filename} ({zip_file.size:,} bytes)" for zip_file in zips)
    if manual_dir:
        for zip_file in zips:
            path = os.path.join(manual_dir, zip_file.filename)
            if not os.path.exists(path):
                raise UserError(f"{path}: missing; the folder needs {needed}")
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except NonMatchingChecksumError as error:
        damaged = next((zip_file.filename for zip_file in zips if zip_file.filename in str(error)), "a zip file")
        raise UserError(f"{damaged}: damaged, not the file that DIV2K offers; download it again: {needed}") from error
    except (tfds.download.DownloadError, OSError) as error:
        raise UserError(f"DIV2K cannot be downloaded; fetch {needed} and give their folder") from error


@dataclasses.dataclass(frozen=True)
class Samples:
    """Photographs of scikit-image by their names there, whole or in pieces; LR is made by `shrink`."""

    names: tuple[str, ...]
    scale: int
    piece_size: int | None = None

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """See `ImageSource`."""
        return [getattr(skimage.data, name)().shape[:2] for name in self.names]

    def part(self, first: int, last: int) -> Self:
        """See `ImageSource`."""
        return dataclasses.replace(self, names=self.names[first:last])

    def __iter__(self) -> Iterator[Pair]:
        """See `ImageSource`."""
        pairs = (make_pair(name, getattr(skimage.data, name)(), self.scale) for name in self.names)
        return cut(pairs, self.piece_size) if self.piece_size else pairs


def sample(scale: int, min_size: int) -> Source:
    """Return scikit-image's sample photographs: three to train on and, held out, a cat.

    Args:
        scale: how many times larger HR is than LR.
        min_size: the least height and width that is needed, in pixels. The cat is in six pieces, or whole if these were
            smaller.

    Raises:
        UserError: the smallest photograph is smaller than `min_size`.
    """
    _check_size("the sample photographs", SAMPLE_SIZE, min_size)
    piece_size = SAMPLE_PIECE_SIZE if min_size <= SAMPLE_PIECE_SIZE - 8 else None
    return Source(Samples(("astronaut", "coffee", "rocket"), scale), Samples(("chelsea",), scale, piece_size))
