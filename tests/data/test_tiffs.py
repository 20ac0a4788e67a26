import io
import sys

import cv2
import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from pyimagesearch.data import tiffs
from pyimagesearch.data.image_io import ImageError, read_image, read_rgb, read_size
from pyimagesearch.data.metadata import Metadata

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 32, 3), np.uint8)
DEEP = RNG.integers(0, 2**16, (24, 32, 3), np.uint16)
ALPHA, DEEP_ALPHA = RNG.integers(1, 256, (24, 32, 1), np.uint8), RNG.integers(1, 2**16, (24, 32, 1), np.uint16)


def written(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file


def read_alike(file):
    """Read a file as inference does, and check that the other readers have the same result."""
    pixels = read_image(file).pixels
    assert read_size(file) == pixels.shape[:2]
    if pixels.shape[-1] == 3:
        np.testing.assert_array_equal(read_rgb(file), pixels >> 8 if pixels.dtype == np.uint16 else pixels)
    return pixels


@pytest.mark.parametrize("pixels", [RGB, DEEP])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_files_are_read(tmp_path, pixels, compression):
    path = str(tmp_path / "image.tif")
    kinds = {"tiff_lzw": 5, "tiff_adobe_deflate": 8, "packbits": 32773}
    assert cv2.imwrite(path, pixels[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, kinds[compression]])
    np.testing.assert_array_equal(read_alike(path), pixels)


@pytest.mark.parametrize("pixels", [RGB, DEEP])
@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 5},
        {"compression": "zlib", "predictor": 2},
    ],
)
def test_every_layout_of_the_same_pixels_gives_them(pixels, options):
    np.testing.assert_array_equal(read_alike(written(pixels, photometric="rgb", **options)), pixels)


@pytest.mark.parametrize("pixels", [RGB, DEEP])
def test_channels_in_planes_of_their_own_are_put_together(pixels):
    file = written(np.moveaxis(pixels, -1, 0).copy(), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_alike(file), pixels)


@pytest.mark.parametrize("grey", [RGB[..., 0], DEEP[..., 0], RGB[..., 0] > 127])
def test_grey_in_which_white_is_0_is_turned_round(grey):
    expected = np.where(grey, 0, 255) if grey.dtype == bool else ~grey
    np.testing.assert_array_equal(read_alike(written(grey, photometric="miniswhite"))[..., 0], expected)


@pytest.mark.parametrize(("pixels", "alpha"), [(RGB, ALPHA), (DEEP, DEEP_ALPHA)])
def test_colours_multiplied_by_their_transparency_are_divided_again(pixels, alpha):
    full = np.iinfo(pixels.dtype).max
    premultiplied = np.round(pixels * (alpha / full)).astype(pixels.dtype)
    file = written(np.dstack([premultiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    read = read_alike(file)
    np.testing.assert_array_equal(read[..., 3:], alpha)
    clear = alpha[..., 0] > full // 2
    assert np.abs(read[clear][:, :3].astype(int) - pixels[clear]).max() <= 2


def test_channels_without_a_defined_meaning_are_ignored():
    more = np.dstack([RGB, ALPHA, ALPHA])
    unknown = written(more[..., :4], photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_alike(unknown), RGB)
    both = written(more, photometric="rgb", extrasamples=["unassalpha", "unspecified"])
    np.testing.assert_array_equal(read_alike(both), more[..., :4])


def test_12_bits_in_16_use_the_whole_range():
    stated = [(281, 3, 3, (4095,) * 3, True)]
    read = read_alike(written(DEEP >> 4, photometric="rgb", extratags=stated))
    np.testing.assert_array_equal(read, np.round((DEEP >> 4) * (65535 / 4095)).astype(np.uint16))


@pytest.mark.parametrize("stated", [40_000, 100, 0, 65_535, 255])
def test_the_largest_value_that_an_image_happens_to_have_changes_nothing(stated):
    pixels = DEEP % 40_000
    read = read_alike(written(pixels, photometric="rgb", extratags=[(281, 3, 3, (stated,) * 3, True)]))
    np.testing.assert_array_equal(read, pixels)


def test_files_that_were_read_do_not_stay_in_memory():
    assert pyvips.cache_get_max() == 0


def test_of_several_pages_the_first_is_read():
    np.testing.assert_array_equal(read_alike(written(np.stack([RGB, RGB[::-1]]), photometric="rgb")), RGB)


def test_cmyk_of_16_bits_becomes_rgb():
    cmyk = np.broadcast_to(np.array([0, 65535, 65535, 0], np.uint16), (4, 5, 4)).copy()
    assert read_alike(written(cmyk, photometric="separated"))[0, 0].tolist() == [255, 0, 0]


def test_a_palette_becomes_rgb():
    colours = RNG.integers(0, 256, (3, 256), np.uint16) * 257
    read = read_alike(written(RGB[..., 0], photometric="palette", colormap=colours))
    np.testing.assert_array_equal(read, (colours >> 8).T[RGB[..., 0]])


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (RGB.astype(np.float32), "pixels of 32 bits, floating point"),
        (RGB.astype(np.float16), "pixels of 16 bits, floating point"),
        (DEEP.astype(np.uint32), "pixels of 32 bits, unsigned"),
        (RGB.astype(np.int16), "pixels of 16 bits, signed"),
    ],
)
def test_an_error_has_the_true_reason(pixels, said):
    file = written(pixels, photometric="rgb")
    for read in (read_image, read_rgb):
        with pytest.raises(ImageError, match=said):
            read(file)


def test_a_compression_that_is_not_read_is_named():
    with pytest.raises(ImageError, match="LZMA"):
        read_image(written(RGB, photometric="rgb", compression="lzma"))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("large", [False, True])
def test_others_read_what_is_written(tmp_path, monkeypatch, channels, dtype, large):
    if large:
        monkeypatch.setattr(tiffs, "_LARGEST_CLASSIC", 0)
    monkeypatch.setattr(tiffs, "_STRIP", 20)
    pixels = RNG.integers(0, np.iinfo(dtype).max, (11, 7, channels), dtype)
    path = str(tmp_path / "image.tif")
    tiffs.write(path, pixels, Metadata(xmp=b"<x:xmpmeta/>", dpi=(72, 72)))
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == large and len(file.pages[0].tags["StripOffsets"].value) > 1
        np.testing.assert_array_equal(file.asarray().reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(read_alike(path), pixels)
    if not (channels == 2 and dtype == np.uint16):
        assert Image.open(path).size == (7, 11)
    if channels != 2:
        read = cv2.imread(path, cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
        order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
        same = (
            np.s_[..., 3:] if channels == 4 and dtype == np.uint8 else np.s_[...]
        )  # of which OpenCV multiplies colours
        np.testing.assert_array_equal(read[..., order][same], pixels[same])


@pytest.mark.parametrize(
    "head", [b"II*\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0" + bytes(20), b"II*\0\xff\xff\xff\xff"]
)
def test_a_header_without_a_directory_is_refused(head):
    for read in (read_size, read_image):
        with pytest.raises(ImageError, match="damaged, or not an image"):
            read(io.BytesIO(head))


def test_what_libraries_find_odd_is_not_printed(tmp_path, capfd):
    file = written(RGB, photometric="rgb", extratags=[(60000, 2, 4, "odd", True)])
    read_alike(file)
    assert capfd.readouterr() == ("", "") and "pyvips" in sys.modules
