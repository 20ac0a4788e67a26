import os

import pytest

from pyimagesearch.errors import UserError
from pyimagesearch.files import find_files, printable, short_names, written_whole


def test_a_file_appears_once_it_is_complete(tmp_path):
    path = tmp_path / "new" / "picture.png"
    with written_whole(str(path)) as aside:
        with open(aside, "w") as file:
            file.write("all of it")
        assert aside.endswith(".png") and not path.exists()
    assert path.read_text() == "all of it"
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), written_whole(str(path)) as aside:
        with open(aside, "w") as file:
            file.write("half of")
        raise KeyboardInterrupt
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(UserError, match="secret: Permission denied"):
        find_files(str(tmp_path), (".png",))


def test_bytes_that_are_no_text_are_made_visible():
    assert printable(os.fsdecode(b"caf\xe9 \xe5\x86\x99.png")) == r"caf\xe9 写.png"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/b.keras"], ["b"]),
        (["outputs/one/b.keras", "outputs/two/b.keras"], ["one/b", "two/b"]),
        (["/b.keras", "/two/b.keras"], ["/b", "two/b"]),
        (["Set5/", "./more/DIV2K.valid"], ["Set5", "DIV2K.valid"]),
        (["a.keras", "a.h5"], ["a", "a.h5"]),
        (["a.keras", "./a.keras"], ["a"]),
        ([os.fsdecode(b"caf\xe9")], ["caf\\xe9"]),
    ],
)
def test_names_are_as_short_as_they_can_be_told_apart(paths, names):
    assert list(short_names(paths)) == names
