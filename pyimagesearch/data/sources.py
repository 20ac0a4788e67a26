"""Sources of pairs of low-resolution and high-resolution images, and the sample photographs."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self

import skimage.data

from pyimagesearch.data.pairs import Pair, cut, make_pair
from pyimagesearch.errors import UserError

SAMPLE_PIECE_SIZE = 152
"""The longest side of held-out pieces of the sample photographs in pixels. No side is more than 8 pixels shorter."""

SAMPLE_SIZE = (300, 451)
"""The height and width of the smallest sample photograph in pixels. It is the held-out one."""


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


def check_size(what: str, size: tuple[int, int], min_size: int) -> None:
    """Check that photographs are at least as large as the crops.

    Args:
        what: the photographs, for the message.
        size: the height and width of the smallest one, in pixels.
        min_size: the smallest height and width that is needed, in pixels.

    Raises:
        UserError: they are too small.
    """
    if reason := too_small(*size, min_size):
        raise UserError(f"crop size: {reason} for {what}; choose at most {min(size) // 8 * 8}")


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
    check_size("the sample photographs", SAMPLE_SIZE, min_size)
    piece_size = SAMPLE_PIECE_SIZE if min_size <= SAMPLE_PIECE_SIZE - 8 else None
    return Source(Samples(("astronaut", "coffee", "rocket"), scale), Samples(("chelsea",), scale, piece_size))
