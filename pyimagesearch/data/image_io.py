"""Read and write image files of many formats, as 8-bit RGB or with their bit depth, transparency and metadata."""

import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import pillow_heif
import pyvips
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from pyimagesearch.data import metadata, tiffs
from pyimagesearch.data.metadata import DAMAGE, Metadata
from pyimagesearch.metrics import to_integers

IMAGE_ENDINGS = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""The endings of image files in a folder. JPEG XL is among them so that its files are named in an error."""

MAX_PIXELS = 250_000_000
"""The largest number of pixels of an image that is read."""

Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked instead

pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

# For others, Pillow can start programs: for EPS, Ghostscript, which runs what the file says.
_READ = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "WEBP")

_SRGB = ImageCms.createProfile("sRGB")
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN, _START_OF_PROGRESSIVE = b"\xff\xda", b"\xff\xc2"
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")  # the first bytes of its files, without and with a container
_PNG_HEADER = 33  # bytes of the signature and the first chunk of PNG; metadata can follow
_LONGEST = {"jpeg": 65_500, "webp": 16_383}  # the longest side in pixels
_ENCODING = {  # PNG: 2.6 times as fast as Pillow's default of 6, and 1 % larger
    "png": {"compress_level": 4},
    "jpeg": {"quality": 95},
    "webp": {"quality": 95},
}

FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
"""The formats that `write_image` writes, with the endings of their files."""

ENDING_FORMATS = {**{ending: form for form, ending in FORMATS.items()}, ".jpeg": "jpeg", ".tiff": "tiff"}
"""The format for each ending of the name of a result."""


class ImageError(Exception):
    """A file cannot be read or written as an image. The text is the reason, in one line."""


@dataclasses.dataclass(frozen=True)
class LoadedImage:
    """The pixels of an image file and its metadata.

    Attributes:
        pixels: uint8 or uint16 [H, W, C], upright, in the colour space of `metadata.icc`. C is 1 for grey, 2 for grey
            with transparency, 3 for RGB and 4 for RGB with transparency.
        metadata: the metadata.
    """

    pixels: np.ndarray
    metadata: Metadata = Metadata()


def read_size(file: str | BinaryIO) -> tuple[int, int]:
    """Return the height and width of the result of `read_image` in pixels. Only the header of the file is read.

    Args:
        file: a path, or a file open for reading bytes.

    Raises:
        ImageError: the file has no valid header, or its image has more than `MAX_PIXELS`.
    """
    with _opened(file) as (stream, is_tiff):
        if is_tiff:
            header = _tiff_header(stream)
            size, orientation = header.size, header.orientation
        else:
            image = _identified(stream)
            size, orientation = image.size[::-1], _orientation(Image.Image.getexif, image)
        _check_pixels(*size)
        return size[::-1] if orientation in _TURNED else size


def read_rgb(file: str | BinaryIO) -> np.ndarray:
    """Read an image as 8-bit sRGB.

    The upper 8 bits of 16-bit channels are used. Transparent images are composited over white. The colours of an
    embedded ICC profile are converted to sRGB with perceptual rendering. A damaged or unsuitable profile is ignored.

    Args:
        file: a path, or a file open for reading bytes.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        ImageError: see `read_image`.
    """
    image = read_image(file)
    pixels, icc = _upper_bits(image.pixels), image.metadata.icc
    if pixels.shape[-1] == 3 and not icc:
        return pixels
    return np.asarray(_over_white(_in_srgb(_as_image(pixels), icc)))


def sniffed_ending(path: str) -> str:
    """Return the ending for a file of one of `FORMATS`, found by its content, or "" for other files.

    Args:
        path: the path of the file.
    """
    with contextlib.suppress(Exception), Image.open(path, formats=_READ) as image:
        return FORMATS.get(image.format.lower(), "")
    return ""


def read_image(file: str | BinaryIO, limited: bool = True) -> LoadedImage:
    """Read an image with its bit depth, transparency and metadata.

    The first image of an animation or of a file with several pages is read. It is rotated to be upright according to
    EXIF. Grey, transparency and 16 bits per channel are kept. Palettes become RGB. CMYK and other colour spaces become
    sRGB, with the profile of the file or else by Pillow. A JPEG file that lacks only its end marker is read. Damaged
    metadata are left out.

    Args:
        file: a path, or a file open for reading bytes.
        limited: whether images with more than `MAX_PIXELS` are refused.

    Raises:
        ImageError: the file cannot be read, is incomplete, has an unsupported format or pixels of 32 bits, or has more
            than `MAX_PIXELS`.
    """
    with _opened(file) as (stream, is_tiff):
        image, orientation = (_read_tiff if is_tiff else _read_other)(stream, limited)
    pixels = np.ascontiguousarray(_upright(image.pixels, orientation))
    icc = metadata.fitting_profile(image.metadata.icc, pixels.shape[-1])
    return LoadedImage(pixels, dataclasses.replace(image.metadata, icc=icc))


def _read_tiff(stream: BinaryIO, limited: bool) -> tuple[LoadedImage, int]:
    """Return a TIFF image as stored, and its EXIF orientation."""
    header = _tiff_header(stream)
    if limited:
        _check_pixels(*header.size)
    try:
        pixels, is_cmyk = tiffs.read_pixels(stream, header)
    except tiffs.TiffError as error:
        raise ImageError(str(error)) from error
    carried = header.metadata
    if is_cmyk:
        rgb = _in_srgb(Image.frombytes("CMYK", pixels.shape[1::-1], _upper_bits(pixels).tobytes()), carried.icc)
        pixels, carried = np.asarray(rgb), dataclasses.replace(carried, icc=None)
    return LoadedImage(pixels, carried), header.orientation


def _tiff_header(stream: BinaryIO) -> tiffs.Header:
    try:
        return tiffs.read_header(stream)
    except tiffs.TiffError as error:
        raise ImageError(str(error)) from error


def _read_other(stream: BinaryIO, limited: bool) -> tuple[LoadedImage, int]:
    """Return an image of another format as stored, and its EXIF orientation."""
    image = _identified(stream)
    if limited:
        _check_pixels(*image.size[::-1])
    if image.format == "HEIF" and image.info["bit_depth"] > 8:
        return LoadedImage(_read_deep_heif(stream), metadata.of_image(image, stream)), 1  # libheif has rotated it
    if image.format == "PPM" and image.mode == "RGB" and _largest_in_ppm(image) > 255:
        return LoadedImage(_read_deep_ppm(image, stream), metadata.of_image(image, stream)), 1
    deep = image.format == "PNG" and any(";16" in str(tile[3]) for tile in image.tile)
    image = _loaded(image, stream)
    carried, orientation = metadata.of_image(image, stream), _orientation(type(image).getexif, image)
    if deep:
        return LoadedImage(_read_deep_png(stream), carried), orientation
    if image.format == "PPM" and image.mode == "I":  # grey with more than 8 bits, which Pillow scales to 16
        return LoadedImage(np.asarray(image).astype(np.uint16)[..., None], carried), orientation
    if image.mode == "RGBa":  # HEIF with premultiplied alpha
        image = image.convert("RGBA")
    if image.mode in ("I", "F"):
        raise ImageError("pixels of 32 bits; save it with 8 or 16 unsigned bits per channel")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") and not image.mode.startswith("I;16"):
        with _damage_named():
            image = _in_srgb(image, carried.icc)
        carried = dataclasses.replace(carried, icc=None)
    return LoadedImage(_channels(image), carried), orientation


def _channels(image: Image.Image) -> np.ndarray:
    """Return the pixels [H, W, C] of a grey, RGB or palette image."""
    transparent = image.has_transparency_data
    mode = "RGB" if image.mode in ("P", "PA", "RGB", "RGBA") else "L"
    mode += "A" * transparent
    if image.mode != mode and not image.mode.startswith("I;16"):
        image = image.convert(mode)
    pixels = np.asarray(image)
    if pixels.dtype.itemsize == 2:
        pixels = pixels.astype(np.uint16)  # from either byte order
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _read_deep_png(stream: BinaryIO) -> np.ndarray:
    """Return the pixels of a PNG file with 16 bits per channel, uint16 [H, W, C]. Pillow reads only 8 bits."""
    stream.seek(0)
    try:
        image = pyvips.Image.pngload_buffer(stream.read(), fail_on="error")
        data = image.write_to_memory()
    except pyvips.Error as error:
        raise ImageError("damaged, or not an image") from error
    return np.frombuffer(data, np.uint16).reshape(image.height, image.width, image.bands)


def _largest_in_ppm(image: Image.Image) -> int:
    """Return the largest value of a PPM file from its header. Pillow stores it unless it is 255."""
    *_, largest = image.tile[0].args if isinstance(image.tile[0].args, tuple) else (255,)
    return largest


def _read_deep_ppm(image: Image.Image, stream: BinaryIO) -> np.ndarray:
    """Return the pixels of a PPM file with more than 8 bits per channel, uint16 [H, W, 3]. Pillow reads only 8 bits."""
    codec, (_, _, width, height), offset, _ = image.tile[0]
    stream.seek(offset)
    data, count = stream.read(), 3 * height * width
    try:
        stored = np.array(data.split(), np.uint16) if codec == "ppm_plain" else np.frombuffer(data, ">u2", count)
        pixels = stored[:count].reshape(height, width, 3)
    except ValueError as error:
        raise ImageError("damaged, or not an image") from error
    return to_integers(pixels * np.float32(65_535 / _largest_in_ppm(image)), np.uint16)


def _read_deep_heif(stream: BinaryIO) -> np.ndarray:
    """Return the pixels of a HEIF file with more than 8 bits per channel, uint16 [H, W, C]. Pillow reads 8 bits."""
    with _damage_named():
        image = pillow_heif.open_heif(stream, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        stored = np.asarray(image)
    largest = 2 ** image.info["bit_depth"] - 1
    in_16_bits = np.round(np.arange(largest + 1) * (65_535 / largest)).astype(np.uint16)
    pixels = in_16_bits[stored]
    if image.premultiplied_alpha:
        opacity = np.maximum(pixels[..., -1:], 1) / np.float32(65_535)
        pixels[..., :-1] = to_integers(pixels[..., :-1] / opacity, np.uint16)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _identified(stream: BinaryIO) -> Image.Image:
    stream.seek(0)
    if stream.read(12).startswith(_JPEG_XL):
        raise ImageError("JPEG XL is not supported; save it as PNG")
    stream.seek(0)
    with _damage_named():
        return Image.open(stream, formats=_READ)


def _loaded(image: Image.Image, stream: BinaryIO) -> Image.Image:
    """Load the pixels of an image. A missing end marker of a JPEG file is added."""
    try:
        with _damage_named():
            image.load()
            return image
    except ImageError:
        stream.seek(0)
        data = stream.read() + _END_OF_JPEG
        if image.format not in ("JPEG", "MPO") or not _is_whole_jpeg(data):
            raise
        image = _identified(io.BytesIO(data))
        with _damage_named():
            image.load()
        return image


def _is_whole_jpeg(data: bytes) -> bool:
    """Return whether a JPEG file has all of its pixels. libjpeg replaces missing pixels with a warning."""
    try:
        pyvips.Image.jpegload_buffer(data, fail_on="warning").write_to_memory()
    except pyvips.Error:
        return False
    return _has_all_scans(data)


def _has_all_scans(data: bytes) -> bool:
    """Return whether the scans of a progressive file have all coefficients with all bits."""
    progressive = data.rfind(_START_OF_PROGRESSIVE)  # no thumbnails come after it
    if progressive < 0:
        return True
    complete, components = set(), set()
    for scan in data[progressive:].split(_START_OF_SCAN)[1:]:
        count = scan[2]
        first, last, bits = scan[3 + 2 * count : 6 + 2 * count]
        names = set(scan[3 : 3 + 2 * count : 2])
        part = set(itertools.product(names, range(first, last + 1)))
        components |= names
        complete = complete - part if bits & 15 else complete | part
    return complete == set(itertools.product(components, range(64)))


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ImageError(f"{width}x{height} pixels are more than the limit of {MAX_PIXELS:,}")


def _orientation(read_exif: Callable[[Image.Image], Image.Exif], image: Image.Image) -> int:
    with contextlib.suppress(*DAMAGE):
        return read_exif(image).get(ExifTags.Base.Orientation, 1)
    return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and flip pixels [H, W, C] according to an EXIF orientation."""
    if orientation in _TURNED:
        pixels = pixels.swapaxes(0, 1)
    mirrored, flipped = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return pixels[:: -1 if flipped else 1, :: -1 if mirrored else 1]


