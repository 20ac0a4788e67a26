import os
import shutil

import pytest
from conftest import random_image, save

from pyimagesearch.errors import UserError
from pyimagesearch.inference import jobs
from pyimagesearch.inference.jobs import Job, Plan, choose_format


def test_folders_are_mirrored_with_other_endings(place):
    assert list(Plan(["photos"], "out", "png")) == [
        Job("photos/a.png", "out/a.png"),
        Job("photos/b.tif", "out/b.png"),
        Job("photos/sub folder/写真.jpg", "out/sub folder/写真.png"),
    ]


def test_files_and_patterns_go_side_by_side(place):
    jobs = Plan(["photos/a.png", "photos/**/*.jpg", "photos/*.[pt]*"], "out", "webp")
    assert [job.target for job in jobs] == ["out/a.webp", "out/写真.webp", "out/b.webp"]


@pytest.mark.parametrize("again", ["./photos", "photos/../photos", "{}/photos", "photos/a.png", "photos/*.png", "link"])
def test_a_file_that_is_given_twice_is_one_job(place, again):
    (place / "link").symlink_to("photos")
    jobs = Plan(["photos", again.format(place)], "out", "png")
    assert list(jobs) == list(Plan(["photos"], "out", "png")) and len(jobs) == 3


@pytest.mark.parametrize("path", ["photos", "photos/*"])
def test_files_of_other_kinds_are_reported(place, path, caplog):
    for name in ("b.pdf", "c.PDF", "d.jfif"):
        (place / "photos" / name).write_bytes((place / "photos" / "a.png").read_bytes())
    caplog.set_level("INFO")
    jobs = Plan([path], "out", "png")
    assert f"{path}: left out files of other types: 2 .pdf, 1 .txt" in caplog.messages
    assert "out/d.png" in {job.target for job in jobs}


def test_the_subfolders_of_an_only_input_are_listed_one_after_the_other(place):
    jobs = Plan(["photos"], "out", "png")
    listing = iter(jobs)
    assert next(listing) == Job("photos/a.png", "out/a.png")
    save(place / "photos" / "sub folder" / "c.png", random_image(5, 5))  # while the files above it are upscaled
    assert [job.source for job in listing][-2:] == ["photos/sub folder/c.png", "photos/sub folder/写真.jpg"]
    assert len(jobs) == 3 and len(list(jobs)) == 4


def test_folders_that_are_links_are_mirrored(place):
    (place / "all").mkdir()
    (place / "all" / "link").symlink_to(place / "photos")
    assert "out/link/sub folder/写真.png" in {job.target for job in Plan(["all"], "out", "png")}


@pytest.mark.parametrize("path", ["my [2020] photos/*.png", "{}/my [2020] photos/**/*.png"])
def test_a_folder_whose_name_is_like_a_pattern_is_that_folder(place, path):
    save(place / "my [2020] photos" / "a.png", random_image(5, 5))
    assert [job.target for job in Plan([path.format(place)], "out", "png")] == ["out/a.png"]


def test_a_file_whose_name_is_like_a_pattern_is_that_file(place):
    save(place / "photos" / "[1].png", random_image(5, 5))
    assert list(Plan(["photos/[1].png"], "out", "png")) == [Job("photos/[1].png", "out/[1].png")]


def test_names_that_differ_in_their_ending_stay_apart(place):
    save(place / "photos" / "a.jpg", random_image(5, 5))
    jobs = Plan(["photos"], "out", "png")
    assert {job.source: job.target for job in jobs if "/a." in job.source} == {
        "photos/a.png": "out/a.png.png",
        "photos/a.jpg": "out/a.jpg.png",
    }


@pytest.mark.parametrize(
    ("form", "names"),
    [("auto", ["a_x4.png", "b_x4.tif", "写真_x4.jpg"]), ("webp", ["a_x4.webp", "b_x4.webp", "写真_x4.webp"])],
)
def test_results_have_the_suffix_and_the_format_of_the_source_if_asked(place, form, names):
    jobs = Plan(["photos/a.png", "photos/b.tif", "photos/*/*.jpg"], "out", form, suffix="_x4")
    assert [job.target for job in jobs] == [f"out/{name}" for name in names]
    save(place / "photos" / "a.bmp", random_image(5, 5))
    jobs = Plan(["photos/a.png", "photos/a.bmp"], "out", "auto", suffix=" large")
    assert [(job.target, job.form) for job in jobs] == [
        ("out/a.png large.png", "png"),
        ("out/a.bmp large.png", "png"),
    ]


