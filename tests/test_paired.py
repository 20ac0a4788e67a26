import shutil

import numpy as np
import pytest
from conftest import picture, save

from pyimagesearch import paired
from pyimagesearch.errors import UserError
from pyimagesearch.sources import Skipped


@pytest.fixture
def root(tmp_path):
    """Three pairs that are no reductions of each other: of equal names, with x4, and of HR that is to be trimmed."""
    for name, lr_name, size in (("a", "a", (40, 48)), ("sub/b", "sub/bx4", (40, 40)), ("c", "cx4", (43, 50))):
        save(tmp_path / "HR" / f"{name}.png", picture(*size, len(name)))
        save(tmp_path / "LR" / f"{lr_name}.bmp", picture(size[0] // 4, size[1] // 4, 9))
    return tmp_path


def pairs(root):
    """All pairs below a folder by their names, and what is skipped."""
    source = paired.folder(str(root / "HR"), str(root / "LR"), 0.3, 4, 32, seed=1)
    found = [*source.train, *source.test]
    skipped = [*source.skipped, *(one for one in found if isinstance(one, Skipped))]
    return {pair.name: pair for pair in found if not isinstance(pair, Skipped)}, skipped


def test_pairs_are_matched_by_name_and_taken_as_they_are(root):
    found, skipped = pairs(root)
    assert set(found) == {"a.png", "sub/b.png", "c.png"} and skipped == []
    for name, size in (("a", (40, 48)), ("sub/b", (40, 40)), ("c", (43, 50))):
        height, width = size[0] // 4, size[1] // 4
        np.testing.assert_array_equal(found[f"{name}.png"].lr, picture(height, width, 9))
        np.testing.assert_array_equal(found[f"{name}.png"].hr, picture(*size, len(name))[: 4 * height, : 4 * width])


def test_pairs_are_held_out_together_and_can_be_read_in_parts(root):
    source = paired.folder(str(root / "HR"), str(root / "LR"), 0.3, 4, 32, seed=1)
    assert (len(list(source.train)), len(list(source.test))) == (2, 1)
    assert [pair.name for pair in source.train.part(1, 2)] == [list(source.train)[1].name]
    assert source.train.sizes == [pair.hr.shape[:2] for pair in source.train]


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        (lambda root: (root / "LR" / "a.bmp").unlink(), "a.png", "no image of that name in {LR}"),
        (lambda root: save(root / "LR" / "d.png", picture(9, 9)), "{LR}/d.png", "no image of that name in {HR}"),
        (lambda root: save(root / "LR" / "ax4.png", picture(10, 12)), "a.png", "2 images of that name in {LR}"),
        (
            lambda root: save(root / "LR" / "a.bmp", picture(10, 13)),
            "a.png",
            "48x40 pixels are not 4 times 13x10, the size of its low-resolution image",
        ),
        (
            lambda root: save(root / "LR" / "cx4.bmp", picture(9, 12)),
            "c.png",
            "50x43 pixels are not 4 times 12x9, the size of its low-resolution image",
        ),
        (lambda root: (root / "LR" / "a.bmp").write_bytes(b""), "a.png", "{LR}/a.bmp: an empty file"),
        (
            lambda root: save(root / "HR" / "a.jpg", picture(40, 48)),
            "a.png",
            "its low-resolution image is that of a.jpg",
        ),
        (
            lambda root: save(root / "HR" / "a.png", picture(31, 48)),
            "a.png",
            "48x31 pixels are too few, 32x32 are needed",
        ),
        (lambda root: truncate(root / "HR" / "a.png"), "{HR}/a.png", "damaged, or not a picture"),
        (lambda root: truncate(root / "LR" / "a.bmp"), "{LR}/a.bmp", "damaged, or not a picture"),
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
    train, test = ((str(place / "HR"), str(place / "LR")) for place in (root, root / "test"))
    source = paired.folders(train, test, 4, 32)
    assert [pair.name for pair in source.train] == ["a.png", "c.png"]
    assert [pair.name for pair in source.test] == ["b.png"]
    assert source.skipped == [Skipped("sub/b.png", f"the same file as {root}/test/HR/b.png")]


def test_folders_without_a_pair_are_refused(root):
    shutil.rmtree(root / "LR" / "sub")
    with pytest.raises(UserError, match="LR: no image there belongs to one in .*HR/sub; b.png: no image of that name"):
        paired.folder(str(root / "HR" / "sub"), str(root / "LR"), 0.1, 4, 32, 1)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        paired.folder(str(root / "HR"), str(root / "nowhere"), 0.1, 4, 32, 1)
    for name in ("a.bmp", "cx4.bmp"):
        save(root / "LR" / name, picture(5, 5))
    save(root / "LR" / "sub" / "b.bmp", picture(10, 10))
    with pytest.raises(UserError, match="one pair cannot be split"):
        paired.folder(str(root / "HR"), str(root / "LR"), 0.1, 4, 32, 1)
