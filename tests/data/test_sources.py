import hashlib
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import enlarged, random_image, save
from PIL import Image

import create_tfrecords
from pyimagesearch.data import pairs, sources, tfrecords
from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.errors import UserError


def test_lr_images_are_those_of_matlab(shared_data):
    hr = np.asarray(Image.open(shared_data / "Set5" / "HR" / "img_002.png").convert("RGB"))
    matlab = np.asarray(Image.open(shared_data / "Set5" / "LRx4" / "img_002.png").convert("RGB"))
    difference = pairs.shrink(hr, 4).astype(int) - matlab
    assert np.abs(difference[2:-2, 2:-2]).max() <= 1


def matlab_imresize(image, scale):
    """The result of MATLAB's `imresize(image, 1 / scale)`: antialiased bicubic interpolation, mirrored borders."""

    def along_rows(pixels):
        size = len(pixels)
        centres = np.arange(size // scale)[:, None] * scale + (scale - 1) / 2
        places = np.floor(centres).astype(int) + np.arange(-2 * scale, 2 * scale + 2)
        x = np.abs(places - centres) / scale
        weights = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
        weights = np.where(x < 2, weights, 0)
        mirrored = np.where(places < 0, -1 - places, np.where(places < size, places, 2 * size - 1 - places))
        return np.einsum("ij,ij...->i...", weights / weights.sum(1, keepdims=True), pixels[mirrored])

    reduced = along_rows(along_rows(image.astype(float)).swapaxes(0, 1)).swapaxes(0, 1)
    return np.clip(np.round(reduced), 0, 255)


@pytest.mark.parametrize("name", ["budgie", "skyline"])
def test_lr_images_are_those_of_matlabs_formula(name):
    hr = read_rgb(str(pathlib.Path(__file__).parents[2] / "docs" / "photographs" / "HR" / f"{name}.png"))
    difference = np.abs(pairs.shrink(hr, 4) - matlab_imresize(hr, 4))
    assert difference[2:-2, 2:-2].max() <= 1 and np.mean(difference[2:-2, 2:-2] > 0) < 1e-3
    assert difference.max() < 20  # only the border is treated otherwise


def test_the_sample_has_three_photographs_and_pieces_of_a_fourth():
    train, test = map(list, sources.sample(4, 144)[:2])
    assert [pair.name for pair in train] == ["astronaut", "coffee", "rocket"]
    assert {pair.name for pair in test} == {"chelsea"} and len(test) >= 4
    assert all(min(pair.hr.shape[:2]) >= 128 for pair in test)
    assert sum(pair.hr.shape[0] * pair.hr.shape[1] for pair in test) == 300 * 448


@pytest.mark.parametrize(("min_size", "pieces"), [(96, 6), (144, 6), (152, 1), (288, 1), (296, 1)])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_held_out_pieces_of_the_sample_are_as_large_as_is_needed(scale, min_size, pieces):
    test = list(sources.sample(scale, min_size).test)
    assert len(test) == pieces
    assert all(min(pair.hr.shape[:2]) >= min_size for pair in test)


def test_crops_larger_than_the_photographs_are_refused_with_a_size_that_works():
    with pytest.raises(UserError, match="crop size: 451x300 pixels are too small, 304x304 .*; choose at most 296$"):
        sources.sample(4, 304)
    with pytest.raises(
        UserError, match="crop size: 2040x1404 pixels are too small, 1408x1408 .*; choose at most 1400$"
    ):
        sources.div2k("div2k/bicubic_x4", 4, 1408)


def test_pieces_without_crops_tile_the_image(make_pair):
    pair = make_pair(31, 50)
    seen = np.zeros((31, 50), int)
    for piece in pairs.cut([pair], 64):
        height, width, _ = piece.lr.shape
        assert max(piece.hr.shape) <= 64
        place = np.s_[piece.top : piece.top + height, piece.left : piece.left + width]
        np.testing.assert_array_equal(piece.lr, pair.lr[place])
        np.testing.assert_array_equal(piece.hr, enlarged(piece.lr))
        seen[place] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 25), (61, 40), (100, 33)])
def test_each_position_of_a_crop_is_in_one_piece(make_pair, height, width):
    pair, crop = make_pair(height, width), 8
    places = np.zeros((height - crop + 1, width - crop + 1), int)
    for piece in pairs.cut([pair], 96, crop_size=4 * crop):
        rows, columns = (side - crop + 1 for side in piece.lr.shape[:2])
        assert max(piece.lr.shape) <= 24 and min(rows, columns) >= 1
        places[piece.top : piece.top + rows, piece.left : piece.left + columns] += 1
        assert piece.area == pytest.approx(16 * height * width * rows * columns / places.size)
    assert (places == 1).all()


