import hashlib
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import random_image, save

import create_tfrecords
from pyimagesearch.data import div2k, pairs, tfrecords
from pyimagesearch.errors import UserError


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
def small_div2k(tmp_path, monkeypatch):
    (tmp_path / "zips").mkdir()
    made = Div2k(tmp_path / "zips")
    builder = tfds.builder_cls("div2k")
    urls = builder.builder_configs["bicubic_x4"].download_urls.values()
    monkeypatch.setattr(builder, "url_infos", {url: made.zips[url.rsplit("/", 1)[1]] for url in urls})
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tensorflow_datasets"))
    return made


def test_div2k_comes_whole_from_the_genuine_builder(small_div2k, iterated):
    source = div2k.source("div2k/bicubic_x4", 4, 96, str(small_div2k.folder))
    iterated.clear()
    train, test = list(source.train), list(source.test)
    assert [dataset.options().autotune.enabled for dataset in iterated] == [False, False]

    def images(pairs):
        return {(pair.lr.tobytes(), pair.hr.tobytes()) for pair in pairs}

    def expected(*names):
        return {(small_div2k.lr[name].tobytes(), small_div2k.hr[name].tobytes()) for name in names}

    assert images(train) == expected("0001", "0002", "0003")
    assert images(test) == expected("0801")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_command_makes_records_of_div2k(small_div2k, tmp_path, processes):
    records = tmp_path / "records"
    flags = ["--manual-dir", str(small_div2k.folder), "--records", str(records), "--preset", "demo"]
    assert create_tfrecords.main([*flags, "--processes", processes]) == 0
    shards = tfrecords.find_shards(str(records), "test", 4)
    ((lr, hr),) = tf.data.TFRecordDataset(shards).map(tfrecords.parse).as_numpy_iterator()
    np.testing.assert_array_equal(lr, small_div2k.lr["0801"])
    np.testing.assert_array_equal(hr, small_div2k.hr["0801"])
    assert len(tfrecords.locate_records(tfrecords.find_shards(str(records), "train", 4)).offsets) == 3


def test_images_of_div2k_that_are_smaller_than_the_crop_are_left_out(small_div2k, tmp_path, capsys):
    size = "160x152 pixels are too small, 160x160 are needed"
    source = div2k.source("div2k/bicubic_x4", 4, 160, str(small_div2k.folder))
    assert {skipped.reason for part in source[:2] for skipped in part} == {size}
    flags = ["--records", str(tmp_path / "records"), "--processes", "1"]
    assert create_tfrecords.main([*flags, "--crop-size", "160"]) == 2
    assert capsys.readouterr().err.endswith(f"see skipped.csv in this folder; {list(source.train)[-1].name}: {size}\n")


def test_div2k_is_prepared_only_once(small_div2k):
    list(div2k.source("div2k/bicubic_x4", 4, 96, str(small_div2k.folder)).test)
    shutil.rmtree(small_div2k.folder)
    assert len(list(div2k.source("div2k/bicubic_x4", 4, 96).train)) == 3


def test_a_missing_zip_is_named_with_all_four_and_their_sizes(small_div2k):
    (small_div2k.folder / "DIV2K_valid_HR.zip").unlink()
    with pytest.raises(UserError, match="DIV2K_valid_HR.zip: missing; the folder needs") as caught:
        div2k.source("div2k/bicubic_x4", 4, 96, str(small_div2k.folder))
    assert all(f"{name} ({info.size:,} bytes)" in str(caught.value) for name, info in small_div2k.zips.items())


def test_a_damaged_zip_is_refused(small_div2k):
    with open(small_div2k.folder / "DIV2K_valid_HR.zip", "r+b") as file:
        file.write(b"damage")
    with pytest.raises(UserError, match="DIV2K_valid_HR.zip: damaged") as caught:
        div2k.source("div2k/bicubic_x4", 4, 96, str(small_div2k.folder))
    assert all(f"{name} ({info.size:,} bytes)" in str(caught.value) for name, info in small_div2k.zips.items())


def test_crops_larger_than_the_photographs_are_refused_with_a_size_that_works():
    said = "crop size: 2040x1404 pixels are too small, 1408x1408 .*; choose at most 1400$"
    with pytest.raises(UserError, match=said):
        div2k.source("div2k/bicubic_x4", 4, 1408)
