"""Pictures as they are: any file that people have, read into RGB."""

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

PICTURE_ENDINGS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What the names of pictures end with, in a folder."""

MAX_PIXELS = 250_000_000
"""The most pixels of a picture that is read."""

Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS takes its place

_SRGB = ImageCms.createProfile("sRGB")
_TURNED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange height and width
# What Pillow raises for files that are not what they seem.
_DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, IndexError, KeyError, struct.error, zlib.error)


class PictureError(Exception):
    """A file gives no picture; the text is the reason, in one line."""


def read_size(file: str | BinaryIO) -> tuple[int, int]:
    """Return the height and width that `read_rgb` gives, from the header alone.

    Raises:
        PictureError: the file has no header of a picture, or its picture more than `MAX_PIXELS`.
    """
    with _opened(file) as image:
        exif = Image.Image.getexif(image)  # that of PNG would decode the picture to look behind it
        turned = exif.get(ExifTags.Base.Orientation) in _TURNED
        return image.size if turned else image.size[::-1]


def read_rgb(file: str | BinaryIO) -> np.ndarray:
    """Read a picture as 8-bit sRGB.

    Animations give their first frame. The picture is turned as EXIF says. Of 16 bits a channel, the upper 8 are taken.
    What is transparent is laid over white. Colours of an embedded ICC profile become those of sRGB, with perceptual
    rendering; a profile that is damaged or does not fit is ignored. CMYK without a profile is converted by Pillow.

    Args:
        file: a path, or a file open for reading bytes.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        PictureError: the file cannot be read, is cut short, has more than `MAX_PIXELS`, or pixels of 32 bits.
    """
    with _opened(file) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        profile = image.info.get("icc_profile")
        return np.asarray(_over_white(_in_srgb(_in_8_bits(image), profile)))


@contextlib.contextmanager
def _opened(file: str | BinaryIO) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(
                    f"{image.width}x{image.height} pixels are more than the {MAX_PIXELS:,} that are read"
                )
            yield image
    except PermissionError as error:
        raise PictureError("may not be read") from error
    except _DAMAGE as error:
        empty = isinstance(file, str) and os.path.isfile(file) and not os.path.getsize(file)
        raise PictureError("an empty file" if empty else "damaged, or not a picture") from error


def _in_8_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise PictureError("pixels of 32 bits; save it with 8 or 16 bits a channel")
    return image.convert("L") if image.mode == "1" else image


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture of mode RGB or RGBA."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode in ("P", "PA"):
        image = image.convert(mode)
    with contextlib.suppress(ImageCms.PyCMSError, OSError, TypeError):
        if profile and not _is_srgb(source := ImageCms.ImageCmsProfile(io.BytesIO(profile))):
            colours = image.convert("L") if image.mode == "LA" else image
            converted = ImageCms.profileToProfile(colours, source, _SRGB, outputMode="RGB")
            if mode == "RGBA":
                converted.putalpha(image.convert("RGBA").getchannel("A"))
            return converted
    return image.convert(mode)


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    return ImageCms.getProfileDescription(profile).startswith("sRGB")


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