def write_image(path: str, image: LoadedImage, form: str) -> None:
    """Write an image with the bit depth, transparency and metadata that the format supports.

    JPEG and WebP have 8 bits per channel. In JPEG, transparent images are composited over white, and metadata of more
    than 65,000 bytes are left out. In TIFF, 16-bit grey with transparency is written as RGB.

    Args:
        path: the path of the file.
        image: the image.
        form: one of `FORMATS`.

    Raises:
        ImageError: the image is too large for the format.
        OSError: the file cannot be written.
    """
    pixels, carried = image.pixels, image.metadata
    check_size(pixels.shape[:2], form)
    carried = dataclasses.replace(carried, icc=metadata.fitting_profile(carried.icc, pixels.shape[-1]))
    deep = pixels.dtype == np.uint16
    if form == "tiff":
        tiffs.write(path, pixels[..., [0, 0, 0, 1]] if deep and pixels.shape[-1] == 2 else pixels, carried)
    elif form == "png" and deep:
        _write_deep_png(path, pixels, carried)
    else:
        image = _as_image(_upper_bits(pixels))
        if form == "jpeg" and image.has_transparency_data:
            image = _over_white(image.convert("RGBA")).convert("L" if image.mode == "LA" else "RGB")
        image.save(path, form, **metadata.save_options(carried, form), **_ENCODING.get(form, {}))


