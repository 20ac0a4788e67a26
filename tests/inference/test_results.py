"""A second run makes only results whose source or settings have changed."""

import json
import os
import re
import shutil

import pytest
from conftest import random_image, randomize, save

import inference
from pyimagesearch.errors import UserError
from pyimagesearch.inference import results
from pyimagesearch.inference.jobs import Job
from pyimagesearch.inference.results import Results, State, Wanted
from pyimagesearch.inference.sizes import OutputSize
from pyimagesearch.srgan import SRGAN


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in, with a source and its result, which is noted."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png", random_image(9, 12))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("result")
    Results("out", {"share": 0.5}).note("a.png", "out/a.png")
    return tmp_path


def test_what_made_a_result_is_remembered(place):
    assert Results("out", {"share": 0.5}).state("a.png", "out/a.png") is State.CURRENT
    assert Results(str(place / "out"), {"share": 0.5}).state("./a.png", str(place / "out" / "a.png")) is State.CURRENT


def test_other_settings_or_another_source_are_noticed(place):
    assert Results("out", {"share": 0.4}).state("a.png", "out/a.png") is State.OUTDATED
    save(place / "more" / "a.png", random_image(9, 12))
    assert Results("out", {"share": 0.5}).state("more/a.png", "out/a.png") is State.OUTDATED
    save(place / "a.png", random_image(10, 12))
    assert Results("out", {"share": 0.5}).state("a.png", "out/a.png") is State.OUTDATED


def test_results_that_were_changed_or_come_from_elsewhere_are_foreign(place):
    (place / "out" / "b.png").write_text("by hand")
    (place / "out" / "a.png").write_text("retouched")
    made = Results("out", {"share": 0.5})
    assert made.state("a.png", "out/a.png") is made.state("a.png", "out/b.png") is State.FOREIGN
    assert made.state("a.png", "out/c.png") is State.MISSING


def test_a_source_that_changes_while_its_result_is_made_is_noticed(place):
    made = Results("out", {"share": 0.5})
    made.begin("a.png", "out/a.png")
    save(place / "a.png", random_image(10, 12))
    made.note("a.png", "out/a.png")
    assert Results("out", {"share": 0.5}).state("a.png", "out/a.png") is State.OUTDATED


def test_each_folder_has_the_records_of_its_results(place):
    made = Results("out", {"share": 0.5})
    targets = [f"out/{number}/a.png" for number in range(2 * results._FOLDERS)]
    for target in targets:
        os.makedirs(os.path.dirname(target))
        shutil.copy("a.png", target)
        made.note("a.png", target)
    assert len(made._known) == results._FOLDERS
    for again in (made, Results("out", {"share": 0.5})):
        assert {again.state("a.png", target) for target in targets} == {State.CURRENT}
    shutil.move("out/7", "elsewhere")
    assert Results("elsewhere", {"share": 0.5}).state("a.png", "elsewhere/a.png") is State.CURRENT


def test_the_wanted_jobs_are_those_without_a_current_result(place):
    (place / "out" / "b.png").write_text("by hand")
    jobs = [Job("a.png", "out/a.png"), Job("a.png", "out/b.png"), Job("a.png", "out/c.png")]
    made = {False: Results("out", {"share": 0.5})}
    wanted = Wanted(jobs, made, overwrite=False)
    assert len(wanted) == 3
    for _ in range(2):
        assert list(wanted) == jobs[2:]
        assert len(wanted) == 1 and wanted.kept == {State.CURRENT: 1, State.FOREIGN: 1}
    everything = Wanted(jobs, made, overwrite=True)
    assert list(everything) == jobs and len(everything) == 3


@pytest.mark.parametrize("damage", [b'["out/a.p', b"\xff\xfe\0", b"[]\n", b'["b.png", {}]\n', b'["b.png", 7]\n', b"\n"])
def test_lines_that_are_damaged_are_passed_over(place, damage):
    with open(place / "out" / results.NAME, "ab") as file:
        file.write(damage)
    assert Results("out", {"share": 0.5}).state("a.png", "out/a.png") is State.CURRENT


def test_replaced_lines_are_removed(place):
    for share in range(9):
        Results("out", {"share": share}).note("a.png", "out/a.png")
    assert len((place / "out" / results.NAME).read_text().splitlines()) <= 3
    assert Results("out", {"share": 8}).state("a.png", "out/a.png") is State.CURRENT


def test_models_are_identified_by_their_content(tmp_path):
    for name, text in (("a", "one"), ("copy", "one"), ("b", "other")):
        (tmp_path / name).write_text(text)
    one, copy, other = (results.settings_of([str(tmp_path / name)], None, OutputSize(2)) for name in ("a", "copy", "b"))
    assert one == copy != other and json.loads(json.dumps(one)) == one
    with pytest.raises(UserError, match="nowhere: no such model"):
        results.settings_of([str(tmp_path / "nowhere")], None)


