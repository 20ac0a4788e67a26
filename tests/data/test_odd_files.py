"""Unusual files of all kinds are upscaled in one process, and the results are read again."""

import collections
import io
import os
import re
import struct
import zlib

import cv2
import keras
import numpy as np
import pytest
import pyvips
import tifffile
from PIL import ExifTags, Image, ImageCms

import inference
from pyimagesearch.data.image_io import FORMATS, ImageError, read_image, read_size, write_image
from pyimagesearch.inference.jobs import Plan

LEFT, RIGHT = (200, 120, 40), (40, 80, 160)
RGB = np.repeat(np.array([[LEFT] * 12 + [RIGHT] * 12], np.uint8), 20, axis=0)
GREY = np.repeat(np.array([[180] * 12 + [60] * 12], np.uint8), 20, axis=0)
BLACK_OR_WHITE = GREY > 100
HALF = np.repeat(np.array([[255] * 12 + [0] * 12], np.uint8), 20, axis=0)  # opaque on the left
RGBA, GREY_ALPHA = np.dstack([RGB, HALF]), np.dstack([GREY, HALF])
COLOUR_MEAN, GREY_MEAN, BILEVEL_MEAN = RGB.mean((0, 1)), [GREY.mean()] * 3, [127.5] * 3
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'


def deep(pixels):
    return pixels.astype(np.uint16) * 257


def pillow(pixels, form, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def vips_png(pixels, **options):
    kind = {np.uint8: ("b-w", "srgb"), np.uint16: ("grey16", "rgb16")}[pixels.dtype.type][pixels.shape[-1] > 2]
    return pyvips.Image.new_from_array(np.ascontiguousarray(pixels), interpretation=kind).pngsave_buffer(**options)


def palette(transparent=None):
    image = Image.fromarray(RGB).quantize(4, dither=Image.Dither.NONE)
    if transparent is not None:
        image.info["transparency"] = image.getpixel((20, 5))
    return image


def with_chunk(png, name, data):
    return png[:33] + struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) + png[33:]


def png_files():
    yield "1.png", pillow(BLACK_OR_WHITE, "png"), BILEVEL_MEAN
    yield "L.png", pillow(GREY, "png"), GREY_MEAN
    yield "LA.png", pillow(GREY_ALPHA, "png"), [180] * 3
    yield "P.png", pillow(palette(), "png"), COLOUR_MEAN
    yield "P 2 bits.png", pillow(palette(), "png", bits=2), COLOUR_MEAN
    yield "P transparent.png", pillow(palette(True), "png", transparency=palette().getpixel((20, 5))), LEFT
    yield "RGB.png", pillow(RGB, "png"), COLOUR_MEAN
    yield "RGBA.png", pillow(RGBA, "png"), LEFT
    yield "RGB key.png", pillow(RGB, "png", transparency=RIGHT), LEFT
    yield "L key.png", pillow(GREY, "png", transparency=60), [180] * 3
    yield "I16.png", pillow(deep(GREY), "png"), GREY_MEAN
    yield "interlaced.png", vips_png(RGB, interlace=True), COLOUR_MEAN
    for name, pixels, mean in (
        ("RGB16", RGB, COLOUR_MEAN),
        ("RGBA16", RGBA, LEFT),
        ("LA16", GREY_ALPHA, [180] * 3),
    ):
        yield f"{name}.png", vips_png(deep(pixels)), mean
        yield f"{name} interlaced.png", vips_png(deep(pixels), interlace=True), mean
    key = struct.pack(">3H", *(257 * side for side in RIGHT))
    yield "RGB16 key.png", with_chunk(vips_png(deep(RGB)), b"tRNS", key), LEFT
    yield "L16 key.png", with_chunk(pillow(deep(GREY), "png"), b"tRNS", struct.pack(">H", 60 * 257)), [180] * 3
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    yield "animated.png", pillow(frames[0], "png", save_all=True, append_images=frames[1:]), COLOUR_MEAN
    for name, data in ((b"gAMA", struct.pack(">I", 100_000)), (b"cICP", bytes([9, 16, 0, 1])), (b"sBIT", b"\5\6\5")):
        yield f"{name.decode()}.png", with_chunk(pillow(RGB, "png"), name, data), COLOUR_MEAN
        yield f"{name.decode()} 16.png", with_chunk(vips_png(deep(RGB)), name, data), COLOUR_MEAN


