import pytest

from pyimagesearch.files import written_whole


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
