"""What an image carries besides its pixels, and the part of it that each format has a place for."""

import contextlib
import dataclasses
import math
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

warnings.filterwarnings("ignore", module=r"PIL\.")  # what Pillow finds odd in files is theirs, not ours

DAMAGE = (
    *(OSError, SyntaxError, ValueError, RuntimeError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, ZeroDivisionError, struct.error, zlib.error),
)
"""What Pillow raises for files that are not what they seem: only calls of Pillow are to be guarded by it."""

IPTC_TAG, XMP_TAG = 33723, 700
"""Tags of TIFF."""

_INNER = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_TEXT_TAGS = {
    "Description": ExifTags.Base.ImageDescription,
    "Title": ExifTags.Base.ImageDescription,
    "Author": ExifTags.Base.Artist,
    "Copyright": ExifTags.Base.Copyright,
    "Software": ExifTags.Base.Software,
}
# Tags that tell about the image, not about how it is stored.
_DESCRIPTIVE = {
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software),
    *(ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright, ExifTags.Base.Rating),
    *(ExifTags.Base.XPTitle, ExifTags.Base.XPComment, ExifTags.Base.XPAuthor, ExifTags.Base.XPKeywords),
    *(ExifTags.Base.XPSubject,),
}
# Tags of the inner directories that no longer hold in a result, or point to places in the file they come from.
_OF_THE_FILE = {
    *(ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.ExifInteroperabilityOffset),
    *(ExifTags.Base.ComponentsConfiguration, ExifTags.Base.CompressedBitsPerPixel),
}
# Descriptions that programs write for themselves: shape, channels and axes of the file that they are in.
_FOR_PROGRAMS = re.compile(r'\s*(ImageJ=|<\?xml[^>]*>\s*(<!--.*?-->\s*)*<OME|<OME|\{"shape":)', re.DOTALL)
_JPEG_MOST = 65_000  # bytes that JPEG has room for, of each kind
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404  # of Photoshop, in JPEG


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What an image carries.

    `icc` is the colour profile that its pixels are in, None for sRGB or unknown. `exif`, without an orientation,
    begins with `Exif`; `xmp` is XML; `iptc` are records of IPTC-IIM. `text` are PNG's keys and texts, of which
    `Comment` is that of JPEG and GIF, too. `dpi` is the resolution, across and down, in pixels an inch.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dpi: tuple[float, float] | None = None


def of_image(image: Image.Image) -> Metadata:
    """Return what an image that Pillow has loaded carries; what is damaged is left out."""
    info, main, inner = image.info, {}, {}
    with contextlib.suppress(*DAMAGE):
        exif = image.getexif()
        main = dict(exif)
        inner = {ifd: exif.get_ifd(ifd) for ifd in _INNER}
    xmp, photoshop = info.get("xmp"), info.get("photoshop")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=clean_exif(main, inner),
        xmp=without_orientation(xmp) if isinstance(xmp, bytes) else None,
        iptc=photoshop.get(_IPTC_RESOURCE) if isinstance(photoshop, dict) else None,
        text=_text(image),
        dpi=valid_dpi(info.get("dpi")) or dpi_of_tags(main),
    )


def _text(image: Image.Image) -> dict[str, str]:
    text = getattr(image, "text", None) if image.format == "PNG" else None
    text = {
        key: str(value)
        for key, value in (text or {}).items()
        if not key.startswith(("XML:", "Raw profile type "))  # XMP, and EXIF and IPTC as ImageMagick hides them
    }
    comment = image.info.get("comment")
    if comment and image.format in ("JPEG", "MPO", "GIF"):
        text["Comment"] = decoded(comment) if isinstance(comment, bytes) else str(comment)
    return text


