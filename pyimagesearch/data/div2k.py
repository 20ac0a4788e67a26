"""DIV2K, prepared by TensorFlow Datasets."""

import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from typing import Self

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.data.pairs import Pair
from pyimagesearch.data.sources import Skipped, Source, check_size, too_small
from pyimagesearch.data.tfrecords import dataset_options
from pyimagesearch.errors import UserError

SIZE = (1404, 2040)
"""The approximate height and width of an image of DIV2K in pixels."""


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
        return [SIZE] * (self.last - self.first)

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


def source(dataset: str, scale: int, min_size: int, manual_dir: str | None = None) -> Source:
    """Return DIV2K (Agustsson and Timofte, 2017). In the first call, tensorflow-datasets prepares it.

    Args:
        dataset: its name in tensorflow-datasets, such as "div2k/bicubic_x4".
        scale: the scaling factor of HR relative to LR.
        min_size: the smallest height and width of an image, in pixels.
        manual_dir: a folder with the four zip files of DIV2K. If None, they are downloaded.

    Raises:
        UserError: most images are smaller than `min_size`; or a zip file is missing, damaged or cannot be downloaded.
    """
    check_size("most photographs of DIV2K", SIZE, min_size)
    builder = tfds.builder(dataset)
    if not builder.is_prepared():
        _prepare(builder, manual_dir)
    splits = (
        Div2k(str(builder.data_path), split, scale, min_size, 0, builder.info.splits[split].num_examples)
        for split in ("train", "validation")
    )
    return Source(*splits)


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
