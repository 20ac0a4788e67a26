"""Pictures as they are: any file that people have, read into RGB or with all that it carries, and written."""

import contextlib
import dataclasses
import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

PICTURE_ENDINGS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What the names of pictures end with, in a folder."""

MAX_PIXELS = 250_000_000
"""The most pixels of a picture that is read."""

Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS takes its place

_SRGB = ImageCms.createProfile("sRGB")
_TURNED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange height and width
# Tags of EXIF that tell about the picture, not about how it is stored.
_DESCRIPTIVE = {
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software),
    *(ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright, ExifTags.Base.Rating),
    *(ExifTags.Base.XPTitle, ExifTags.Base.XPComment, ExifTags.Base.XPAuthor, ExifTags.Base.XPKeywords),
    *(ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo),
}
_BITS_TAG, _PLANES_TAG, _XMP_TAG = 258, 284, 700  # of TIFF
_JPEG_METADATA = 65_000  # bytes that JPEG has room for, of each kind
# What Pillow raises for files that are not what they seem.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, RuntimeError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, ZeroDivisionError, struct.error, zlib.error),
)


FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
"""The formats that `write_picture` writes, and what their names end with."""

_LONGEST = {"jpeg": 65_500, "webp": 16_383}  # pixels of a side


class PictureError(Exception):
    """A file gives no picture; the text is the reason, in one line."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture and what it carries.

    `pixels` are uint8 or uint16 [H, W, C]: C is 1 for grey, 2 for grey with transparency, 3 for RGB, 4 for RGB with
    transparency. `icc` is the colour profile that they are in, None for sRGB or unknown; `exif`, without an
    orientation, and `xmp` are metadata.
    """

    pixels: np.ndarray
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None


def read_size(file: str | BinaryIO) -> tuple[int, int]:
    """Return the height and width that `read_rgb` gives, from the header alone.

    Raises:
        PictureError: the file has no header of a picture, or its picture more than `MAX_PIXELS`.
    """
    with _opened(file) as image:
        exif = Image.Image.getexif(image)  # that of PNG would decode the picture to look behind it
        turned = _orientation(exif) in _TURNED and image.format != "TIFF"  # of which Pillow tells the size when turned
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
        rgb = _over_white(_in_srgb(_in_8_bits(image), image.info.get("icc_profile")))
        return _upright(np.asarray(rgb), _orientation(image.getexif()))


def read_picture(path: str, limited: bool = True) -> Picture:
    """Read a picture with all that it carries.

    Animations give their first frame. The picture is turned as EXIF says. Grey, transparency and 16 bits a channel
    stay; palettes become RGB; CMYK and other colours become sRGB, as for `read_rgb`. Metadata that are damaged are left
    out.

    Args:
        path: of the file.
        limited: whether more than `MAX_PIXELS` are refused.

    Raises:
        PictureError: as for `read_rgb`.
    """
    with _opened(path, limited) as image:
        deep = image.mode in ("RGB", "RGBA", "LA") and _has_16_bits(image)
        orientation = _orientation(image.getexif())
        # Before loading, which closes a TIFF file, or turns it unless the orientation has gone.
        described = _descriptive(image.getexif())
        image.load()
        form, profile, xmp = image.format, image.info.get("icc_profile"), image.info.get("xmp")
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") and not image.mode.startswith("I;16"):
            image, profile = _in_srgb(_in_8_bits(image), profile), None
        pixels = _upright(_read_deep(path, form) if deep else _channels(image), orientation)
        return Picture(np.ascontiguousarray(pixels), profile, described, xmp and _without_orientation(xmp))


def _has_16_bits(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return 16 in image.tag_v2.get(_BITS_TAG, ())
    return any(";16" in str(tile[3]) for tile in image.tile)


def _channels(image: Image.Image) -> np.ndarray:
    """Return the pixels [H, W, C] of a picture that is grey, of RGB or of a palette."""
    transparent = image.has_transparency_data
    if image.mode in ("P", "PA", "RGB", "RGBA"):
        image = image.convert("RGBA" if transparent else "RGB")
    elif not image.mode.startswith("I;16"):
        image = image.convert("LA" if transparent else "L")
    elif image.mode != "I;16":
        return np.asarray(image).astype(np.uint16)[..., None]  # of another byte order
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _read_deep(path: str, form: str) -> np.ndarray:
    """Return the pixels, as they are stored, of a picture with 16 bits in each of several channels: Pillow reads 8."""
    if form == "TIFF":
        return tifffile.imread(path, key=0)
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise PictureError("damaged, or not a picture")
    return pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]


def _orientation(exif: Image.Exif) -> int:
    return exif.get(ExifTags.Base.Orientation, 1)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels [H, W, C] as EXIF's orientation says."""
    if orientation in _TURNED:
        pixels = pixels.swapaxes(0, 1)
    mirrored, flipped = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return pixels[:: -1 if flipped else 1, :: -1 if mirrored else 1]


