import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import picture, save

from pyimagesearch.data import photographs
from pyimagesearch.data.photographs import find_pictures, folder, folders
from pyimagesearch.data.sources import Skipped
from pyimagesearch.errors import UserError


@pytest.fixture
def root(tmp_path):
    """A folder with three pictures, one of them in a subfolder with an umlaut, and something else."""
    save(tmp_path / "a.png", picture(45, 50, 1))
    save(tmp_path / "Größe" / "b c.png", picture(40, 40, 2))
    save(tmp_path / "z.JPG", picture(48, 44, 3))
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


@pytest.fixture
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held out")
    save(folder / "test.png", picture(40, 40, 9))
    return folder


def read(root, held_out, min_size=32):
    """The training part of two folders, and what is skipped."""
    source = folders(str(root), str(held_out), 4, min_size)
    return {pair.name: pair for pair in source.train}, source.skipped


def test_photographs_are_found_in_subfolders(root):
    assert find_pictures(str(root)).names == ["Größe/b c.png", "a.png", "z.JPG"]


def test_a_photograph_becomes_a_pair_trimmed_to_the_scale(root, held_out):
    pairs, skipped = read(root, held_out)
    hr = picture(45, 50, 1)[:44, :48]
    np.testing.assert_array_equal(pairs["a.png"].hr, hr)
    expected = tf.image.resize(hr, (11, 12), "bicubic", antialias=True).numpy().round().clip(0, 255)
    np.testing.assert_array_equal(pairs["a.png"].lr, expected)
    assert set(pairs) == {"Größe/b c.png", "a.png", "z.JPG"} and skipped == []


def test_a_part_reads_its_pictures_alone(root, held_out):
    train = folders(str(root), str(held_out), 4, 32).train
    assert [pair.name for pair in train.part(1, 3)] == ["a.png", "z.JPG"]
    assert train.part(1, 3).sizes == [(45, 50), (48, 44)]


def test_a_fraction_is_held_out_by_the_seed(root):
    def names(seed):
        source = folder(str(root), 0.4, 4, 32, seed)
        return [pair.name for pair in source.train], [pair.name for pair in source.test]

    train, test = names(1)
    assert (len(train), len(test)) == (2, 1) and set(train).isdisjoint(test)
    assert names(1) == (train, test)
    assert len({names(seed)[1][0] for seed in range(20)}) == 3


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_both_splits_get_a_photograph(root, fraction):
    source = folder(str(root), fraction, 4, 32, 42)
    assert list(source.train) and list(source.test)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: no photographs"):
        find_pictures(str(tmp_path))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        find_pictures(str(tmp_path / "nowhere"))


def test_what_is_of_no_kind_read_is_told_and_noted(root, held_out, caplog):
    for name in ("video.mpg", "Größe/more.txt", "README"):
        (root / name).write_text("no photograph")
    caplog.set_level("INFO")
    source = folders(str(root), str(held_out), 4, 32)
    assert f"{root}: left out what is of no kind read: 2 .txt, 1 without an ending, 1 .mpg" in caplog.messages
    assert {name for name, _ in source.unread} == {"video.mpg", "Größe/more.txt", "README", "notes.txt"}
    assert source.skipped == []
    assert len(folder(str(root), 0.4, 4, 32, 1).unread) == 4


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".jp2", ".ppm", ".tga"])
def test_rarer_endings_are_those_of_photographs_too(tmp_path, ending):
    save(tmp_path / f"a{ending}", picture(40, 40))
    save(tmp_path / "b.png", picture(40, 40, 1))
    source = folder(str(tmp_path), 0.5, 4, 32, 42)
    assert {pair.name for pair in [*source.train, *source.test]} == {f"a{ending}", "b.png"}


@pytest.mark.parametrize("images", ["photos", "./photos", "{}/photos", "link"])
@pytest.mark.parametrize("test_images", ["photos/test", "./photos/../photos/test", "{}/photos/test", "link/test"])
def test_what_is_held_out_within_the_photographs_is_not_trained_on(tmp_path, monkeypatch, images, test_images):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photos" / "a.png", picture(40, 40, 1))
    save(tmp_path / "photos" / "test" / "b.png", picture(40, 40, 2))
    (tmp_path / "link").symlink_to("photos")
    source = folders(images.format(tmp_path), test_images.format(tmp_path), 4, 32)
    assert [pair.name for pair in source.train] == ["a.png"] and [pair.name for pair in source.test] == ["b.png"]
    assert source.skipped == []