def decoded(text: bytes) -> str:
    """Return text that is UTF-8 or else Latin-1, without zeros at its end."""
    text = text.rstrip(b"\0")
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def dpi_of_tags(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Return the resolution that EXIF's or TIFF's tags tell, in pixels an inch."""
    sides = tags.get(ExifTags.Base.XResolution), tags.get(ExifTags.Base.YResolution)
    factor = {2: 1.0, 3: 2.54}.get(tags.get(ExifTags.Base.ResolutionUnit, 2))
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        return valid_dpi(tuple(float(side) * factor for side in sides))
    return None


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """Return a resolution if it can be one; 1 pixel an inch, which files have that know none, is none."""
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        across, down = map(float, dpi)
        if all(math.isfinite(side) and 1 < side < 65_536 for side in (across, down)):
            return across, down
    return None


def clean_exif(main: Mapping[int, Any], inner: Mapping[int, Mapping[int, Any]]) -> bytes | None:
    """Make valid EXIF of the tags that describe an image, leaving out the others and what cannot be written.

    Args:
        main: values by tag.
        inner: those of the directories of EXIF and of GPS, by the tag of the directory.

    Returns:
        None if nothing is left.
    """
    kept = {tag: value for tag, value in main.items() if tag in _DESCRIPTIVE and not _is_for_programs(value)}
    clean = Image.Exif()
    for tag, value in _writable(kept, None).items():
        clean[tag] = value
    for ifd, values in inner.items():
        kept = {tag: value for tag, value in values.items() if tag not in _OF_THE_FILE}
        if kept := _writable(kept, ifd):
            clean.get_ifd(ifd).update(kept)
    with contextlib.suppress(*DAMAGE):
        data = clean.tobytes()
        Image.Exif().load(data)
        return data if len(clean) or any(clean.get_ifd(ifd) for ifd in _INNER) else None
    return None


def _is_for_programs(value: Any) -> bool:
    return isinstance(value, str) and bool(_FOR_PROGRAMS.match(value))


def _writable(values: Mapping[int, Any], group: int | None) -> dict[int, Any]:
    """Return those values of a directory that can be written, their text as the bytes that it was read from."""
    writable = {}
    for tag, value in values.items():
        if isinstance(value, str) and not value.isascii():  # Pillow reads Latin-1 and writes ASCII
            value = value.encode("latin-1", "replace")
        with contextlib.suppress(*DAMAGE):
            directory = ImageFileDirectory_v2(group=group)
            directory[tag] = value
            directory.tobytes()
            writable[tag] = value
    return writable


def without_orientation(xmp: bytes) -> bytes:
    """Return XMP that says that the image is upright."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))\d", rb"\g<1>1", xmp)


def fitting_profile(icc: bytes | None, channels: int) -> bytes | None:
    """Return a colour profile if it is whole and of the kind of pixels with that many channels, otherwise None."""
    space = b"GRAY" if channels < 3 else b"RGB "
    if not icc or len(icc) < 132 or icc[36:40] != b"acsp" or icc[16:20] != space:
        return None
    return icc if int.from_bytes(icc[:4], "big") <= len(icc) else None


def exif_of(metadata: Metadata, text: bool = True) -> Image.Exif:
    """Return the EXIF of a result, with the resolution and, if `text`, with what PNG's texts tell."""
    exif = Image.Exif()
    if metadata.exif:
        exif.load(metadata.exif)
    if text:
        for key, tag in _TEXT_TAGS.items():
            if key in metadata.text and tag not in exif:
                exif[tag] = metadata.text[key].encode()
    if metadata.dpi:
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = metadata.dpi
        exif[ExifTags.Base.ResolutionUnit] = 2
    return exif


def save_options(metadata: Metadata, form: str) -> dict[str, Any]:
    """Return what `Image.save` is to be given, so that a PNG, JPEG or WebP file carries all that it can.

    In JPEG, what has more than 65,000 bytes is left out.
    """
    options = {"icc_profile": metadata.icc, "dpi": metadata.dpi}
    if form == "png":
        exif = metadata.exif and exif_of(metadata, text=False).tobytes()
        options |= {"exif": exif, "pnginfo": png_chunks(metadata)}
    else:
        exif = exif_of(metadata)
        options |= {"exif": exif.tobytes() if len(exif) or metadata.exif else None, "xmp": metadata.xmp}
    if form == "jpeg":
        comment = metadata.text.get("Comment", "").encode()
        options |= {"extra": _photoshop(metadata.iptc), "comment": comment}
        options |= {name: None for name in ("exif", "xmp", "comment") if len(options[name] or b"") > _JPEG_MOST}
    return {name: value for name, value in options.items() if value}


def png_chunks(metadata: Metadata) -> PngImagePlugin.PngInfo:
    """Return the chunks of PNG with text and XMP."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in metadata.text.items():
        with contextlib.suppress(*DAMAGE):  # a key that PNG does not allow
            chunks.add_text(key, value, zip=len(value) > 1000)
    if metadata.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode(errors="replace"))
    return chunks


def _photoshop(iptc: bytes | None) -> bytes | None:
    """Return the segment of JPEG that holds records of IPTC, None if there are none or too many."""
    if not iptc or len(iptc) > _JPEG_MOST:
        return None
    resource = b"8BIM" + struct.pack(">H2sI", _IPTC_RESOURCE, b"\0\0", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return b"\xff\xed" + struct.pack(">H", 2 + len(_PHOTOSHOP) + len(resource)) + _PHOTOSHOP + resource
