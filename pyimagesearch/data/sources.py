"""Sources of pairs of low-resolution and high-resolution images: DIV2K and the sample photographs."""

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
from pyimagesearch.data.tfrecords import dataset_options
from pyimagesearch.errors import UserError

SAMPLE_PIECE_SIZE = 152
"""The longest side of held-out pieces of the sample photographs in pixels. No side is more than 8 pixels shorter."""

SAMPLE_SIZE = (300, 451)
"""The height and width of the smallest sample photograph in pixels. It is the held-out one."""

DIV2K_SIZE = (1404, 2040)
"""The approximate height and width of an image of DIV2K in pixels."""


class Skipped(NamedTuple):
    """An image that is skipped, and the reason."""

    name: str
    reason: str


def too_small(height: int, width: int, min_size: int) -> str | None:
    """Return the reason why an image is too small, or None if it is not.

    Args:
        height: in pixels.
        width: in pixels.
        min_size: the smallest height and width, in pixels.
    """
    if min(height, width) < min_size:
        return f"{width}x{height} pixels are too small, {min_size}x{min_size} are needed"
    return None


class ImageSource(Protocol):
    """Images in a fixed order. Parts of them can be sent to other processes and read there."""

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """The approximate height and width of each image, in pixels."""

    def part(self, first: int, last: int) -> Self:
        """Return the images with the numbers `first` to `last` - 1.

        Args:
            first: the number of the first image, from 0.
            last: the number after the last image.
        """

    def __iter__(self) -> Iterator[Pair | Skipped]:
        """Read the images in order. An image that cannot be used gives a `Skipped`."""


class Source(NamedTuple):
    """The images of both splits.

    Attributes:
        train: the training images.
        test: the held-out images.
        skipped: images that were skipped before reading.
        unread: files that are not images by their name.
    """

    train: ImageSource
    test: ImageSource
    skipped: Sequence[Skipped] = ()
    unread: Sequence[Skipped] = ()


@dataclasses.dataclass(frozen=True)
class Div2k:
    """A part of a split of DIV2K, prepared by tensorflow-datasets.

    Attributes:
        builder_dir: the folder of the prepared data set.
        split: "train" or "validation".
        scale: the scaling factor of HR relative to LR.
        min_size: images with a smaller height or width, in pixels, are skipped.
        first: the number of the first image.
        last: the number after the last image.
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
        """See `ImageSource`. The PNG files of DIV2K are read without a new compression."""
        builder = tfds.builder_from_directory(self.builder_dir)
        examples = builder.as_dataset(
            split=f"{self.split}[{self.first}:{self.last}]",
            read_config=tfds.ReadConfig(add_tfds_id=True, options=dataset_options()),
            decoders={name: tfds.decode.SkipDecoding() for name in ("lr", "hr")},
        )
        for example in tfds.as_numpy(examples):
            lr, hr = (read_rgb(io.BytesIO(example[name])) for name in ("lr", "hr"))
            name, height, width = example["tfds_id"].decode(), *(self.scale * side for side in lr.shape[:2])
            reason = too_small(height, width, self.min_size)
            yield Skipped(name, reason) if reason else Pair(name, lr, hr[:height, :width])


def div2k(dataset: str, scale: int, min_size: int, manual_dir: str | None = None) -> Source:
    """Return DIV2K (Agustsson and Timofte, 2017). In the first call, tensorflow-datasets prepares it.

    Args:
        dataset: its name in tensorflow-datasets, such as "div2k/bicubic_x4".
        scale: the scaling factor of HR relative to LR.
        min_size: the smallest height and width of an image, in pixels.
        manual_dir: a folder with the four zip files of DIV2K. If None, they are downloaded.

    Raises:
        UserError: most images are smaller than `min_size`; or a zip file is missing, damaged or cannot be downloaded.
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
        raise UserError(f"crop size: {reason} for {what}; choose at most {min(size) // 8 * 8}")


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
        raise UserError(
            f"{damaged}: damaged, its checksum differs from that of DIV2K; download it again: {needed}"
        ) from error
    except (tfds.download.DownloadError, OSError) as error:
        raise UserError(f"DIV2K cannot be downloaded; download {needed} and give their folder") from error


@dataclasses.dataclass(frozen=True)
class Samples:
    """Sample photographs of scikit-image. LR is made by `shrink`.

    Attributes:
        names: the names in `skimage.data`.
        scale: the scaling factor of HR relative to LR.
        piece_size: the longest HR side of a piece in pixels. None: whole photographs.
    """

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
    """Return the sample photographs of scikit-image: three for training, and a held-out one.

    Args:
        scale: the scaling factor of HR relative to LR.
        min_size: the smallest height and width that is needed, in pixels. The held-out photograph is cut into six
            pieces if they are large enough.

    Raises:
        UserError: the smallest photograph is smaller than `min_size`.
    """
    _check_size("the sample photographs", SAMPLE_SIZE, min_size)
    piece_size = SAMPLE_PIECE_SIZE if min_size <= SAMPLE_PIECE_SIZE - 8 else None
    return Source(Samples(("astronaut", "coffee", "rocket"), scale), Samples(("chelsea",), scale, piece_size))
