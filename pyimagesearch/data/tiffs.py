"""Read all kinds of TIFF files with libvips, and write TIFF files with 8 or 16 bits per channel."""

import contextlib
import logging
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyvips
from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pyimagesearch.data.metadata import (
    DAMAGE,
    IPTC_TAG,
    XMP_TAG,
    Metadata,
    clean_exif,
    dpi_of_tags,
    exif_of,
    mended_xmp,
)

logging.getLogger("pyvips").setLevel(logging.CRITICAL)  # it warns about each unknown tag
pyvips.cache_set_max(0)  # the cache would keep the files of the last hundred calls in memory

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANES, _EXTRA = 273, 277, 278, 279, 284, 338
_LARGEST_VALUE, _ICC = 281, 34675
_ALPHA = (1, 2)  # kinds of extra samples: with premultiplied alpha or not; libvips returns the latter
_WHITE_IS_0, _BLACK_IS_0, _RGB, _CIELAB = 0, 1, 2, 8
_KINDS = {"char": "signed", "short": "signed", "int": "signed", "uint": "unsigned"} | dict.fromkeys(
    ("float", "double"), "floating point"
)  # of samples, by the names of libvips
_STRIP = 2**20  # bytes
_LARGEST_CLASSIC = 4_000_000_000  # bytes: larger files need the 64-bit offsets of BigTIFF


class TiffError(Exception):
    """A TIFF file cannot be read as an image. The text is the reason, in one line."""


class Header(NamedTuple):
    """The header of a TIFF file.

    Attributes:
        tags: the values of the tags of the first image.
        inner: the values of the tags of its EXIF and GPS directories, by the tag of the directory.
    """

    tags: dict[int, Any]
    inner: dict[int, dict[int, Any]]

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the stored image in pixels."""
        return self.tags[_HEIGHT], self.tags[_WIDTH]

    @property
    def orientation(self) -> int:
        """The EXIF orientation."""
        return self.tags.get(ExifTags.Base.Orientation, 1)

    @property
    def metadata(self) -> Metadata:
        """The metadata of the image."""
        tags = self.tags
        iptc = tags.get(IPTC_TAG)
        return Metadata(
            icc=tags.get(_ICC),
            exif=clean_exif(tags, self.inner),
            xmp=mended_xmp(tags.get(XMP_TAG)),
            iptc=iptc if isinstance(iptc, bytes) else None,
            dpi=dpi_of_tags(tags),
        )


def is_tiff(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_header(file: BinaryIO) -> Header:
    """Read the tags of the first image.

    Args:
        file: a file open for reading bytes, at its beginning.

    Raises:
        TiffError: the header is damaged.
    """
    try:
        head = file.read(16)
        directory = ImageFileDirectory_v2(head if 43 in head[2:4] else head[:8])
        tags = _directory(file, head, directory.next, None)
        header = Header(tags, {})
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if ifd in tags:
                with contextlib.suppress(*DAMAGE):
                    header.inner[ifd] = _directory(file, head, tags[ifd], ifd)
        if not all(isinstance(side, int) and side > 0 for side in header.size):
            raise ValueError("no size")
    except DAMAGE as error:
        raise TiffError("damaged, or not an image") from error
    return header


def _directory(file: BinaryIO, head: bytes, offset: int, group: int | None) -> dict[int, Any]:
    directory = ImageFileDirectory_v2(head if 43 in head[2:4] else head[:8], group=group)
    file.seek(offset)
    directory.load(file)
    values = {}
    for tag in list(directory):
        with contextlib.suppress(*DAMAGE):
            value = directory[tag]
            values[tag] = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    return values


def _numbers(tags: dict[int, Any], tag: int) -> tuple[Any, ...]:
    """Return the values of a tag, which can be missing."""
    value = tags.get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def read_pixels(file: BinaryIO, header: Header) -> tuple[np.ndarray, bool]:
    """Read the first image, with any compression, planes, byte order and kind of TIFF.

    Args:
        file: a file open for reading bytes.
        header: from `read_header`.

    Returns:
        The stored pixels and whether they are CMYK. The pixels are uint8 or uint16 [H, W, C]: C is 1 for grey, 2 for
        grey with transparency, 3 for RGB, 4 for RGB with transparency or for CMYK. Alpha is not premultiplied, and
        white is the largest value.

    Raises:
        TiffError: the file is incomplete or of an unsupported kind.
    """
    if header.tags.get(_PHOTOMETRIC) == _CIELAB:
        raise TiffError("CIELAB colours are not supported; save it as RGB")
    file.seek(0)
    try:
        source = pyvips.Source.new_from_memory(file.read())
        image = pyvips.Image.new_from_source(source, "", fail_on="error")
        if image.format not in ("uchar", "ushort"):
            bits = max(_numbers(header.tags, _BITS), default=1)
            kind = _KINDS.get(image.format, image.format)
            raise TiffError(f"pixels of {bits} bits, {kind}; save it with 8 or 16 unsigned bits per channel")
        data = image.write_to_memory()
    except pyvips.Error as error:
        raise TiffError(f"damaged, or not an image of a supported format ({_said(error)})") from error
    dtype = np.uint8 if image.format == "uchar" else np.uint16
    pixels = np.frombuffer(data, dtype).reshape(image.height, image.width, image.bands)
    if image.interpretation == "cmyk":
        return pixels[..., :4], True
    return _in_full_range(pixels[..., : _channels(header, image)], header), False


def _said(error: pyvips.Error) -> str:
    """Return the first reason in an error of libvips."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line.split(": ", 1)[1] for line in lines if ": " in line), "unknown to libvips")


