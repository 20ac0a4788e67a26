import hashlib
import os
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import enlarged
from PIL import Image

from pyimagesearch import sources
from pyimagesearch.errors import UserError


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def photographs(tmp_path):
    """A folder with three pictures, one of them in a subfolder with an umlaut, and something else."""
    save(tmp_path / "a.png", picture(45, 50, 1))
    save(tmp_path / "Größe" / "b c.png", picture(40, 40, 2))
    save(tmp_path / "z.JPG", picture(48, 44, 3))
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_photographs_are_found_in_subfolders(photographs):
    names = [os.path.relpath(path, photographs) for path in sources.find_pictures(str(photographs))]
    assert names == ["Größe/b c.png", "a.png", "z.JPG"]


def test_a_photograph_becomes_a_pair_trimmed_to_the_scale(photographs):
    pairs = {pair.name: pair for pair in sources.folders(str(photographs), str(photographs), 4, 32).train}
    hr = picture(45, 50, 1)[:44, :48]
    np.testing.assert_array_equal(pairs["a.png"].hr, hr)
    expected = tf.image.resize(hr, (11, 12), "bicubic", antialias=True).numpy().round().clip(0, 255)
    np.testing.assert_array_equal(pairs["a.png"].lr, expected)


def test_turned_and_grey_pictures_become_upright_rgb(tmp_path):
    image = Image.fromarray(picture(40, 60)[..., 0])
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    (pair,) = sources.folders(str(tmp_path), str(tmp_path), 4, 32).train
    np.testing.assert_array_equal(pair.hr, np.rot90(np.repeat(picture(40, 60)[..., :1], 3, axis=-1), -1))


def test_a_fraction_is_held_out_by_the_seed(photographs):
    def names(seed):
        source = sources.folder(str(photographs), 0.4, 4, 32, seed)
        return [pair.name for pair in source.train], [pair.name for pair in source.test]

    train, test = names(1)
    assert (len(train), len(test)) == (2, 1) and set(train).isdisjoint(test)
    assert names(1) == (train, test)
    assert len({names(seed)[1][0] for seed in range(20)}) == 3


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_both_splits_get_a_photograph(photographs, fraction):
    source = sources.folder(str(photographs), fraction, 4, 32, 42)
    assert list(source.train) and list(source.test)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: no photographs"):
        sources.find_pictures(str(tmp_path))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        sources.find_pictures(str(tmp_path / "nowhere"))


def test_one_photograph_cannot_be_split(tmp_path):
    save(tmp_path / "only.png", picture(40, 40))
    with pytest.raises(UserError, match="--test-images"):
        sources.folder(str(tmp_path), 0.1, 4, 32, 42)


def test_an_unreadable_picture_is_named(photographs):
    path = photographs / "a.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="a.png: not a readable picture"):
        list(sources.folders(str(photographs), str(photographs), 4, 32).train)


def test_a_picture_smaller_than_the_crop_is_named(photographs):
    with pytest.raises(UserError, match=r"b c.png: 40x40 pixels are too few, 44x44"):
        list(sources.folders(str(photographs), str(photographs), 4, 44).train)


def test_lr_pictures_are_those_of_matlab(shared_data):
    hr = np.asarray(Image.open(shared_data / "Set5" / "HR" / "img_002.png").convert("RGB"))
    matlab = np.asarray(Image.open(shared_data / "Set5" / "LRx4" / "img_002.png").convert("RGB"))
    difference = sources.shrink(hr, 4).astype(int) - matlab
    assert np.abs(difference[2:-2, 2:-2]).max() <= 1


def test_the_sample_has_three_photographs_and_pieces_of_a_fourth():
    train, test = (list(pairs) for pairs in sources.sample(4))
    assert [pair.name for pair in train] == ["astronaut", "coffee", "rocket"]
    assert {pair.name for pair in test} == {"chelsea"} and len(test) >= 4
    assert all(min(pair.hr.shape[:2]) >= 128 for pair in test)
    assert sum(pair.hr.shape[0] * pair.hr.shape[1] for pair in test) == 300 * 448