def _descriptive(exif: Image.Exif) -> bytes | None:
    """Remove from metadata what is of the file, and return the rest."""
    for tag in set(exif) - _DESCRIPTIVE:
        del exif[tag]
    if not len(exif):
        return None
    with contextlib.suppress(*_DAMAGE):
        for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight):
            exif.get_ifd(ExifTags.IFD.Exif).pop(tag, None)
        return exif.tobytes()
    return None


def _without_orientation(xmp: bytes) -> bytes:
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))\d", rb"\g<1>1", xmp)


def write_picture(path: str, picture: Picture, form: str) -> None:
    """Write a picture with all that it carries.

    JPEG and WebP have 8 bits a channel, and in JPEG what is transparent is laid over white, and metadata of more than
    65,000 bytes are left out. TIFF with 16 bits in several channels has the colour profile, but no other metadata.

    Args:
        path: where to.
        picture: the picture.
        form: one of `FORMATS`.

    Raises:
        PictureError: it is too large for that format.
        OSError: it cannot be written.
    """
    check_size(picture.pixels.shape[:2], form)
    pixels = picture.pixels
    if pixels.dtype == np.uint16 and form in ("png", "tiff") and pixels.shape[-1] > 1:
        _write_deep(path, picture, form)
        return
    if pixels.dtype == np.uint16 and form in ("jpeg", "webp"):
        pixels = (pixels >> 8).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if form == "jpeg" and image.has_transparency_data:
        image = _over_white(image.convert("RGBA"))
    image.save(path, form, **_carried(picture, form), **({"quality": 95} if form in ("jpeg", "webp") else {}))


def check_size(size: tuple[int, int], form: str) -> None:
    """Raise a PictureError if a picture of this height and width is too large for one of `FORMATS`."""
    if max(size) > (longest := _LONGEST.get(form, max(size))):
        raise PictureError(f"becomes {size[1]}x{size[0]} pixels, {form} has {longest} at most; give another --format")


def _carried(picture: Picture, form: str) -> dict[str, Any]:
    if form == "jpeg":
        small = {name: data for name in ("exif", "xmp") if len(data := getattr(picture, name) or b"") < _JPEG_METADATA}
        picture = Picture(picture.pixels, picture.icc, small.get("exif"), small.get("xmp"))
    carried = {"icc_profile": picture.icc, "exif": picture.exif}
    if picture.xmp and form in ("jpeg", "webp"):
        carried["xmp"] = picture.xmp
    elif picture.xmp and form == "png":
        carried["pnginfo"] = PngImagePlugin.PngInfo()
        carried["pnginfo"].add_itxt("XML:com.adobe.xmp", picture.xmp.decode(errors="replace"))
    elif picture.xmp:
        exif = Image.Exif()
        exif.load(picture.exif)
        exif[_XMP_TAG] = picture.xmp
        carried["exif"] = exif.tobytes()
    return {name: value for name, value in carried.items() if value}


def _write_deep(path: str, picture: Picture, form: str) -> None:
    pixels = picture.pixels
    if pixels.shape[-1] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if form == "tiff":
        extra = {"extrasamples": ["unassalpha"]} if pixels.shape[-1] == 4 else {}
        tifffile.imwrite(path, pixels, photometric="rgb", iccprofile=picture.icc, metadata=None, **extra)
        return
    carried = {
        cv2.IMAGE_METADATA_EXIF: picture.exif and picture.exif.removeprefix(b"Exif\0\0"),
        cv2.IMAGE_METADATA_XMP: picture.xmp,
        cv2.IMAGE_METADATA_ICCP: picture.icc,
    }
    carried = {kind: np.frombuffer(data, np.uint8) for kind, data in carried.items() if data}
    bgr = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]])
    done, encoded = cv2.imencodeWithMetadata(".png", bgr, list(carried), list(carried.values()))
    if not done:
        raise OSError("OpenCV cannot encode it")
    encoded.tofile(path)


@contextlib.contextmanager
def _opened(file: str | BinaryIO, limited: bool = True) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            if limited and image.width * image.height > MAX_PIXELS:
                raise PictureError(
                    f"{image.width}x{image.height} pixels are more than the {MAX_PIXELS:,} that are read"
                )
            if image.format == "TIFF" and image.tag_v2.get(_PLANES_TAG) == 2 and _has_16_bits(image):
                raise PictureError("16 bits in separate planes; save it with interleaved channels")
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