def jpeg_files():
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}, {"restart_marker_rows": 1}):
        name = " ".join(options) or "plain"
        data = pillow(RGB, "jpeg", quality=95, **options)
        yield f"{name}.jpg", data, COLOUR_MEAN
        yield f"{name} without end.jpg", data[:-2], COLOUR_MEAN
    yield "L.jpg", pillow(GREY, "jpeg", quality=95), GREY_MEAN
    yield "CMYK.jpg", pillow(RGB, "jpeg", "CMYK", quality=95), COLOUR_MEAN
    yield (
        "several.jpg",
        pillow(RGB, "mpo", save_all=True, append_images=[Image.fromarray(RGB)], quality=95),
        COLOUR_MEAN,
    )
    yield "more behind.jpg", pillow(RGB, "jpeg", quality=95) + b"a video", COLOUR_MEAN
    for ending in ("jfif", "jpe", "JPEG", "JpG"):
        yield f"other.{ending}", pillow(RGB, "jpeg", quality=95), COLOUR_MEAN


def tiff_files():
    for name, make in (("8", lambda pixels: pixels), ("16", deep)):
        rgb, grey = make(RGB), make(GREY)
        yield f"grey {name}.tif", tiff(grey, photometric="minisblack"), GREY_MEAN
        yield f"white is 0 {name}.tif", tiff(~grey, photometric="miniswhite"), GREY_MEAN
        for options in (
            *({}, {"byteorder": ">"}, {"bigtiff": True}, {"compression": "zlib"}, {"tile": (16, 16)}),
            *({"compression": "zlib", "predictor": 2}, {"rowsperstrip": 3}, {"software": "my scanner"}),
        ):
            label = " ".join(f"{key} {value}" for key, value in options.items()).replace(">", "big")
            yield f"RGB {name} {label}.tif", tiff(rgb, photometric="rgb", **options), COLOUR_MEAN
        planes = np.moveaxis(rgb, -1, 0).copy()
        yield f"planes {name}.tif", tiff(planes, photometric="rgb", planarconfig="separate"), COLOUR_MEAN
        yield f"pages {name}.tiff", tiff(np.stack([rgb, ~rgb]), photometric="rgb"), COLOUR_MEAN
        yield f"alpha {name}.tif", tiff(make(RGBA), photometric="rgb", extrasamples=["unassalpha"]), LEFT
        yield (
            f"premultiplied {name}.tif",
            tiff(make(RGBA) * (make(HALF) > 0)[..., None], photometric="rgb", extrasamples=["assocalpha"]),
            LEFT,
        )
        grey_alpha = tiff(
            make(GREY_ALPHA), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
        )
        yield f"grey and alpha {name}.tif", grey_alpha, [180] * 3
        yield f"unknown {name}.tif", tiff(make(RGBA), photometric="rgb", extrasamples=["unspecified"]), COLOUR_MEAN
        cmyk = make(np.dstack([255 - RGB, np.zeros_like(GREY)]))
        yield f"CMYK {name}.tif", tiff(cmyk, photometric="separated"), COLOUR_MEAN
        yield f"ImageJ {name}.tif", tiff(grey, imagej=True), GREY_MEAN
        yield f"OME {name}.tif", tiff(grey, ome=True, photometric="minisblack"), GREY_MEAN
    stated = [(281, 3, 3, (4095,) * 3, True)]
    yield "12 in 16 bits.tif", tiff(deep(RGB) >> 4, photometric="rgb", extratags=stated), COLOUR_MEAN
    yield "bilevel.tif", tiff(BLACK_OR_WHITE, photometric="minisblack"), BILEVEL_MEAN
    yield "bilevel, white is 0.tif", tiff(~BLACK_OR_WHITE, photometric="miniswhite"), BILEVEL_MEAN
    for compression in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"):
        options = {"quality": 95} if compression == "jpeg" else {}
        yield f"{compression}.tif", pillow(RGB, "tiff", compression=compression, **options), COLOUR_MEAN
    yield "group4.tif", pillow(BLACK_OR_WHITE, "tiff", compression="group4"), BILEVEL_MEAN
    yield "P.tif", pillow(palette(), "tiff"), COLOUR_MEAN
    for number, name in ((5, "lzw"), (8, "deflate"), (1, "none")):
        data = cv2.imencode(".tif", deep(RGB)[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, number])[1].tobytes()
        yield f"OpenCV 16 {name}.tif", data, COLOUR_MEAN


