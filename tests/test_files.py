import os
import pathlib
import shutil

import pytest

from pyimagesearch import files
from pyimagesearch.errors import UserError
from pyimagesearch.files import (
    check_space,
    count_endings,
    find_files,
    fitting_name,
    kinds,
    printable,
    read_json_object,
    read_text,
    short_names,
    write_text,
    written_whole,
)


def test_a_file_appears_once_it_is_complete(tmp_path):
    path = tmp_path / "new" / "image.png"
    with written_whole(str(path)) as aside:
        with open(aside, "w") as file:
            file.write("all of it")
        assert aside.endswith(".png") and not path.exists()
    assert path.read_text() == "all of it"
    assert [file.name for file in path.parent.iterdir()] == ["image.png"]


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), written_whole(str(path)) as aside:
        with open(aside, "w") as file:
            file.write("half of")
        raise KeyboardInterrupt
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_two_attempts_at_a_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(str(path)) as first:
        pathlib.Path(first).write_text("one")
        with files.attempt(1), written_whole(str(path)) as second:
            assert second == files.unfinished_path(str(path), 1) != first == files.unfinished_path(str(path), 0)
            pathlib.Path(second).write_text("two")
        assert path.read_text() == "two" and pathlib.Path(first).read_text() == "one"
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(UserError, match="secret: Permission denied"):
        find_files(str(tmp_path), (".png",))


def test_folders_that_are_links_are_gone_into_once(tmp_path):
    for name in ("photos/a.png", "elsewhere/b.PNG", "photos/notes.txt", "photos/.hidden", "photos/.unfinished-a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "other link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "photos")
    found = find_files(str(tmp_path / "photos"), (".png",))
    assert found.files == [str(tmp_path / "photos" / name) for name in ("a.png", "link/b.PNG")]
    assert found.others == [str(tmp_path / "photos" / "notes.txt")]


def test_kinds_of_files_are_counted():
    counts = count_endings(["a.TXT", "b/c.txt", "d.tar/README", os.fsdecode(b"e.\xe9")])
    assert kinds(counts) == "2 .txt, 1 without an ending, 1 .\\xe9"


def test_bytes_that_are_no_text_are_made_visible():
    assert printable(os.fsdecode(b"caf\xe9 \xe5\x86\x99.png")) == r"caf\xe9 写.png"


def test_names_stay_in_one_line():
    assert (
        printable("a\nb\tc\u2028.png") == r"a\nb\tc\u2028.png"
        and printable("ein Bild　写真.png") == "ein Bild　写真.png"
    )


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
def test_names_are_as_short_as_possible_and_unique(paths, names):
    assert list(short_names(paths)) == names


def test_a_file_by_two_names_has_one_short_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.keras").write_text("")
    (tmp_path / "best.keras").symlink_to("a.keras")
    assert short_names(["best.keras", "a.keras", str(tmp_path / "a.keras")]) == {"best": "best.keras"}


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "ß" * 125 + ".jpeg", "a." + "b" * 253, "a" * 255])
def test_files_with_the_longest_names_are_written(tmp_path, name):
    with written_whole(str(tmp_path / name)) as aside:
        assert os.path.dirname(aside) == str(tmp_path)
        with open(aside, "w") as file:
            file.write("all of it")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_that_are_too_long_become_shorter_ones_of_their_own():
    names = [fitting_name("ß" * 200 + f"{number}.png") for number in range(9)]
    assert len(set(names)) == 9 and all(len(os.fsencode(name)) <= 255 and name.endswith(".png") for name in names)
    assert fitting_name("short.png") == "short.png"


def test_text_comes_back_as_it_was_written(tmp_path):
    path = str(tmp_path / "new" / "text")
    write_text(path, "写真\n")
    assert read_text(path) == "写真\n"


@pytest.mark.parametrize("content", ["half of {", "[1, 2]", "\udcff"])
def test_json_that_is_not_an_object_is_damaged(tmp_path, content):
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match="^nothing there$"):
        read_json_object(str(path), "nothing there", "damaged")
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match="^damaged$"):
        read_json_object(str(path), "nothing there", "damaged")
    write_text(str(path), '{"a": 1}')
    assert read_json_object(str(path), "nothing there", "damaged") == {"a": 1}


def test_a_disk_that_is_too_small_is_refused(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    check_space(str(tmp_path), free / 2)
    with pytest.raises(UserError, match="GB are needed and .* GB are free; free some disk space"):
        check_space(str(tmp_path), 2 * free)