def check_size(size: tuple[int, int], form: str) -> None:
    """Check that an image is not too large for a format.

    Args:
        size: height and width in pixels.
        form: one of `FORMATS`.

    Raises:
        ImageError: it is too large.
    """
    if max(size) > (longest := _LONGEST.get(form, max(size))):
        raise ImageError(f"becomes {size[1]}x{size[0]} pixels, {form} allows at most {longest}; choose another format")


def _write_deep_png(path: str, pixels: np.ndarray, carried: Metadata) -> None:
    """Write pixels, uint16 [H, W, C], by libvips, and metadata by Pillow, which cannot write 16 bits."""
    kind = "grey16" if pixels.shape[-1] < 3 else "rgb16"
    encoded = pyvips.Image.new_from_array(pixels, interpretation=kind).pngsave_buffer(
        keep="none", compression=3, filter="sub"
    )
    ending = encoded.index(b"IDAT") - 4
    with open(path, "wb") as file:
        file.write(encoded[:_PNG_HEADER])
        for name, data in _png_chunks(carried):
            PngImagePlugin.putchunk(file, name, data)
        file.write(encoded[ending:])


def _png_chunks(carried: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Yield the PNG chunks of metadata. Pillow makes them for an image of one pixel."""
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "png", **metadata.save_options(carried, "png"))
    data, position = small.getvalue(), _PNG_HEADER
    while (name := data[position + 4 : position + 8]) != b"IDAT":
        length = int.from_bytes(data[position : position + 4], "big")
        yield name, data[position + 8 : position + 8 + length]
        position += 12 + length


@contextlib.contextmanager
def _opened(file: str | BinaryIO) -> Iterator[tuple[BinaryIO, bool]]:
    """Yield a file at its beginning, and whether it is a TIFF file."""
    if isinstance(file, str) and os.path.exists(file) and not os.path.isfile(file):
        raise ImageError("not a file")  # opening a pipe would wait forever
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(open(file, "rb")) if isinstance(file, str) else file
            stream.seek(0)
            head = stream.read(4)
            stream.seek(0)
        except PermissionError as error:
            raise ImageError("no permission to read it") from error
        except OSError as error:
            raise ImageError(error.strerror or "cannot be read") from error
        if not head:
            raise ImageError("an empty file")
        yield stream, tiffs.is_tiff(head)


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    """Turn an exception of Pillow into an ImageError. The block must have only calls of Pillow."""
    try:
        yield
    except DAMAGE as error:
        raise ImageError("damaged, or not an image") from error


def _upper_bits(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as uint8. The upper 8 bits of uint16 are used."""
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def _as_image(pixels: np.ndarray) -> Image.Image:
    """Return pixels, uint8 [H, W, C], as a Pillow image of mode L, LA, RGB or RGBA."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels))


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image to sRGB, mode RGB or RGBA."""
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
