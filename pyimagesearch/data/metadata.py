"""The metadata of images: read them, clean them, and write those that a format supports."""

import contextlib
import dataclasses
import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

warnings.filterwarnings("ignore", module=r"PIL\.")  # Pillow warns about unusual files, which is of no use here

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # some programs write texts of several megabytes

DAMAGE = (
    *(OSError, SyntaxError, ValueError, RuntimeError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, ZeroDivisionError, struct.error, zlib.error),
)
"""The exceptions of Pillow for damaged files. Only calls of Pillow may be guarded by them."""

IPTC_TAG, XMP_TAG = 33723, 700
"""Tags of IPTC and XMP in TIFF files."""

_INNER = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_TEXT_TAGS = {
    "Title": ExifTags.Base.ImageDescription,
    "Description": ExifTags.Base.ImageDescription,
    "Author": ExifTags.Base.Artist,
    "Copyright": ExifTags.Base.Copyright,
    "Software": ExifTags.Base.Software,
}
# Tags that describe the image and not its storage.
_DESCRIPTIVE = {
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software),
    *(ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright, ExifTags.Base.Rating),
    *(ExifTags.Base.XPTitle, ExifTags.Base.XPComment, ExifTags.Base.XPAuthor, ExifTags.Base.XPKeywords),
    *(ExifTags.Base.XPSubject,),
}
# Tags of the inner directories that are wrong for a result, or are offsets in the file of the input.
_OF_THE_FILE = {
    *(ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.ExifInteroperabilityOffset),
    *(ExifTags.Base.ComponentsConfiguration, ExifTags.Base.CompressedBitsPerPixel),
}
# Descriptions for programs: the shape, channels and axes of the file of the input.
_FOR_PROGRAMS = re.compile(r'\s*(ImageJ=|<\?xml[^>]*>\s*(<!--.*?-->\s*)*<OME|<OME|\{"shape":)', re.DOTALL)
# Attributes and elements of XMP that are wrong for a result: the size, and references to data in the input file.
_XMP_NAMES = rb"(?:tiff:Image(?:Width|Length)|exif:Pixel[XY]Dimension|xmpNote:HasExtendedXMP|(?:hdrgm|GCamera):\w+)"
_XMP_OF_THE_FILE = re.compile(rb"\s" + _XMP_NAMES + rb"=(?:\"[^\"]*\"|'[^']*')|<(" + _XMP_NAMES + rb")>[^<]*</\1>")
_PNG_SIGNATURE = 8  # bytes
_PNG_COLOUR = (b"cHRM", b"cICP", b"gAMA", b"sRGB")
_LIKE_SRGB = (1, 2, 6, 13)  # codes of ITU-T H.273: BT.709, unspecified, BT.601 and the transfer function of sRGB
_JPEG_MOST = 65_000  # the most bytes of each kind of metadata in JPEG
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404  # the resource of Photoshop with IPTC, in JPEG


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The metadata of an image.

    Attributes:
        icc: the ICC profile of the pixels. None: sRGB or unknown.
        exif: EXIF data without an orientation. They begin with `Exif`.
        xmp: XMP data, which are XML.
        iptc: records of IPTC-IIM.
        text: the keys and texts of PNG. `Comment` is also the comment of JPEG and GIF.
        dpi: the horizontal and vertical resolution in pixels per inch.
        png_colour: the chunks of PNG that define the colour space, by their names. The colour space of HEIF is stored
            in the same form.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    png_colour: Mapping[bytes, bytes] = dataclasses.field(default_factory=dict)


def of_image(image: Image.Image, stream: BinaryIO) -> Metadata:
    """Return the metadata of an image without damaged parts.

    Args:
        image: an image that Pillow has loaded.
        stream: its file, open for reading bytes.
    """
    info, main, inner = image.info, {}, {}
    with contextlib.suppress(*DAMAGE):
        exif = image.getexif()
        main = dict(exif)
        inner = {ifd: exif.get_ifd(ifd) for ifd in _INNER}
    xmp, photoshop = info.get("xmp"), info.get("photoshop")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=clean_exif(main, inner),
        xmp=mended_xmp(xmp),
        iptc=photoshop.get(_IPTC_RESOURCE) if isinstance(photoshop, dict) else None,
        text=_text(image),
        dpi=_dpi(image) or dpi_of_tags(main),
        png_colour=dict(_png_colour(stream)) if image.format == "PNG" else _heif_colour(info),
    )


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution from the header of a file. For JPEG, Pillow replaces a missing one by 72 or by one side."""
    if image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2):
        return None
    return valid_dpi(image.info.get("dpi"))


def _png_colour(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    stream.seek(_PNG_SIGNATURE)
    while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] in _PNG_COLOUR:
            yield head[4:], stream.read(length)
            length = 0
        stream.seek(length + 4, os.SEEK_CUR)


def _heif_colour(info: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return the colour space of a HEIF file without a profile, as the chunk of PNG with the codes of ITU-T H.273."""
    nclx = info.get("nclx_profile")
    if not nclx or info.get("icc_profile"):
        return {}
    primaries, transfer = nclx["color_primaries"], nclx["transfer_characteristics"]
    if primaries in _LIKE_SRGB and transfer in _LIKE_SRGB:
        return {}
    return {b"cICP": bytes([primaries, transfer, 0, 1])}  # RGB with full range


def _text(image: Image.Image) -> dict[str, str]:
    text = getattr(image, "text", None) if image.format == "PNG" else None
    text = {
        key: str(value)
        for key, value in (text or {}).items()
        if not key.startswith(("XML:", "Raw profile type "))  # XMP, and EXIF and IPTC in the form of ImageMagick
    }
    comment = image.info.get("comment")
    if comment and image.format in ("JPEG", "MPO", "GIF"):
        text["Comment"] = decoded(comment) if isinstance(comment, bytes) else str(comment)
    return text


