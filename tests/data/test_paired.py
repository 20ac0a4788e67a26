import shutil

import numpy as np
import pytest
from conftest import random_image, save

import create_tfrecords
import train_srgan
from pyimagesearch import data_preprocess
from pyimagesearch.data import paired, photographs, tfrecords
from pyimagesearch.data.sources import Skipped
from pyimagesearch.errors import UserError


@pytest.fixture
def root(tmp_path):
    """Three pairs that are no reductions of each other: of equal names, with x4, and of HR that is to be trimmed."""
    for name, lr_name, size in (("a", "a", (40, 48)), ("sub/b", "sub/bx4", (40, 40)), ("c", "cx4", (43, 50))):
        save(tmp_path / "HR" / f"{name}.png", random_image(*size, len(name)))
        save(tmp_path / "LR" / f"{lr_name}.bmp", random_image(size[0] // 4, size[1] // 4, 9))
    return tmp_path


def match(root, lr="LR"):
    return paired.match(photographs.folder(str(root / "HR"), 0.3, 4, 32, seed=1), str(root / lr))


def pairs(root):
    """All pairs below a folder by their names, and the skipped images."""
    source = match(root)
    found = [*source.train, *source.test]
    skipped = [*source.skipped, *(one for one in found if isinstance(one, Skipped))]
    return {pair.name: pair for pair in found if not isinstance(pair, Skipped)}, skipped


def test_pairs_are_matched_by_name_and_taken_as_they_are(root):
    found, skipped = pairs(root)
    assert set(found) == {"a.png", "sub/b.png", "c.png"} and skipped == []
    for name, size in (("a", (40, 48)), ("sub/b", (40, 40)), ("c", (43, 50))):
        height, width = size[0] // 4, size[1] // 4
        np.testing.assert_array_equal(found[f"{name}.png"].lr, random_image(height, width, 9))
        np.testing.assert_array_equal(
            found[f"{name}.png"].hr, random_image(*size, len(name))[: 4 * height, : 4 * width]
        )


def test_pairs_are_held_out_together_and_can_be_read_in_parts(root):
    source = match(root)
    assert (len(list(source.train)), len(list(source.test))) == (2, 1)
    assert [pair.name for pair in source.train.part(1, 2)] == [list(source.train)[1].name]
    assert source.train.sizes == [pair.hr.shape[:2] for pair in source.train]


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        (lambda root: (root / "LR" / "a.bmp").unlink(), "a.png", "no image of that name in {LR}"),
        (lambda root: save(root / "LR" / "d.png", random_image(9, 9)), "{LR}/d.png", "no image of that name in {HR}"),
        (lambda root: save(root / "LR" / "ax4.png", random_image(10, 12)), "a.png", "2 images of that name in {LR}"),
        (
            lambda root: save(root / "LR" / "a.bmp", random_image(10, 13)),
            "a.png",
            "48x40 pixels are not 4 times 13x10, the size of its low-resolution image",
        ),
        (
            lambda root: save(root / "LR" / "cx4.bmp", random_image(9, 12)),
            "c.png",
            "50x43 pixels are not 4 times 12x9, the size of its low-resolution image",
        ),
        (lambda root: (root / "LR" / "a.bmp").write_bytes(b""), "a.png", "{LR}/a.bmp: an empty file"),
        (
            lambda root: save(root / "HR" / "a.jpg", random_image(40, 48)),
            "a.png",
            "its low-resolution image already belongs to a.jpg",
        ),
        (
            lambda root: save(root / "HR" / "a.png", random_image(31, 48)),
            "a.png",
            "48x31 pixels are too small, 32x32 are needed",
        ),
        (lambda root: truncate(root / "HR" / "a.png"), "{HR}/a.png", "damaged, or not an image"),
        (lambda root: truncate(root / "LR" / "a.bmp"), "{LR}/a.bmp", "damaged, or not an image"),
    ],
)
def test_what_does_not_match_is_listed_with_its_reason(root, change, name, reason):
    change(root)
    found, skipped = pairs(root)
    folders = {"HR": root / "HR", "LR": root / "LR"}
    assert skipped == [Skipped(name.format(**folders), reason.format(**folders))]
    assert {"sub/b.png", "c.png"} - {name} <= set(found)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_pairs_of_two_folders_are_trained_on_and_held_out(root):
    shutil.copytree(root / "HR" / "sub", root / "test" / "HR")
    shutil.copytree(root / "LR" / "sub", root / "test" / "LR")
    photographed = photographs.folders(str(root / "HR"), str(root / "test" / "HR"), 4, 32)
    source = paired.match(photographed, str(root / "LR"), str(root / "test" / "LR"))
    assert [pair.name for pair in source.train] == ["a.png", "c.png"]
    assert [pair.name for pair in source.test] == ["b.png"]
    assert source.skipped == [Skipped("sub/b.png", f"the same file as {root}/test/HR/b.png")]


@pytest.mark.parametrize("unmatched", ["a.bmp", "cx4.bmp", "sub/bx4.bmp"])
def test_a_pair_is_held_out_whichever_photograph_has_no_match(root, unmatched):
    (root / "LR" / unmatched).unlink()
    source = match(root)
    assert (len(list(source.train)), len(list(source.test))) == (1, 1)


def test_folders_without_pairs_are_refused(root):
    with pytest.raises(UserError, match="nowhere: no such folder; give the folder of the low-resolution"):
        match(root, "nowhere")
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no images in it"):
        match(root, "empty")
    with pytest.raises(UserError, match="HR: no image matches an image in .*HR; a.png: 48x40 pixels are not 4"):
        match(root, "HR")
    for name in ("a.bmp", "cx4.bmp"):
        save(root / "LR" / name, random_image(5, 5))
    with pytest.raises(UserError, match="LR: one pair cannot be split"):
        match(root)


def test_pairs_become_records_that_are_not_degraded_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        save(tmp_path / "HR" / f"{seed}.png", random_image(144, 160, seed))
        save(tmp_path / "LR" / f"{seed}x4.png", random_image(36, 40, seed + 10))
    save(tmp_path / "LR" / "other.png", random_image(36, 40))
    both = ["--preset", "demo", "--records", "tfrecord"]
    assert create_tfrecords.main([*both, "--images", "HR", "--lr-images", "LR"]) == 0
    assert "1 photographs were skipped" in capsys.readouterr().out
    assert (tmp_path / "tfrecord" / "skipped.csv").read_text() == (
        "name,reason\nLR/other.png,no image of that name in HR\n"
    )
    (lr, hr), *_ = data_preprocess.load_test_pairs(tfrecords.find_shards("tfrecord", "test", 4), 1, 144)
    seed = next(seed for seed in range(3) if (random_image(144, 160, seed)[:, 8:152] == hr[0]).all())
    np.testing.assert_array_equal(lr[0], random_image(36, 40, seed + 10)[:, 2:38])
    assert train_srgan.main([*both, "--degradation", "photo"]) == 2
    assert "tfrecord: has given low-resolution images" in capsys.readouterr().err