def test_a_suffix_for_a_result_with_a_name_is_refused(place):
    with pytest.raises(UserError, match="^large.png: names the result; a suffix needs an output folder"):
        Plan(["photos/a.png"], "large.png", "png", suffix="_x4")


def test_an_existing_folder_is_a_folder_with_any_name(place):
    (place / "out.png").mkdir()
    assert list(Plan(["photos/a.png"], "out.png", "png")) == [Job("photos/a.png", "out.png/a.png")]
    assert choose_format("out.png", "jpeg") == "jpeg" and choose_format("out.png", "auto") == "auto"


@pytest.mark.parametrize("output", ["large.jpg", "large.tiff", "large.webp"])
def test_an_output_that_contradicts_the_format_is_refused(output):
    with pytest.raises(UserError, match=f"{output}: the name is one of .*, but the format is png"):
        choose_format(output, "png")


def test_videos_become_mp4_or_what_is_asked(place):
    for name in ("a.MOV", "c.mpg", "d.ts", "e.wmv"):
        (place / "videos" / name).parent.mkdir(exist_ok=True)
        (place / "videos" / name).touch()
    save(place / "videos" / "b.png", random_image(5, 5))
    targets = [job.target for job in Plan(["videos"], "out", "jpeg")]
    assert targets == ["out/b.jpg", "out/a.mp4", "out/c.mp4", "out/d.mp4", "out/e.mp4"]
    assert [job.is_video for job in Plan(["videos"], "out", "jpeg")] == [False, True, True, True, True]
    (job,) = Plan(["videos/a.MOV"], "out", "png", video_ending=".mkv")
    assert job.target == "out/a.mkv"


def test_without_pyav_nothing_but_videos_is_refused(place, monkeypatch):
    (place / "video.avi").write_bytes(b"video")
    monkeypatch.setattr(jobs, "is_available", lambda: False)
    with pytest.raises(UserError, match="^video.avi: videos are read by PyAV.*install -r requirements-video.txt$"):
        Plan(["video.avi"], "out", "png")


@pytest.mark.parametrize("path", ["photos", "**/*.png"])
def test_results_of_before_are_no_inputs(place, path):
    save(place / "photos" / "out" / "deep" / "a.png", random_image(5, 5))
    jobs = Plan([path], "photos/out", "png")
    assert len(jobs) and all("out" not in job.source for job in jobs)


def test_a_comparison_that_would_replace_an_input_is_refused(place):
    save(place / "photos" / "a compared.png", random_image(5, 5))
    assert len(Plan(["photos"], "out", "png")) == 4
    with pytest.raises(UserError, match="both would become out/a compared.png"):
        Plan(["photos"], "out", "png", compare=True)


def test_names_that_are_no_text_become_text(place):
    try:
        shutil.copy("photos/a.png", os.fsencode(place) + b"/photos/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes text only")
    assert r"out/caf\xe9.png" in {job.target for job in Plan(["photos"], "out", "png")}


@pytest.mark.parametrize(
    ("inputs", "output", "said"),
    [
        (["nowhere"], "out", "nowhere: no such file or folder"),
        (["photos/*.gif"], "out", r"photos/\*.gif: no such file"),
        (["photos/*.txt"], "out", r"photos/\*.txt: no matching file ends with"),
        (["empty"], "out", "empty: no file in it ends with"),
        (["photos"], "photos", "photos: is the input and the output at once"),
        (["photos/a.png"], "photos", "photos/a.png: is an input and a result at once"),
        (["photos/a.png", "other/a.png"], "out", "both would become out/a.png.png"),
        (["photos"], "large.png", "large.png: is one file"),
        (["photos/a.png", "other/a.png"], "large.png", "large.png: is one file"),
        (["photos/a.png"], "large.mp4", "large.mp4: the result of photos/a.png cannot have that name"),
        (["video.mkv"], "large.png", "large.png: the result of video.mkv cannot have that name; end it with .mp4"),
    ],
)
def test_invalid_requests_are_reported_before_the_computation(place, inputs, output, said):
    (place / "empty").mkdir()
    (place / "video.mkv").touch()
    save(place / "other" / "a.png", random_image(5, 5))
    with pytest.raises(UserError, match=said):
        Plan(inputs, output, "png")