def decoded(text: bytes) -> str:
    """Decode text from UTF-8, or from Latin-1 if it is not UTF-8. Zeros at the end are removed."""
    text = text.rstrip(b"\0")
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def dpi_of_tags(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Return the resolution from tags of EXIF or TIFF, in pixels per inch, or None.

    Args:
        tags: the values of tags.

    Returns:
        The horizontal and the vertical resolution.
    """
    sides = tags.get(ExifTags.Base.XResolution), tags.get(ExifTags.Base.YResolution)
    factor = {2: 1.0, 3: 2.54}.get(tags.get(ExifTags.Base.ResolutionUnit, 2))
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        return valid_dpi(tuple(float(side) * factor for side in sides))
    return None


def valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """Return a resolution as two floats, or None if it is invalid. 1 is invalid: it means "unknown" in many files."""
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError):
        across, down = map(float, dpi)
        if all(math.isfinite(side) and 1 < side < 65_536 for side in (across, down)):
            return across, down
    return None


def clean_exif(main: Mapping[int, Any], inner: Mapping[int, Mapping[int, Any]]) -> bytes | None:
    """Make valid EXIF data from the tags that describe an image. Other tags and invalid values are left out.

    Args:
        main: the values of the main directory by tag.
        inner: the values of the directories of EXIF and GPS, by the tag of the directory.

    Returns:
        EXIF data, or None if no tag is left.
    """
    main = {tag: value for tag, value in main.items() if tag in _DESCRIPTIVE and not _is_for_programs(value)}
    inner = {ifd: {tag: value for tag, value in inner[ifd].items() if tag not in _OF_THE_FILE} for ifd in inner}
    with contextlib.suppress(*DAMAGE):
        clean = _made_of(main, inner)
        data = clean.tobytes()
        Image.Exif().load(data)
        return data if len(clean) or any(clean.get_ifd(ifd) for ifd in _INNER) else None
    return None


def _made_of(main: Mapping[int, Any], inner: Mapping[int, Mapping[int, Any]]) -> Image.Exif:
    exif = Image.Exif()
    exif.update(_writable(main, None))
    for ifd, values in inner.items():
        if values := _writable(values, ifd):
            exif.get_ifd(ifd).update(values)
    return exif


def _is_for_programs(value: Any) -> bool:
    return isinstance(value, str) and bool(_FOR_PROGRAMS.match(value))


def _writable(values: Mapping[int, Any], group: int | None) -> dict[int, Any]:
    """Return the values of a directory that can be written. Text is returned as the bytes that were read."""
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


def mended_xmp(xmp: Any) -> bytes | None:
    """Return XMP with an upright orientation, without the size of the image and references to data in its file."""
    if not isinstance(xmp, bytes):
        return None
    upright = re.sub(rb"(tiff:Orientation(?:=[\"']|>))\d", rb"\g<1>1", xmp)
    return _XMP_OF_THE_FILE.sub(b"", upright).rstrip(b"\0")


def fitting_profile(icc: bytes | None, channels: int) -> bytes | None:
    """Return an ICC profile if it is complete and fits the pixels, otherwise None.

    Args:
        icc: the profile.
        channels: the number of channels of the pixels: 1 or 2 for grey, 3 or 4 for RGB.
    """
    space = b"GRAY" if channels < 3 else b"RGB "
    if not icc or len(icc) < 132 or icc[36:40] != b"acsp" or icc[16:20] != space:
        return None
    return icc if int.from_bytes(icc[:4], "big") <= len(icc) else None


def exif_of(metadata: Metadata, text: bool = True) -> Image.Exif:
    """Return the EXIF data of a result, with its resolution.

    Args:
        metadata: the metadata.
        text: whether to add texts of PNG that have a tag in EXIF.
    """
    exif = Image.Exif()
    if metadata.exif:
        exif.load(metadata.exif)
    inner = {ifd: exif.get_ifd(ifd) for ifd in _INNER if ifd in exif}
    main = {tag: exif[tag] for tag in exif if tag not in _INNER}
    if text:
        texts = {tag: metadata.text[key].encode() for key, tag in _TEXT_TAGS.items() if key in metadata.text}
        main = texts | main
    if metadata.dpi:
        main[ExifTags.Base.XResolution], main[ExifTags.Base.YResolution] = metadata.dpi
        main[ExifTags.Base.ResolutionUnit] = 2
    return _made_of(main, inner)


def save_options(metadata: Metadata, form: str) -> dict[str, Any]:
    """Return the arguments of `Image.save` that write metadata.

    Args:
        metadata: the metadata.
        form: "png", "jpeg" or "webp". In JPEG, metadata of more than 65,000 bytes of one kind are left out.
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
    """Return the chunks of PNG with the colour space, texts and XMP."""
    chunks = PngImagePlugin.PngInfo()
    for name, data in metadata.png_colour.items():
        chunks.add(name, data)
    for key, value in metadata.text.items():
        with contextlib.suppress(*DAMAGE):  # a key that PNG does not allow
            chunks.add_text(key, value, zip=len(value) > 1000)
    if metadata.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode(errors="replace"))
    return chunks


def _photoshop(iptc: bytes | None) -> bytes | None:
    """Return the segment of JPEG with records of IPTC, or None if there are no records or too many bytes."""
    if not iptc or len(iptc) > _JPEG_MOST:
        return None
    resource = b"8BIM" + struct.pack(">H2sI", _IPTC_RESOURCE, b"\0\0", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return b"\xff\xed" + struct.pack(">H", 2 + len(_PHOTOSHOP) + len(resource)) + _PHOTOSHOP + resource