def other_files():
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for form, options in (
        ("webp", {"lossless": True}),
        ("webp", {"quality": 100}),
        ("avif", {"quality": 100, "subsampling": "4:4:4"}),
    ):
        name = " ".join(options)
        yield f"{name}.{form}", pillow(RGB, form, **options), COLOUR_MEAN
        if "quality" not in options or form == "avif":  # the encoder blends transparent and opaque pixels
            yield f"{name} alpha.{form}", pillow(RGBA, form, **options), LEFT
    yield (
        "animated.webp",
        pillow(frames[0], "webp", save_all=True, append_images=frames[1:], lossless=True),
        COLOUR_MEAN,
    )
    yield "P.gif", pillow(palette(), "gif"), COLOUR_MEAN
    yield "transparent.gif", pillow(palette(), "gif", transparency=palette().getpixel((20, 5))), LEFT
    yield (
        "animated.gif",
        pillow(palette(), "gif", save_all=True, append_images=[palette()], comment=b"\xe9"),
        COLOUR_MEAN,
    )
    yield "L.gif", pillow(GREY, "gif"), GREY_MEAN
    for mode, pixels, mean in (("1", BLACK_OR_WHITE, BILEVEL_MEAN), ("L", GREY, GREY_MEAN), ("RGB", RGB, COLOUR_MEAN)):
        for form, ending in (("bmp", "bmp"), ("ppm", "ppm"), ("tga", "tga")):
            yield f"{mode}.{ending}", pillow(pixels, form), mean
    yield "P.bmp", pillow(palette(), "bmp"), COLOUR_MEAN
    yield "packed.tga", pillow(RGB, "tga", compression="tga_rle"), COLOUR_MEAN
    yield "alpha.tga", pillow(RGBA, "tga"), LEFT
    yield "grey 16.ppm", b"P5 24 20 65535\n" + deep(GREY).astype(">u2").tobytes(), GREY_MEAN
    yield "RGB 16.ppm", b"P6 24 20 65535\n" + deep(RGB).astype(">u2").tobytes(), COLOUR_MEAN
    yield "text.ppm", b"P3 24 20 255\n" + " ".join(map(str, RGB.ravel())).encode(), COLOUR_MEAN
    lossless = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    yield "RGB.heic", pillow(RGB, "heif", **lossless), COLOUR_MEAN
    yield "quality 95.HEIC", pillow(RGB, "heif", quality=95), COLOUR_MEAN
    yield "L.heif", pillow(GREY, "heif", quality=-1), GREY_MEAN
    yield "alpha.heic", pillow(RGBA, "heif", **lossless), LEFT
    yield "several.heic", pillow(RGB, "heif", save_all=True, append_images=[frames[1]], **lossless), COLOUR_MEAN
    yield "L.jp2", pillow(GREY, "jpeg2000"), GREY_MEAN
    yield "RGB.jp2", pillow(RGB, "jpeg2000"), COLOUR_MEAN
    yield "RGBA.jp2", pillow(RGBA, "jpeg2000"), LEFT


def exif(**tags):
    made = Image.Exif()
    for tag, value in tags.items():
        made[ExifTags.Base[tag]] = value
    made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:02:03 04:05:06"
    made.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return made.tobytes()


