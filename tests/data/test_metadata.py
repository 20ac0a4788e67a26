"""Metadata are written in each format, and read again by the program, Pillow and OpenCV."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, IptcImagePlugin

from pyimagesearch.data.image_io import FORMATS, LoadedImage, read_image, write_image
from pyimagesearch.data.metadata import Metadata, clean_exif, fitting_profile, mended_xmp

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def rewritten(path, form, pixels=None):
    """Read a file, write it in a format with its metadata, open the result with all three readers, and read it."""
    before = read_image(str(path))
    target = str(path) + " result" + FORMATS[form]
    write_image(target, LoadedImage(before.pixels if pixels is None else pixels, before.metadata), form)
    with Image.open(target) as image:
        image.load()
        assert image.size == before.pixels.shape[1::-1]
        valid = image.getexif()
        assert all(isinstance(valid[tag], (str, int, bytes, tuple, float, dict)) or valid[tag] for tag in valid)
    assert cv2.imread(target, cv2.IMREAD_UNCHANGED).shape[:2] == before.pixels.shape[:2]
    return read_image(target).metadata


def exif_in(metadata):
    exif = Image.Exif()
    exif.load(metadata.exif)
    return exif


@pytest.mark.parametrize("form", FORMATS)
def test_a_tag_of_a_bigtiff_is_carried(tmp_path, form):
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", bigtiff=True, software="my scanner", metadata=None)
    assert exif_in(rewritten(path, form))[ExifTags.Base.Software] == "my scanner"


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {"metadata": {"axes": "YXS"}}])
@pytest.mark.parametrize("form", FORMATS)
def test_descriptions_that_programs_write_for_themselves_are_dropped(tmp_path, form, options):
    path = tmp_path / "of a microscope.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", **options)
    assert tifffile.TiffFile(path).pages[0].description
    carried = rewritten(path, form)
    assert carried.exif is None or ExifTags.Base.ImageDescription not in exif_in(carried)


@pytest.mark.parametrize("form", FORMATS)
def test_text_of_png_is_kept_if_the_format_supports_it(tmp_path, form):
    path = tmp_path / "text.png"
    Image.fromarray(RGB).save(path)
    before = LoadedImage(
        RGB, Metadata(text={"Title": "Kätzchen", "Author": "someone", "parameters": "steps: 20", "Comment": "ß"})
    )
    write_image(str(path), before, "png")
    carried = rewritten(path, form)
    if form == "png":
        assert carried.text == before.metadata.text and carried.exif is None
    else:
        exif = exif_in(carried)
        assert exif[ExifTags.Base.Artist] == "someone"
        assert exif[ExifTags.Base.ImageDescription].encode("latin-1").decode() == "Kätzchen"
        assert carried.text == ({"Comment": "ß"} if form == "jpeg" else {})


@pytest.mark.parametrize("form", ["jpeg", "tiff"])
def test_keywords_of_iptc_are_carried(tmp_path, form):
    path = tmp_path / "iptc.jpg"
    write_image(
        str(path), LoadedImage(RGB, Metadata(iptc=b"\x1c\x02\x19\0\x06kitten\x1c\x02\x78\0\x07caption")), "jpeg"
    )
    rewritten(path, form)
    with Image.open(str(path) + " result" + FORMATS[form]) as image:
        assert IptcImagePlugin.getiptcinfo(image) == {(2, 25): b"kitten", (2, 120): b"caption"}


@pytest.mark.parametrize("unit", [2, 3])
@pytest.mark.parametrize("source", ["jfif", "exif", "png", "tiff"])
@pytest.mark.parametrize("form", FORMATS)
def test_the_resolution_is_carried(tmp_path, form, source, unit):
    path, sides = tmp_path / f"image.{'jpg' if source in ('jfif', 'exif') else source}", (300, 150)
    if source == "exif":
        exif = Image.Exif()
        across, down = (side / (1 if unit == 2 else 2.54) for side in sides)
        exif.update(
            {ExifTags.Base.XResolution: across, ExifTags.Base.YResolution: down, ExifTags.Base.ResolutionUnit: unit}
        )
        data = io.BytesIO()
        Image.fromarray(RGB).save(data, "jpeg", exif=exif)
        path.write_bytes(data.getvalue())
    else:
        Image.fromarray(RGB).save(path, dpi=sides)
    assert rewritten(path, form).dpi == pytest.approx(sides, abs=1)
    with Image.open(str(path) + " result" + FORMATS[form]) as image:
        told = image.info.get("dpi") or [
            image.getexif()[tag] for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
        ]
        assert tuple(map(float, told)) == pytest.approx(sides, abs=1)


@pytest.mark.parametrize("text", ["Müller", "Łukasz", "写真家"])
@pytest.mark.parametrize("form", FORMATS)
def test_text_of_exif_keeps_its_letters(tmp_path, form, text):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = text.encode()
    path = tmp_path / "image.jpg"
    Image.fromarray(RGB).save(path, exif=exif)
    assert exif_in(rewritten(path, form))[ExifTags.Base.Artist].encode("latin-1").decode() == text


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_what_png_says_of_its_values_goes_to_png_alone(tmp_path, form, deep):
    chunks = {b"gAMA": struct.pack(">I", 100_000), b"cICP": bytes([9, 16, 0, 1])}
    path = tmp_path / "linear.png"
    data = cv2.imencode(".png", RGB.astype(np.uint16) * 257 if deep else RGB)[1].tobytes()
    path.write_bytes(data[:33] + b"".join(chunk(*pair) for pair in chunks.items()) + data[33:])
    carried = rewritten(path, form)
    assert carried.png_colour == (chunks if form == "png" else {})
    result = (tmp_path / f"linear.png result{FORMATS[form]}").read_bytes()
    assert all(result.count(name) == (form == "png") for name in chunks)


@pytest.mark.parametrize("form", FORMATS)
def test_a_profile_of_other_colours_is_dropped(tmp_path, form):
    path = tmp_path / "grey.png"
    Image.fromarray(RGB[..., 0]).save(path, icc_profile=SRGB)
    assert rewritten(path, form).icc is None
    with Image.open(str(path) + " result" + FORMATS[form]) as image:
        assert "icc_profile" not in image.info


@pytest.mark.parametrize("icc", [b"", b"no profile", SRGB[:200], bytes(200), SRGB[:16] + b"CMYK" + SRGB[20:]])
def test_a_profile_that_is_none_does_not_fit(icc):
    assert fitting_profile(icc, 3) is None and fitting_profile(SRGB, 3) == SRGB


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_colour_that_png_declares_transparent_is_transparent(tmp_path, mode, deep):
    pixels = RGB.astype(np.uint16) * 257 if deep else RGB
    pixels = pixels if mode == "RGB" else pixels[..., 0]
    key = np.atleast_1d(pixels[3, 4])
    path = tmp_path / "key.png"
    data = cv2.imencode(".png", pixels[..., ::-1] if mode == "RGB" else pixels)[1].tobytes()
    key_chunk = chunk(b"tRNS", struct.pack(f">{len(key)}H", *map(int, key)))
    path.write_bytes(data[:33] + key_chunk + data[33:])
    read = read_image(str(path)).pixels
    assert read[3, 4, -1] == 0 and read.shape[-1] == len(key) + 1 and (read[..., -1] == 0).sum() < 5
    rewritten(path, "png")
    np.testing.assert_array_equal(read_image(str(path) + " result.png").pixels, read)


def test_exif_that_cannot_be_written_is_left_out_tag_by_tag():
    main = {ExifTags.Base.Artist: "kept", ExifTags.Base.Rating: "no number", ExifTags.Base.Copyright: object()}
    exif = exif_in(Metadata(exif=clean_exif(main, {ExifTags.IFD.GPSInfo: {1: "N", 2: "nowhere"}})))
    assert dict(exif.get_ifd(ExifTags.IFD.GPSInfo))[1] == "N" and exif[ExifTags.Base.Artist] == "kept"
    assert ExifTags.Base.Copyright not in exif
    assert clean_exif({}, {}) is None


def test_xmp_says_nothing_of_what_only_the_old_file_holds():
    gone = b'tiff:ImageWidth="9" ', b'hdrgm:Version="1.0" ', b"<tiff:ImageLength>7</tiff:ImageLength>"
    said = b'<rdf:D %stiff:Orientation="6" %sdc:title="kept">%s</rdf:D>'
    assert mended_xmp(said % gone) == said.replace(b"6", b"1") % (b"", b"", b"")
    assert mended_xmp("text") is mended_xmp(None) is None


def test_metadata_hidden_in_text_do_not_turn_an_image_again(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    hidden = f"\nexif\n      {len(exif.tobytes())}\n{exif.tobytes().hex()}\n"
    path = tmp_path / "of ImageMagick.png"
    write_image(str(path), LoadedImage(RGB, Metadata(text={"Raw profile type exif": hidden})), "png")
    assert read_image(str(path)).pixels.shape == (16, 12, 3)
    assert rewritten(path, "png").text == {}
    assert read_image(str(path) + " result.png").pixels.shape == (16, 12, 3)
