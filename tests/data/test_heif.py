"""HEIC and HEIF files, made by the encoder of pillow-heif, through the reader of images and the scripts."""

import io

import cv2
import numpy as np
import pillow_heif
import pytest
from conftest import random_image, save
from PIL import ExifTags, Image, ImageCms

import create_tfrecords
from pyimagesearch.data.image_io import ImageError, read_image, read_rgb, read_size, write_image
from pyimagesearch.inference import batch
from pyimagesearch.inference.jobs import Plan

RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), (96, 64))  # smooth, [64, 96, 3]
LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def heic(pixels, **options):
    """A HEIC file of pixels of 8 bits."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "heif", **{**LOSSLESS, **options})
    return file


def deep_heic(pixels, mode):
    """A HEIC file with 10 bits per channel, from pixels with 16 bits."""
    file = io.BytesIO()
    height, width = pixels.shape[:2]
    pillow_heif.from_bytes(mode, (width, height), pixels.tobytes()).save(file, **LOSSLESS)
    return file


def exif(orientation):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation], tags[ExifTags.Base.Make] = orientation, "a phone"
    return tags


def test_what_is_stored_without_loss_comes_back():
    np.testing.assert_array_equal(read_image(heic(RGB)).pixels, RGB)
    alpha = np.dstack([RGB, RGB[..., 0]])
    np.testing.assert_array_equal(read_image(heic(alpha)).pixels, alpha)
    grey = read_image(heic(RGB[..., 0], chroma=420, matrix_coefficients=6)).pixels
    np.testing.assert_array_equal(grey, RGB[..., :1])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_an_orientation_is_applied_once(orientation, deep):
    png = io.BytesIO()
    Image.fromarray(RGB).save(png, "png", exif=exif(orientation))
    upright = read_image(png).pixels
    file = heic(RGB, exif=exif(orientation).tobytes())
    if deep:
        wide = RGB.astype(np.uint16) * 257
        file = io.BytesIO()
        image = pillow_heif.from_bytes("RGB;16", (96, 64), wide.tobytes())
        image.save(file, exif=exif(orientation).tobytes(), **LOSSLESS)
    image = read_image(file)
    assert read_size(file) == image.pixels.shape[:2] == upright.shape[:2]
    pixels = image.pixels / 257 if deep else image.pixels
    np.testing.assert_allclose(pixels, upright, atol=0.25 if deep else 0)
    tags = Image.Exif()
    tags.load(image.metadata.exif)
    assert tags[ExifTags.Base.Make] == "a phone" and ExifTags.Base.Orientation not in tags


@pytest.mark.parametrize(("mode", "channels"), [("RGB;16", 3), ("RGBA;16", 4), ("RGBa;16", 4)])
def test_10_bits_fill_16(mode, channels):
    ramp = np.linspace(0, 65_535, 96 * 64).astype(np.uint16).reshape(64, 96, 1)
    pixels = np.repeat(ramp, channels, -1)
    expected = pixels.astype(int)
    if mode == "RGBa;16":
        expected[..., :3] = 65_535  # as much of each colour as is opaque
    read = read_image(deep_heic(pixels, mode)).pixels
    assert read.dtype == np.uint16 and read.min() == 0 and read.max() == 65_535
    opaque = slice(32, None)  # by half or more
    assert np.abs(read[opaque].astype(int) - expected[opaque]).max() < 2 * 65_535 / 1023
    np.testing.assert_array_equal(read_rgb(deep_heic(pixels[..., :3].copy(), "RGB;16"))[-1, -1], [255] * 3)


def test_a_colour_profile_is_carried_and_used():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(srgb)
    places = {name: srgb.index(name, 132) for name in (b"rXYZ", b"gXYZ")}
    for name, other in ((b"rXYZ", b"gXYZ"), (b"gXYZ", b"rXYZ")):
        swapped[places[name] : places[name] + 4] = other
    swapped = bytes(swapped).replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    file = heic(RGB, icc_profile=swapped)
    assert read_image(file).metadata.icc == swapped
    assert np.abs(read_rgb(file).astype(int) - RGB[..., [1, 0, 2]]).max() <= 3


@pytest.mark.parametrize(("primaries", "transfer", "carried"), [(9, 16, True), (12, 13, True), (1, 13, False)])
def test_colour_spaces_without_a_profile_are_written_to_png(tmp_path, primaries, transfer, carried):
    file = heic(RGB, color_primaries=primaries, transfer_characteristics=transfer)
    path = str(tmp_path / "result.png")
    write_image(path, read_image(file), "png")
    expected = {b"cICP": bytes([primaries, transfer, 0, 1])} if carried else {}
    assert read_image(path).metadata.png_colour == expected


def test_the_brand_mif1_is_read_too():
    data = heic(RGB).getvalue()
    assert data[8:12] in (b"heic", b"heix")
    np.testing.assert_array_equal(read_rgb(io.BytesIO(data[:8] + b"mif1" + data[12:])), RGB)


def test_avif_is_still_read_by_pillow():
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "avif", quality=100, subsampling="4:4:4")
    assert Image.open(file).format == "AVIF" and np.abs(read_rgb(file).astype(int) - RGB).max() <= 3


def test_jpeg_xl_is_refused_by_name():
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match="JPEG XL is not supported; save it as PNG"):
            read(io.BytesIO(b"\xff\x0a" + bytes(40)))


def test_a_folder_of_a_phone_is_upscaled(tmp_path):
    folder = tmp_path / "phone"
    save(folder / "a.png", RGB)
    (folder / "IMG_1.HEIC").write_bytes(heic(RGB, exif=exif(6).tobytes()).getvalue())
    (folder / "deep.hif").write_bytes(deep_heic(RGB.astype(np.uint16) * 257, "RGB;16").getvalue())
    (folder / "cut.heic").write_bytes(heic(RGB).getvalue()[:-200])
    (folder / "new.jxl").write_bytes(b"\xff\x0a" + bytes(40))

    def twice(lr, progress=None):
        return np.repeat(np.repeat(lr, 2, 0), 2, 1)

    twice.scale = 2
    jobs = Plan([str(folder)], str(tmp_path / "out"), "png")
    failures = {failure.source.rpartition("/")[2]: failure.reason for failure in batch.run(jobs, twice)}
    assert failures.keys() == {"cut.heic", "new.jxl"} and failures["new.jxl"].startswith("JPEG XL is not supported")
    results = {path.name: read_image(str(path)).pixels for path in (tmp_path / "out").iterdir()}
    assert {name: (pixels.shape, pixels.dtype.itemsize) for name, pixels in results.items()} == {
        "a.png": ((128, 192, 3), 1),
        "IMG_1.png": ((192, 128, 3), 1),
        "deep.png": ((128, 192, 3), 2),
    }


def test_records_are_made_of_heic(tmp_path, caplog):
    photographs, records = tmp_path / "photographs", tmp_path / "records"
    for name in ("b.heic", "c.heic"):
        save(photographs / name, random_image(160, 160, ord(name[0])))
    (photographs / "d.jxl").write_bytes(b"\xff\x0a" + bytes(40))
    flags = ["--preset", "demo", "--processes", "1", "--images", str(photographs), "--records", str(records)]
    assert create_tfrecords.main(flags) == 0
    skipped = (records / "skipped.csv").read_text()
    assert "d.jxl,JPEG XL is not supported" in skipped.replace('"', "") and ".heic" not in skipped