def files_with_metadata():
    lossless = {"png": {}, "jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}, "tif": {}}
    metadata = {
        "exif": {"exif": exif(Artist="ß".encode(), Software="1")},
        "long exif": {"exif": exif(ImageDescription="long " * 12_000)},
        "odd exif": {"exif": exif()[:40] + b"\xff" * 40},
        "sRGB": {"icc_profile": SRGB},
        "odd profile": {"icc_profile": SRGB[:-7]},
        "xmp": {"xmp": XMP},
        "dpi": {"dpi": (300, 150)},
    }
    for ending, options in lossless.items():
        form = {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending)
        for label, carried in metadata.items():
            if ending == "tif" and label in ("xmp", "odd exif"):
                continue
            yield f"{label}.{ending}", pillow(RGB, form, **options, **carried), COLOUR_MEAN
        for orientation in range(2, 9):
            yield (
                f"turned {orientation}.{ending}",
                pillow(RGB, form, exif=exif(Orientation=orientation), **options),
                COLOUR_MEAN,
            )
    yield "grey in sRGB.png", pillow(GREY, "png", icc_profile=SRGB), GREY_MEAN
    yield "grey in sRGB.jpg", pillow(GREY, "jpeg", icc_profile=SRGB, quality=95), GREY_MEAN
    yield "comment.jpg", pillow(RGB, "jpeg", quality=95, comment=b"\xff\xe9"), COLOUR_MEAN


def files_with_names():
    data = pillow(RGB, "png")
    names = ("ein Bild.png", "写真.png", "🐈.png", "[1].png", "*.png", "-v.png", "%s{}.png", "a'b\"c.png", "a\nb.png")
    for name in (
        *names,
        "UPPER.PNG",
        "is a PNG.jpg",
        "is a PNG.tif",
        ".hidden.png",
        "a" * 251 + ".png",
        "ü" * 125 + ".tga",
    ):
        yield f"names/{name}", data, COLOUR_MEAN
    yield os.fsdecode(b"names/caf\xe9.png"), data, COLOUR_MEAN
    yield "names/deep/er/and/deeper/a.png", data, COLOUR_MEAN


def files_to_refuse():
    yield "empty.png", b"", "an empty file"
    yield "text.jpg", b"a letter", "damaged, or not an image"
    yield "cut.png", pillow(RGB, "png")[:-40], "damaged"
    yield "cut.jpg", pillow(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8), "jpeg")[:-99], "damaged"
    yield "cut.tif", tiff(RGB, photometric="rgb")[:-40], "damaged"
    yield "phone.jxl", b"\xff\x0a\xfa\x1f", "JPEG XL is not supported"
    yield "container.jxl", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "JPEG XL is not supported"
    yield "a text.heic", b"a letter", "damaged, or not an image"
    yield "floats.tif", tiff(RGB.astype(np.float32), photometric="rgb"), "pixels of 32 bits, floating point"
    yield "signed.tif", tiff(GREY.astype(np.int16), photometric="minisblack"), "pixels of 16 bits, signed"
    yield "LZMA.tif", tiff(RGB, photometric="rgb", compression="lzma"), "LZMA"
    yield "Lab.tif", tiff(RGB, photometric="cielab"), "CIELAB"