@pytest.fixture
def enlarge(tmp_path, monkeypatch, caplog):
    """Run inference on two images. Return the reported number of results, and the files that it has written."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("pretrained_generator", "generator")):
        generator = SRGAN.generator(4, 4, 1)
        randomize(generator)
        generator.set_weights([weight + seed * 0.01 for weight in generator.get_weights()])
        (tmp_path / "outputs" / "models").mkdir(parents=True, exist_ok=True)
        generator.save(tmp_path / "outputs" / "models" / f"{name}.keras")
    for seed, name in enumerate("ab"):
        save(tmp_path / "photos" / f"{name}.png", random_image(9, 12, seed))

    def run(*flags):
        caplog.clear()
        caplog.set_level("INFO")
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("[!.]*")}
        status = inference.main(["--input", "photos", "--output", "out", "--runtime", "tensorflow", *flags])
        written = {
            path.name for path in (tmp_path / "out").rglob("[!.]*") if times.get(path) != path.stat().st_mtime_ns
        }
        return status, written

    return run


def said(capsys):
    return [int(count) for count in re.findall(r"(\d+) results written", capsys.readouterr().out)]


def test_the_same_flags_make_nothing_again(enlarge, capsys):
    assert enlarge() == (0, {"a.png", "b.png"}) and said(capsys) == [2]
    for flags in (
        [],
        ["--alpha", "1"],
        ["--model", "outputs/models/generator.keras"],
        ["--precision", "float32"],
        ["--tile", "64"],
    ):
        assert enlarge(*flags) == (0, set()) and said(capsys) == [0]
    assert enlarge("--overwrite") == (0, {"a.png", "b.png"})


@pytest.mark.parametrize(
    "flags",
    [
        ["--alpha", "0"],
        ["--alpha", "0.5"],
        ["--outscale", "2"],
        ["--model", "outputs/models/pretrained_generator.keras"],
    ],
)
def test_other_flags_make_results_again(enlarge, flags):
    enlarge()
    before = open("out/a.png", "rb").read()
    assert enlarge(*flags) == (0, {"a.png", "b.png"})
    assert open("out/a.png", "rb").read() != before
    assert enlarge(*flags) == (0, set())
    assert enlarge() == (0, {"a.png", "b.png"}) and open("out/a.png", "rb").read() == before


def test_a_new_model_at_the_same_path_makes_results_again(enlarge):
    enlarge()
    os.replace("outputs/models/pretrained_generator.keras", "outputs/models/generator.keras")
    assert enlarge() == (0, {"a.png", "b.png"})


def test_only_the_source_that_has_changed_is_made_again(enlarge, tmp_path):
    enlarge()
    save(tmp_path / "photos" / "b.png", random_image(10, 12))
    assert enlarge() == (0, {"b.png"})


def test_comparisons_and_the_page_are_made_of_results_that_are_there(enlarge, capsys):
    enlarge()
    assert enlarge("--compare", "--html") == (0, {"a compared.png", "b compared.png", "index.html"})
    assert said(capsys) == [2, 0] and open("out/index.html").read().count("<figure>") == 2
    assert enlarge("--compare") == (0, set())
    os.remove("out/b compared.png")
    assert enlarge("--compare") == (0, {"b compared.png"})
    assert enlarge("--compare", "--alpha", "0") == (0, {"a.png", "b.png", "a compared.png", "b compared.png"})


def test_a_comparison_that_a_remade_result_has_outlived_is_made_again(enlarge):
    enlarge("--compare")
    enlarge("--alpha", "0")
    assert enlarge("--alpha", "0", "--compare") == (0, {"a compared.png", "b compared.png"})


def test_files_of_other_programs_are_kept_and_reported(enlarge, tmp_path, caplog):
    enlarge()
    (tmp_path / "out" / "a.png").write_text("precious")
    assert enlarge("--alpha", "0") == (0, {"b.png"})
    assert (tmp_path / "out" / "a.png").read_text() == "precious"
    assert enlarge("--alpha", "0", "--overwrite") == (0, {"a.png", "b.png"})


def test_a_comparison_without_a_result_is_reported(enlarge, tmp_path, capsys):
    enlarge()
    (tmp_path / "out" / "a.png").write_text("precious")
    assert enlarge("--compare") == (1, {"b compared.png"})
    assert "inference.py: out/a.png: damaged, or not an image" in capsys.readouterr().err


def test_the_only_result_is_made_again_too(enlarge, tmp_path):
    flags = ["--input", "photos/a.png", "--output", "large.webp", "--runtime", "tensorflow"]
    for more, again in (([], True), ([], False), (["--alpha", "0"], True)):
        before = (tmp_path / "large.webp").stat().st_mtime_ns if (tmp_path / "large.webp").exists() else None
        assert inference.main([*flags, *more]) == 0
        assert ((tmp_path / "large.webp").stat().st_mtime_ns != before) == again


def test_a_folder_of_results_may_have_a_name_that_is_no_text(enlarge, tmp_path, capsys):
    folder = os.fsdecode(b"caf\xe9 \n")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes text only")
    flags = ["--input", "photos", "--output", folder, "--runtime", "tensorflow"]
    for more in ([], ["--compare"], ["--alpha", "0", "--html"]):
        assert inference.main([*flags, *more]) == 0
    names = {"a.png", "b.png", "a compared.png", "b compared.png", "index.html", results.NAME}
    assert set(os.listdir(folder)) == names
    capsys.readouterr()
    assert inference.main([*flags, "--model", folder + "/no.keras"]) == 2
    assert r"caf\xe9 \n/no.keras: no such model" in capsys.readouterr().err
    shutil.copy("outputs/models/generator.keras", folder + "/no.keras")
    assert inference.main([*flags, "--overwrite", "--model", folder + "/no.keras"]) == 2
    assert capsys.readouterr().err.endswith(r"caf\xe9 \n/no.keras: not valid UTF-8; rename it" + "\n")