class Div2k:
    """Small versions of DIV2K's four zip files, and the real builder with their checksums."""

    def __init__(self, folder):
        self.folder = folder
        self.hr = {f"{i:04d}": random_image(152, 160, i) for i in (1, 2, 3, 801)}
        self.lr = {name: pairs.shrink(hr, 4) for name, hr in self.hr.items()}
        self.zips = {}
        for split, names in (("train", ["0001", "0002", "0003"]), ("valid", ["0801"])):
            hr = {f"DIV2K_{split}_HR/{name}.png": self.hr[name] for name in names}
            lr = {f"DIV2K_{split}_LR_bicubic/X4/{name}x4.png": self.lr[name] for name in names}
            self._zip(f"DIV2K_{split}_HR.zip", hr)
            self._zip(f"DIV2K_{split}_LR_bicubic_X4.zip", lr)

    def _zip(self, name, images):
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            for member, image in images.items():
                save(self.folder / "member.png", image)
                archive.write(self.folder / "member.png", member)
        (self.folder / "member.png").unlink()
        data = path.read_bytes()
        checksum = hashlib.sha256(data).hexdigest()
        self.zips[name] = tfds.download.checksums.UrlInfo(size=len(data), checksum=checksum, filename=name)


@pytest.fixture
def div2k(tmp_path, monkeypatch):
    (tmp_path / "zips").mkdir()
    made = Div2k(tmp_path / "zips")
    builder = tfds.builder_cls("div2k")
    urls = builder.builder_configs["bicubic_x4"].download_urls.values()
    monkeypatch.setattr(builder, "url_infos", {url: made.zips[url.rsplit("/", 1)[1]] for url in urls})
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tensorflow_datasets"))
    return made


def test_div2k_comes_whole_from_the_genuine_builder(div2k, iterated):
    source = sources.div2k("div2k/bicubic_x4", 4, 96, str(div2k.folder))
    iterated.clear()
    train, test = list(source.train), list(source.test)
    assert [dataset.options().autotune.enabled for dataset in iterated] == [False, False]

    def images(pairs):
        return {(pair.lr.tobytes(), pair.hr.tobytes()) for pair in pairs}

    def expected(*names):
        return {(div2k.lr[name].tobytes(), div2k.hr[name].tobytes()) for name in names}

    assert images(train) == expected("0001", "0002", "0003")
    assert images(test) == expected("0801")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_command_makes_records_of_div2k(div2k, tmp_path, processes):
    records = tmp_path / "records"
    flags = ["--manual-dir", str(div2k.folder), "--records", str(records), "--preset", "demo"]
    assert create_tfrecords.main([*flags, "--processes", processes]) == 0
    shards = tfrecords.find_shards(str(records), "test", 4)
    ((lr, hr),) = tf.data.TFRecordDataset(shards).map(tfrecords.parse).as_numpy_iterator()
    np.testing.assert_array_equal(lr, div2k.lr["0801"])
    np.testing.assert_array_equal(hr, div2k.hr["0801"])
    assert len(tfrecords.locate_records(tfrecords.find_shards(str(records), "train", 4)).offsets) == 3


def test_images_of_div2k_that_are_smaller_than_the_crop_are_left_out(div2k, tmp_path, capsys):
    size = "160x152 pixels are too small, 160x160 are needed"
    source = sources.div2k("div2k/bicubic_x4", 4, 160, str(div2k.folder))
    assert {skipped.reason for part in source[:2] for skipped in part} == {size}
    flags = ["--records", str(tmp_path / "records"), "--processes", "1"]
    assert create_tfrecords.main([*flags, "--crop-size", "160"]) == 2
    assert capsys.readouterr().err.endswith(f"see skipped.csv in this folder; {list(source.train)[-1].name}: {size}\n")


def test_div2k_is_prepared_only_once(div2k):
    list(sources.div2k("div2k/bicubic_x4", 4, 96, str(div2k.folder)).test)
    shutil.rmtree(div2k.folder)
    assert len(list(sources.div2k("div2k/bicubic_x4", 4, 96).train)) == 3


def test_a_missing_zip_is_named_with_all_four_and_their_sizes(div2k):
    (div2k.folder / "DIV2K_valid_HR.zip").unlink()
    with pytest.raises(UserError, match="DIV2K_valid_HR.zip: missing; the folder needs") as caught:
        sources.div2k("div2k/bicubic_x4", 4, 96, str(div2k.folder))
    assert all(f"{name} ({info.size:,} bytes)" in str(caught.value) for name, info in div2k.zips.items())


def test_a_damaged_zip_is_refused(div2k):
    with open(div2k.folder / "DIV2K_valid_HR.zip", "r+b") as file:
        file.write(b"damage")
    with pytest.raises(UserError, match="DIV2K_valid_HR.zip: damaged") as caught:
        sources.div2k("div2k/bicubic_x4", 4, 96, str(div2k.folder))
    assert all(f"{name} ({info.size:,} bytes)" in str(caught.value) for name, info in div2k.zips.items())