def test_pieces_without_crops_tile_the_picture(make_pair):
    pair = make_pair(31, 50)
    seen = np.zeros((31, 50), int)
    for piece in sources.cut([pair], 64):
        height, width, _ = piece.lr.shape
        assert max(piece.hr.shape) <= 64
        place = np.s_[piece.top : piece.top + height, piece.left : piece.left + width]
        np.testing.assert_array_equal(piece.lr, pair.lr[place])
        np.testing.assert_array_equal(piece.hr, enlarged(piece.lr))
        seen[place] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 25), (61, 40), (100, 33)])
def test_each_place_for_a_crop_is_in_one_piece(make_pair, height, width):
    pair, crop = make_pair(height, width), 8
    places = np.zeros((height - crop + 1, width - crop + 1), int)
    for piece in sources.cut([pair], 96, crop_size=4 * crop):
        rows, columns = (side - crop + 1 for side in piece.lr.shape[:2])
        assert max(piece.lr.shape) <= 24 and min(rows, columns) >= 1
        places[piece.top : piece.top + rows, piece.left : piece.left + columns] += 1
    assert (places == 1).all()


class Div2k:
    """DIV2K's four zip files, tiny, and the genuine builder with their checksums in place of the true ones."""

    def __init__(self, folder):
        self.folder = folder
        self.hr = {f"{i:04d}": picture(120, 140, i) for i in (1, 2, 3, 801)}
        self.lr = {name: sources.shrink(hr, 4) for name, hr in self.hr.items()}
        self.zips = {}
        for split, names in (("train", ["0001", "0002", "0003"]), ("valid", ["0801"])):
            hr = {f"DIV2K_{split}_HR/{name}.png": self.hr[name] for name in names}
            lr = {f"DIV2K_{split}_LR_bicubic/X4/{name}x4.png": self.lr[name] for name in names}
            self._zip(f"DIV2K_{split}_HR.zip", hr)
            self._zip(f"DIV2K_{split}_LR_bicubic_X4.zip", lr)

    def _zip(self, name, pictures):
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            for member, image in pictures.items():
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


def test_div2k_comes_whole_from_the_genuine_builder(div2k):
    source = sources.div2k("div2k/bicubic_x4", str(div2k.folder))
    train, test = list(source.train), list(source.test)

    def pictures(pairs):
        return {(pair.lr.tobytes(), pair.hr.tobytes()) for pair in pairs}

    def expected(*names):
        return {(div2k.lr[name].tobytes(), div2k.hr[name].tobytes()) for name in names}

    assert pictures(train) == expected("0001", "0002", "0003")
    assert pictures(test) == expected("0801")


def test_div2k_is_prepared_only_once(div2k):
    list(sources.div2k("div2k/bicubic_x4", str(div2k.folder)).test)
    shutil.rmtree(div2k.folder)
    assert len(list(sources.div2k("div2k/bicubic_x4").train)) == 3


def test_a_missing_zip_is_named_with_all_four_and_their_sizes(div2k):
    (div2k.folder / "DIV2K_valid_HR.zip").unlink()
    with pytest.raises(UserError, match="DIV2K_valid_HR.zip: missing; --manual-dir needs") as caught:
        sources.div2k("div2k/bicubic_x4", str(div2k.folder))
    assert all(f"{name} ({info.size:,} bytes)" in str(caught.value) for name, info in div2k.zips.items())


def test_a_damaged_zip_is_refused(div2k):
    with open(div2k.folder / "DIV2K_valid_HR.zip", "r+b") as file:
        file.write(b"damage")
    with pytest.raises(UserError, match="DIV2K_valid_HR.zip"):
        sources.div2k("div2k/bicubic_x4", str(div2k.folder))
