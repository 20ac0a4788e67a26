import io
import os

import cv2
import numpy as np
import pytest
import tifffile
from PIL import EpsImagePlugin, ExifTags, Image, ImageCms

from pyimagesearch.data import image_io
from pyimagesearch.data.image_io import FORMATS, ImageError, LoadedImage, read_image, read_rgb, read_size, write_image
from pyimagesearch.data.metadata import Metadata

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = RGB[..., 0]


def saved(image, ending="png", **options):
    """A file of an image, which is an array or a Pillow image, open for reading."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending), **options)
    file.seek(0)
    return file


def opencv(image, ending):
    """A file that OpenCV writes, open for reading."""
    return io.BytesIO(cv2.imencode("." + ending, image[..., ::-1] if image.ndim == 3 else image)[1].tobytes())


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_rgb_comes_back_as_it_is(ending):
    np.testing.assert_array_equal(read_rgb(saved(RGB, ending)), RGB)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
def test_grey_and_palette_images_become_rgb(mode):
    grey = np.where(GREY > 127, 255, 0).astype(np.uint8) if mode == "1" else GREY
    np.testing.assert_array_equal(
        read_rgb(saved(Image.fromarray(grey).convert(mode))), np.repeat(grey[..., None], 3, -1)
    )


def test_what_is_transparent_is_white_and_what_is_half_so_half():
    rgba = np.dstack([np.zeros_like(RGB), np.full_like(GREY, 255)])
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 102
    rgb = read_rgb(saved(rgba))
    assert [int(rgb[0, x].mean()) for x in range(3)] == [255, 153, 0]


def test_a_transparent_colour_of_a_palette_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(read_rgb(saved(image, transparency=0)), [[[255, 255, 255], [200, 100, 50]]])


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_of_16_bits_the_upper_8_are_taken(ending, shape):
    deep = np.random.default_rng(1).integers(0, 2**16, shape, np.uint16)
    expected = deep >> 8 if len(shape) == 3 else np.repeat((deep >> 8)[..., None], 3, -1)
    np.testing.assert_array_equal(read_rgb(opencv(deep, ending)), expected)


def test_cmyk_becomes_rgb():
    cmyk = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert read_rgb(saved(cmyk, "tif"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), 3.5])
def test_pixels_of_32_bits_are_refused(value):
    with pytest.raises(ImageError, match="32 bits"):
        read_rgb(saved(np.full((3, 3), value, np.float32), "tif"))


# The upright image, for each value of the EXIF orientation of a stored image.
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_images_are_rotated_as_exif_says(orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(RGB, ending, exif=exif)
    upright = UPRIGHT[orientation](RGB)
    assert read_size(file) == upright.shape[:2]
    np.testing.assert_array_equal(read_rgb(file), upright)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_animations_give_their_first_frame(ending):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = saved(frames[0], ending, save_all=True, append_images=frames[1:], duration=50)
    assert np.abs(read_rgb(file).astype(int) - (255, 0, 0)).max() < 8


def profile(space="sRGB", gamma=None):
    """An ICC profile of sRGB, or with a `gamma` of grey."""
    if gamma is None:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()
    curve = b"curv\0\0\0\0" + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + b"\0\0"
    white = b"XYZ \0\0\0\0" + b"".join(round(v * 65536).to_bytes(4, "big") for v in (0.9642, 1, 0.8249))
    text = b"desc\0\0\0\0" + (5).to_bytes(4, "big") + b"grey\0" + bytes(78)
    tags, place, body = [], 128 + 4 + 3 * 12, b""
    for name, data in ((b"kTRC", curve), (b"wtpt", white), (b"desc", text)):
        data += bytes(-len(data) % 4)
        tags.append(name + (place + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big"))
        body += data
    size = (place + len(body)).to_bytes(4, "big")
    head = size + b"lcms\x02\x10\0\0mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(round(v * 65536).to_bytes(4, "big") for v in (0.9642, 1, 0.8249))
    return head.ljust(128, b"\0") + (3).to_bytes(4, "big") + b"".join(tags) + body


def test_an_icc_profile_of_srgb_changes_nothing():
    np.testing.assert_array_equal(read_rgb(saved(RGB, icc_profile=profile())), RGB)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_colours_of_an_icc_profile_become_those_of_srgb(mode):
    image = Image.new("L", (3, 2), 128).convert(mode)
    linear = read_rgb(saved(image, icc_profile=profile(gamma=1.0)))
    # 128 / 255 of the light is 188 in sRGB (IEC 61966-2-1).
    assert np.abs(linear.astype(int) - 188).max() <= 1 and linear.shape == (2, 3, 3)


def test_an_icc_profile_leaves_transparency():
    other = profile().replace(
        "sRGB".encode("utf-16-be"), "mRGB".encode("utf-16-be")
    )  # another name of the same colour space
    assert other != profile()
    rgba = np.dstack([RGB, np.full_like(GREY, 255)])
    rgba[:2, ..., 3] = 0
    rgb = read_rgb(saved(rgba, icc_profile=other)).astype(int)
    assert (rgb[:2] == 255).all() and np.abs(rgb[2:] - RGB[2:]).max() <= 2


@pytest.mark.parametrize("damaged", [b"no profile", profile()[:200], profile("LAB")])
def test_an_icc_profile_that_does_not_fit_is_ignored(damaged):
    np.testing.assert_array_equal(read_rgb(saved(RGB, icc_profile=damaged)), RGB)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "tif", "avif", "heif"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_images_are_refused(ending, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(noise, ending).getvalue()
    with pytest.raises(ImageError, match="damaged, or not an image"):
        read_rgb(io.BytesIO(data[: int(len(data) * part)]))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(options):
    smooth = np.asarray(Image.fromarray(RGB).resize((90, 60), Image.Resampling.BICUBIC))
    data = saved(smooth, "jpg", **options).getvalue()
    np.testing.assert_array_equal(read_rgb(io.BytesIO(data[:-2])), read_rgb(io.BytesIO(data)))


def test_a_progressive_jpeg_that_lacks_its_last_scans_is_refused():
    smooth = np.asarray(Image.fromarray(RGB).resize((90, 60), Image.Resampling.BICUBIC))
    data = saved(smooth, "jpg", progressive=True).getvalue()
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for place in scans[1:]:
        with pytest.raises(ImageError, match="damaged"):
            read_rgb(io.BytesIO(data[:place]))


@pytest.mark.parametrize("largest", [1023, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_colours_of_more_than_8_bits_in_ppm_stay(tmp_path, largest, plain):
    deep = np.random.default_rng(0).integers(0, largest + 1, (6, 9, 3))
    pixels = " ".join(map(str, deep.ravel())).encode() if plain else deep.astype(">u2").tobytes()
    path = tmp_path / "colour.ppm"
    path.write_bytes(b"P%d 9 6 %d\n" % (3 if plain else 6, largest) + pixels)
    np.testing.assert_array_equal(read_image(str(path)).pixels, np.round(deep * (65535 / largest)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError, match="damaged"):
        read_image(str(path))


def test_grey_of_16_bits_in_pgm_stays(tmp_path):
    deep = np.random.default_rng(1).integers(0, 2**16, (6, 9), np.uint16)
    (tmp_path / "grey.ppm").write_bytes(b"P5 9 6 65535\n" + deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(str(tmp_path / "grey.ppm")).pixels[..., 0], deep)


def test_a_fault_of_the_program_is_not_called_damage(monkeypatch):
    monkeypatch.setattr(image_io, "_channels", lambda image: image.no_such_thing)
    with pytest.raises(AttributeError):
        read_rgb(saved(RGB))


def test_the_size_is_read_from_the_header_alone():
    header = saved(np.zeros((500, 300, 3), np.uint8)).getvalue()[:100]
    assert read_size(io.BytesIO(header)) == (500, 300)


@pytest.mark.parametrize("name", ["empty.png", "ein Bild.jpg", "写真.tif"])
def test_files_that_are_not_images_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("" if name.startswith("empty") else "a letter")
    for read in (read_size, read_rgb):
        with pytest.raises(ImageError, match="an empty file" if name.startswith("empty") else "not an image"):
            read(str(path))


def test_a_file_in_postscript_runs_no_program(tmp_path, monkeypatch):
    program, trace = tmp_path / "gs", tmp_path / "trace"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(program))
    with pytest.raises(ImageError, match="damaged, or not an image"):
        read_image(saved(RGB, "eps"))
    assert not trace.exists()


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken link.png").symlink_to("nowhere")
    for name, said in (("pipe.png", "not a file"), (".", "not a file"), ("broken link.png", "No such file")):
        for read in (read_size, read_image):
            with pytest.raises(ImageError, match=said):
                read(str(tmp_path / name))


def test_a_text_of_megabytes_does_not_keep_an_image_from_being_read(tmp_path):
    text = "".join(map(chr, np.random.default_rng(0).integers(32, 127, 3_000_000)))
    write_image(str(tmp_path / "a.png"), LoadedImage(RGB, Metadata(text={"workflow": text})), "png")
    assert read_image(str(tmp_path / "a.png")).metadata.text == {"workflow": text}


def test_names_of_any_script_can_be_read(tmp_path):
    path = tmp_path / "Ñandú und 写真 2.png"
    Image.fromarray(RGB).save(path)
    np.testing.assert_array_equal(read_rgb(str(path)), RGB)


def test_a_bomb_is_refused_before_it_is_decoded():
    header = saved(Image.new("1", (20_000, 20_000))).getvalue()[:100]  # only the header is read
    for read in (read_size, read_rgb):
        with pytest.raises(ImageError, match="20000x20000 pixels are more than the limit of 250,000,000"):
            read(io.BytesIO(header))


def test_large_images_below_that_are_read_without_a_warning(recwarn):
    assert read_size(saved(Image.new("1", (15_000, 12_000)))) == (12_000, 15_000)
    assert not recwarn.list and image_io.MAX_PIXELS == 250_000_000


def metadata(**more):
    """EXIF and a colour profile that is not the usual one, as `Image.save` takes them."""
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Nandu"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:02:03 04:05:06"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 9
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    for tag, value in more.items():
        exif[ExifTags.Base[tag]] = value
    return {"exif": exif.tobytes(), "icc_profile": profile() + bytes(4)}


def read_saved(tmp_path, image, ending="png", **options):
    path = tmp_path / f"image.{ending}"
    path.write_bytes(saved(image, ending, **options).getvalue())
    return read_image(str(path))


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4), ("I;16", 1)]
)
def test_what_an_image_is_stays(tmp_path, mode, channels):
    if mode == "I;16":
        image = Image.fromarray(np.random.default_rng(1).integers(0, 2**16, (6, 9), np.uint16))
    else:
        image = Image.fromarray(RGB).convert(mode)
    pixels = read_saved(tmp_path, image).pixels
    assert pixels.shape == (6, 9, channels) and pixels.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    expected = image.convert({"P": "RGB", "1": "L"}.get(mode, mode))
    np.testing.assert_array_equal(pixels, np.asarray(expected).reshape(6, 9, channels))


def test_a_transparent_colour_stays_transparent(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    pixels = read_saved(tmp_path, image, transparency=0).pixels
    assert pixels[0, :, 3].tolist() == [0, 255] and pixels[0, 1].tolist() == [200, 100, 50, 255]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("form", ["png", "tiff"])
def test_images_of_all_kinds_are_rotated(tmp_path, orientation, deep, form):
    before = RGB.astype(np.uint16) * 257 if deep else RGB
    path = str(tmp_path / f"turned.{form}")
    if deep and form == "tiff":
        tifffile.imwrite(
            path, before, photometric="rgb", extratags=[(ExifTags.Base.Orientation, 3, 1, orientation, True)]
        )
    else:
        exif = metadata(Orientation=orientation)["exif"]
        if form == "png":
            write_image(path, LoadedImage(before, Metadata(exif=exif)), form)
        else:
            Image.fromarray(before).save(path, exif=exif)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, UPRIGHT[orientation](before))
    assert read_size(path) == image.pixels.shape[:2]
    if not (deep and form == "tiff"):
        exif = Image.Exif()
        exif.load(image.metadata.exif)
        assert ExifTags.Base.Orientation not in exif and exif[ExifTags.Base.Artist] == "Nandu"


def test_an_orientation_in_xmp_does_not_turn_an_image_again(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" dc:title="kept"/></x:xmpmeta>'
    image = read_saved(tmp_path, RGB, "jpg", xmp=xmp, quality=95)
    assert image.metadata.xmp == xmp.replace(b'"6"', b'"1"')
    write_image(str(tmp_path / "again.png"), image, "png")
    assert read_image(str(tmp_path / "again.png")).pixels.shape == image.pixels.shape


def test_grey_of_16_bits_of_another_byte_order_stays(tmp_path):
    deep = np.random.default_rng(1).integers(0, 2**16, (6, 9), np.uint16)
    path = str(tmp_path / "grey.tif")
    tifffile.imwrite(path, deep, byteorder=">", photometric="minisblack")
    image = read_image(path)
    assert image.pixels.dtype == np.uint16
    np.testing.assert_array_equal(image.pixels[..., 0], deep)
    np.testing.assert_array_equal(read_rgb(path)[..., 1], deep >> 8)


def test_damaged_metadata_do_not_keep_an_image_from_being_read(tmp_path):
    data = saved(RGB, "jpg", exif=metadata()["exif"]).getvalue()
    rng = np.random.default_rng(0)
    path, start, left_out = tmp_path / "odd.jpg", data.index(b"Exif"), 0
    for _ in range(300):
        odd = bytearray(data)
        for place in rng.integers(start + 6, start + 200, 3):
            odd[place] = rng.integers(256)
        path.write_bytes(odd)
        try:
            left_out += read_image(str(path)).metadata.exif is None
        except ImageError:
            left_out += 1
    assert 0 < left_out < 300


@pytest.mark.parametrize(("form", "size"), [("webp", (1, 16_384)), ("jpeg", (65_501, 1))])
def test_what_is_too_large_for_a_format_is_refused(tmp_path, form, size):
    with pytest.raises(ImageError, match=f"becomes {size[1]}x{size[0]} pixels, {form} allows"):
        write_image(str(tmp_path / "large"), LoadedImage(np.zeros((*size, 3), np.uint8)), form)
    write_image(str(tmp_path / "large"), LoadedImage(np.zeros((*size, 3), np.uint8)), "png")


def test_metadata_too_long_for_jpeg_are_left_out(tmp_path):
    exif = metadata(ImageDescription="long" * 20_000)["exif"]
    path = str(tmp_path / "image.jpg")
    write_image(path, LoadedImage(RGB, Metadata(exif=exif, xmp=b"<x:xmpmeta/>")), "jpeg")
    assert read_image(path).metadata.exif is None and read_image(path).metadata.xmp == b"<x:xmpmeta/>"


def test_cmyk_becomes_srgb_without_its_profile(tmp_path):
    cmyk = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    image = read_saved(tmp_path, cmyk, "tif", icc_profile=profile())
    assert image.pixels[0, 0].tolist() == [255, 0, 0] and image.metadata.icc is None


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_metadata_is_read_from_every_format(tmp_path, ending):
    image = read_saved(tmp_path, RGB, ending, **metadata())
    assert image.metadata.icc == profile() + bytes(4)
    exif = Image.Exif()
    exif.load(image.metadata.exif)
    assert exif[ExifTags.Base.Artist] == "Nandu"
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    assert inner[ExifTags.Base.DateTimeOriginal] == "2020:02:03 04:05:06" and ExifTags.Base.ExifImageWidth not in inner
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("form", FORMATS)
def test_a_written_image_carries_what_its_format_can(tmp_path, form, channels, dtype):
    rng = np.random.default_rng(2)
    pixels = np.repeat(rng.integers(0, np.iinfo(dtype).max, (4, 5, channels), dtype), 8, 0).repeat(8, 1)
    icc = profile() if channels > 2 else profile(gamma=1.0)
    path = str(tmp_path / ("image" + FORMATS[form]))
    carried = Metadata(
        icc, metadata()["exif"], b"<x:xmpmeta/>", b"\x1c\x02\x19\0\x03cat", {"Comment": "Größe"}, (300, 300)
    )
    write_image(path, LoadedImage(pixels, carried), form)
    after = read_image(path)
    deep = dtype == np.uint16 and form in ("png", "tiff")
    assert after.pixels.dtype == (np.uint16 if deep else np.uint8)
    assert b"2020:02:03" in after.metadata.exif and b"<x:xmpmeta/>" in after.metadata.xmp
    assert after.metadata.dpi == pytest.approx((300, 300), abs=0.01)
    assert after.metadata.text == ({"Comment": "Größe"} if form in ("png", "jpeg") else {})
    assert after.metadata.iptc == (carried.iptc if form in ("jpeg", "tiff") else None)
    becomes_rgb = channels == 2 and deep and form == "tiff" or channels < 3 and form == "webp"
    assert after.metadata.icc == (None if becomes_rgb else icc)
    if form in ("png", "tiff"):
        expected = pixels[..., [0, 0, 0, 1]] if becomes_rgb else pixels
        np.testing.assert_array_equal(after.pixels, expected)
    elif channels % 2:
        expected = pixels >> 8 if dtype == np.uint16 else pixels
        assert np.abs(after.pixels.astype(int).mean((0, 1)) - expected.mean((0, 1))).max() < 5
    if form == "jpeg":
        assert after.pixels.shape[-1] == (1 if channels < 3 else 3)


@pytest.mark.parametrize("form", FORMATS)
def test_xmp_is_carried(tmp_path, form):
    path = str(tmp_path / ("image" + FORMATS[form]))
    write_image(path, LoadedImage(RGB, Metadata(xmp=b"<x:xmpmeta>Titel</x:xmpmeta>")), form)
    assert read_image(path).metadata.xmp.rstrip(b"\0") == b"<x:xmpmeta>Titel</x:xmpmeta>"


def test_what_is_transparent_is_white_in_jpeg(tmp_path):
    path = str(tmp_path / "image.jpg")
    write_image(path, LoadedImage(np.zeros((8, 8, 4), np.uint8)), "jpeg")
    assert (read_image(path).pixels > 250).all()