@pytest.mark.parametrize("test_images", [".", "{}", "more/.."])
def test_photographs_that_are_all_held_out_are_refused(root, monkeypatch, test_images):
    (root / "more").mkdir()
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match="all of its photographs are among the test images"):
        folders(str(root), test_images.format(root), 4, 32)


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_photograph_by_two_names_is_used_once(root, held_out, make):
    make(root / "a.png", root / "b.png")
    pairs, skipped = read(root, held_out)
    assert "b.png" not in pairs and skipped == [Skipped("b.png", f"the same file as {root}/a.png")]


def test_one_photograph_cannot_be_split(tmp_path):
    save(tmp_path / "only.png", picture(40, 40))
    with pytest.raises(UserError, match="test images"):
        folder(str(tmp_path), 0.1, 4, 32, 42)


def test_what_is_no_picture_by_its_header_is_left_out(root, held_out):
    (root / "a.png").write_bytes(b"")
    pairs, skipped = read(root, held_out)
    assert set(pairs) == {"Größe/b c.png", "z.JPG"}
    assert skipped == [Skipped("a.png", "an empty file")]


def test_a_truncated_picture_is_met_when_it_is_read(root, held_out):
    path = root / "a.png"
    path.write_bytes(path.read_bytes()[:500])
    found = list(folders(str(root), str(held_out), 4, 32).train)
    assert found[1] == Skipped("a.png", "damaged, or not a picture") and len(found) == 3


def test_a_picture_smaller_than_the_crop_is_left_out(root, held_out):
    pairs, skipped = read(root, root.parent / held_out, min_size=40)
    assert len(pairs) == 3 and not skipped
    save(root / "small.png", picture(39, 400))
    pairs, skipped = read(root, held_out, min_size=40)
    assert len(pairs) == 3
    assert skipped == [Skipped("small.png", "400x39 pixels are too few, 40x40 are needed")]


def test_the_same_file_is_used_once(root, held_out):
    shutil.copy(root / "a.png", root / "b.png")
    pairs, skipped = read(root, held_out)
    assert "b.png" not in pairs and skipped == [Skipped("b.png", f"the same file as {root}/a.png")]


def test_what_is_held_out_is_not_trained_on(root, held_out):
    shutil.copy(held_out / "test.png", root / "Größe" / "again.png")
    pairs, skipped = read(root, held_out)
    assert "Größe/again.png" not in pairs
    assert skipped == [Skipped("Größe/again.png", f"the same file as {held_out}/test.png")]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "too large for the memory of this machine"),
        (tf.errors.ResourceExhaustedError(None, None, ""), "too large for the memory of this machine"),
        (OSError(5, "Input/output error"), "cannot be read: Input/output error"),
        (KeyError(7), "a fault of this program (KeyError: 7); please report it, with the file"),
    ],
)
@pytest.mark.parametrize("step", ["read_size", "read_rgb", "make_pair"])
def test_whatever_happens_to_one_photograph_the_rest_goes_on(root, held_out, monkeypatch, step, error, said):
    right = getattr(photographs, step)

    def wrong(name, *args):
        if name.endswith("a.png"):
            raise error
        return right(name, *args)

    monkeypatch.setattr(photographs, step, wrong)
    source = folders(str(root), str(held_out), 4, 32)
    found = [*source.train, *source.skipped]
    assert Skipped("a.png", said) in found and len([pair for pair in found if not isinstance(pair, Skipped)]) == 2


def test_if_nothing_can_be_used_an_example_tells_why(held_out, tmp_path):
    save(tmp_path / "a.png", picture(8, 8))
    save(tmp_path / "b.png", picture(9, 9))
    with pytest.raises(UserError, match=f"{tmp_path}: none of 2 photographs can be used; b.png: 9x9 pixels are too"):
        read(tmp_path, held_out)


def test_names_that_are_no_text_are_shown_in_part(held_out, tmp_path):
    save(tmp_path / "good.png", picture(40, 40))
    try:
        with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"), "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes text only")
    _, skipped = read(tmp_path, held_out)
    assert skipped == [Skipped(r"caf\xe9.png", "an empty file")]