def _channels(header: Header, image: pyvips.Image) -> int:
    """Return the number of channels that are grey, RGB or transparency. Other channels have no defined meaning."""
    colours = 1 if image.interpretation in ("b-w", "grey16") else 3
    extra = _numbers(header.tags, _EXTRA)
    transparent = image.bands > colours and (not extra or extra[0] in _ALPHA)
    return min(image.bands, colours + transparent)


def _in_full_range(pixels: np.ndarray, header: Header) -> np.ndarray:
    """Scale pixels to the full range of their dtype if the header says that fewer bits are used, such as 12 of 16."""
    stated = max(_numbers(header.tags, _LARGEST_VALUE), default=0)
    full = np.iinfo(pixels.dtype).max
    whole_bits = isinstance(stated, int) and 255 < stated < full and not stated & (stated + 1)
    if pixels.dtype != np.uint16 or not whole_bits or pixels.max() > stated:
        return pixels  # the header has the largest value of this image, or nothing
    return np.round(pixels * (full / stated)).astype(np.uint16)


def write(path: str, pixels: np.ndarray, metadata: Metadata) -> None:
    """Write a TIFF file; if it is larger than 4 GB, as BigTIFF.

    Args:
        path: the path of the file.
        pixels: uint8 or uint16 [H, W, C]. C is 1 for grey, 2 for grey with transparency, 3 for RGB, 4 for RGB with
            transparency.
        metadata: the metadata.
    """
    large = pixels.nbytes > _LARGEST_CLASSIC
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) if large else b"II*\0" + struct.pack("<L", 8)
    directory = ImageFileDirectory_v2(head)
    _describe(directory, pixels)
    exif = exif_of(metadata)
    for tag in exif:
        directory[tag] = exif[tag]
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if inner := exif.get_ifd(tag):
            directory[tag] = inner
    for tag, data in ((XMP_TAG, metadata.xmp), (IPTC_TAG, metadata.iptc), (_ICC, metadata.icc)):
        if data:
            directory.tagtype[tag] = 7
            directory[tag] = data
    with open(path, "wb") as file:
        directory.save(file)
        pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tofile(file)


def _describe(directory: ImageFileDirectory_v2, pixels: np.ndarray) -> None:
    """Add the tags that describe the storage of the pixels to a directory."""
    height, width, channels = pixels.shape
    rows = max(1, min(height, _STRIP // pixels[0].nbytes))
    starts = range(0, height, rows)
    counts = tuple(pixels[0].nbytes * (min(start + rows, height) - start) for start in starts)
    long = 16 if pixels.nbytes > _LARGEST_CLASSIC else 4
    for tag, kind, value in (
        (_WIDTH, 4, width),
        (_HEIGHT, 4, height),
        (_BITS, 3, (8 * pixels.itemsize,) * channels),
        (_COMPRESSION, 3, 1),
        (_PHOTOMETRIC, 3, _BLACK_IS_0 if channels < 3 else _RGB),
        (_OFFSETS, long, tuple(pixels[0].nbytes * start for start in starts)),
        (_SAMPLES, 3, channels),
        (_ROWS, 4, rows),
        (_COUNTS, long, counts),
        (_PLANES, 3, 1),
    ):
        directory.tagtype[tag] = kind
        directory[tag] = value
    if channels % 2 == 0:
        directory.tagtype[_EXTRA] = 3
        directory[_EXTRA] = 2