GOOD = (png_files, jpeg_files, tiff_files, other_files, files_with_metadata, files_with_names)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write all files, with a folder for each kind. Return the folder, and the expected result of each path."""
    root, means, reasons = tmp_path_factory.mktemp("odd"), {}, {}
    for make in (*GOOD, files_to_refuse):
        for name, data, expected in make():
            path = root / "files" / make.__name__ / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            (reasons if make is files_to_refuse else means)[str(path)] = expected
    repeater().save(root / "repeater.keras")
    return root, means, reasons


def repeater():
    """A generator that repeats each pixel, so that the network does not change colours."""
    centre = np.zeros((3, 3, 3, 48), np.float32)
    centre[1, 1] = np.tile(np.eye(3), 16)
    lr = keras.Input((None, None, 3))
    nothing = keras.layers.Conv2D(3, 3, padding="same", kernel_initializer="zeros")(lr)
    shuffled = keras.layers.Conv2D(48, 3, padding="same", name="last")(keras.layers.Add()([lr, nothing]))
    generator = keras.Model(lr, keras.ops.depth_to_space(shuffled, 4), name="repeater")
    generator.get_layer("last").set_weights([centre, np.zeros(48)])
    return generator


def mean_seen(path):
    """Return the mean of opaque pixels, read by Pillow, RGB in 0..255."""
    with Image.open(path) as image:
        image.load()
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        rgba = np.asarray(image.convert("RGBA")).astype(float)
    return rgba[rgba[..., 3] > 200][:, :3].mean(0)


def opened_again(path, size):
    """Check that the program, Pillow and OpenCV read a result, and say the same of it."""
    image = read_image(path)
    assert image.pixels.shape[:2] == read_size(path) == size
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None and pixels.shape[:2] == size and pixels.dtype == image.pixels.dtype
    return image


def test_there_are_enough_odd_files(files):
    assert len(files[1]) >= 120


@pytest.mark.parametrize("form", FORMATS)
def test_every_odd_file_becomes_a_result_of_its_own_colours(files, form, capsys):
    root, means, reasons = files
    output = str(root / form)
    flags = ["--model", str(root / "repeater.keras"), "--runtime", "tensorflow", "--precision", "float32"]
    assert inference.main(["--input", str(root / "files"), "--output", output, "--format", form, *flags]) == 1
    out, err = capsys.readouterr()
    assert f"{len(means)} results written" in out and len(err.splitlines()) == len(reasons)
    for path, reason in reasons.items():
        assert re.search(f"^inference.py: {re.escape(path)}: .*{re.escape(reason)}", err, re.MULTILINE)
    jobs = Plan([str(root / "files")], output, form)
    wrong = []
    for source, target in jobs:
        if source in reasons:
            assert not os.path.exists(target)
            continue
        before, size = read_image(source), tuple(4 * side for side in read_size(source))
        after = opened_again(target, size)
        expected = np.array(means[source], float)
        if form == "jpeg" and before.pixels.shape[-1] in (2, 4):
            expected = (expected + 255) / 2  # the other half is white
        lossy = source.endswith((".avif", ".jpg", ".webp", ".HEIC"))  # and so off by itself
        tolerance = (2 if form in ("jpeg", "webp") else 1.5) if lossy else 1
        if np.abs(mean_seen(target) - expected).max() > tolerance:
            wrong.append((os.path.basename(source), mean_seen(target), expected))
        if form in ("png", "tiff"):
            assert after.pixels.dtype == before.pixels.dtype
    assert wrong == []


def damaged(data, rng):
    """Cut a file at a random position, or change a few of its bytes, often in the header."""
    if rng.integers(3) == 0:
        return data[: rng.integers(1, len(data))]
    data = bytearray(data)
    for place in rng.integers(0, min(len(data), rng.choice([300, 10**9])), rng.integers(1, 6)):
        data[place] = rng.integers(256)
    return bytes(data)


def test_damage_of_any_kind_is_a_refusal_or_a_result(tmp_path, capfd):
    rng, outcomes = np.random.default_rng(0), collections.Counter()
    for make in GOOD[:-1]:
        for _, data, _ in make():
            for _ in range(2):
                file = io.BytesIO(damaged(data, rng))
                try:
                    read_size(file)
                    image = read_image(file)
                except ImageError as error:
                    assert "\n" not in str(error)
                    outcomes["refused"] += 1
                else:
                    path = str(tmp_path / "result.png")
                    write_image(path, image, "png")
                    np.testing.assert_array_equal(read_image(path).pixels, image.pixels)
                    outcomes["read"] += 1
    assert min(outcomes["refused"], outcomes["read"]) > 50
    assert capfd.readouterr() == ("", "")
