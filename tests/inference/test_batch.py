import os
import threading

import cv2
import numpy as np
import pytest
from conftest import random_image, randomize, save
from PIL import Image

from pyimagesearch.data.image_io import read_image
from pyimagesearch.errors import UserError
from pyimagesearch.inference import batch
from pyimagesearch.inference.batch import Failure, run
from pyimagesearch.inference.jobs import Job, Plan, choose_format
from pyimagesearch.inference.sizes import OutputSize
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.srgan import SRGAN


@pytest.fixture(scope="module")
def upscale():
    generator = SRGAN.generator(4, 4, 1)
    randomize(generator)
    return Upscaler(generator)


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "ü" * 125 + ".jpg", os.fsdecode(b"\xe9" * 100 + b".png")])
def test_names_of_any_length_get_results(place, upscale, name):
    save(place / "long" / "x.png", random_image(5, 5))
    for other in (name, name[:-4] + ".bmp"):  # names that would be equal get a longer ending
        try:
            os.rename(save(place / "long" / "x.png", random_image(5, 5)), place / "long" / other)
        except (OSError, UnicodeError):
            pytest.skip("this file system takes text only")
    jobs = Plan(["long"], "out", "png", compare=True)
    assert list(run(jobs, upscale, compare=True)) == []
    assert len({job.target for job in jobs}) == 2 and all(os.path.isfile(job.target) for job in jobs)
    assert all(os.path.isfile(job.comparison) for job in jobs) and len(os.listdir("out")) == 4


@pytest.mark.parametrize(
    ("output", "form"),
    [
        ("new/large.png", "png"),
        ("large.JPEG", "jpeg"),
        ("large.tif", "tiff"),
        ("large.tiff", "tiff"),
        ("a.webp", "webp"),
    ],
)
def test_a_single_input_can_have_a_result_of_any_name(place, upscale, output, form):
    assert choose_format(output, None) == choose_format(output, form) == form
    jobs = Plan(["photos/a.png"], output, form)
    assert list(jobs) == [Job("photos/a.png", output)]
    assert list(run(jobs, upscale)) == []
    assert Image.open(output).format == form.upper()


def save_animation(path):
    frames = [Image.fromarray(np.full((9, 12, 3), value, np.uint8)) for value in (0, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)


def test_animated_images_become_videos_if_that_is_asked(place, upscale, caplog):
    caplog.set_level("INFO")
    for name in ("moving.gif", "moving.webp", "moving.apng"):
        save_animation(place / name)
    paths = ["moving.gif", "photos/a.png"]
    assert [job.target for job in Plan(paths, "out", "png")] == ["out/moving.png", "out/a.png"]
    assert [job.target for job in Plan(paths, "out", "png", animated=True)] == ["out/a.png", "out/moving.mp4"]
    jobs = Plan(["moving.*"], "first", "png")
    assert len(jobs) == 3 and list(run(jobs, upscale)) == []
    assert caplog.messages.count("moving.apng: is animated; only its first frame is upscaled") == 1
    assert Image.open("first/moving.gif.png").size == (48, 36)


def test_without_pyav_videos_are_told_and_images_continue(place, upscale, monkeypatch):
    (place / "video.avi").write_bytes(b"video")
    monkeypatch.setattr(batch, "is_available", lambda: False)
    (failure,) = run(Plan(["video.avi", "photos/a.png"], "out", "png"), upscale)
    assert failure.source == "video.avi" and "requirements-video.txt" in failure.reason and os.path.isfile("out/a.png")


def test_images_are_upscaled_and_damaged_ones_are_reported(place, upscale):
    (place / "photos" / "bad.png").write_bytes(b"")
    data = (place / "photos" / "a.png").read_bytes()
    (place / "photos" / "cut.png").write_bytes(data[: len(data) // 2])
    failures = list(run(Plan(["photos"], "out", "png"), upscale))
    assert failures == [
        Failure("photos/bad.png", "an empty file"),
        Failure("photos/cut.png", "damaged, or not an image"),
    ]
    results = {str(path.relative_to(place / "out")) for path in (place / "out").rglob("*") if path.is_file()}
    assert results == {"a.png", "b.png", "sub folder/写真.png"}
    np.testing.assert_array_equal(read_image("out/a.png").pixels, upscale(random_image(9, 12, 0)))


def test_images_too_large_for_the_format_are_reported_before_the_computation(place, upscale):
    save(place / "wide.png", random_image(1, 4096))
    (failure,) = run(Plan(["wide.png"], "out", "webp"), upscale)
    assert "becomes 16384x4 pixels, webp allows at most 16383" in failure.reason


def test_a_result_that_cannot_be_written_is_reported_and_the_others_are_made(place, upscale):
    (place / "out").mkdir()
    (place / "out" / "sub folder").write_text("a file in the place of a folder")
    failures = list(run(Plan(["photos"], "out", "png"), upscale))
    assert [failure.source for failure in failures] == ["photos/sub folder/写真.jpg"]
    assert "out/sub folder/写真.png cannot be written: " in failures[0].reason
    assert (place / "out" / "a.png").exists() and (place / "out" / "b.png").exists()


def test_images_too_large_for_the_memory_are_reported(place, upscale, monkeypatch):
    def no_memory(*args):
        raise MemoryError

    monkeypatch.setattr(batch, "upscale_image", no_memory)
    failures = list(run(Plan(["photos/a.png"], "out", "png"), upscale))
    assert failures == [Failure("photos/a.png", "too large for the memory of this machine")]


@pytest.mark.parametrize(
    "error", [AttributeError("no such thing"), cv2.error("odd"), KeyError(7), RuntimeError(), StopIteration()]
)
@pytest.mark.parametrize("step", ["read_image", "upscale_image", "write_image", "check_size"])
def test_an_error_of_one_file_does_not_stop_the_others(place, upscale, monkeypatch, step, error):
    right, calls = getattr(batch, step), []

    def wrong_once(*args):
        calls.append(args)
        if len(calls) == 2:
            raise error
        return right(*args)

    monkeypatch.setattr(batch, step, wrong_once)
    jobs = Plan(["photos"], "out", "png")
    failures = list(run(jobs, upscale))
    assert [failure.source for failure in failures] == [list(jobs)[1].source]
    assert f"a fault of this program ({type(error).__name__}: " in failures[0].reason
    assert "damaged" not in failures[0].reason and "\n" not in failures[0].reason
    assert [os.path.isfile(job.target) for job in jobs] == [True, False, True]


def test_a_video_that_fails_in_any_way_is_reported(place, monkeypatch):
    write_video(place / "video.avi", 3)

    def wrong(*args):
        raise TypeError("odd")

    (failure,) = run(Plan(["video.avi"], "out", "png"), wrong)
    assert failure.source == "video.avi" and "a fault of this program (TypeError: odd)" in failure.reason


def test_a_result_appears_only_when_complete(place, upscale, monkeypatch):
    seen = []

    def write_image(path, image, form):
        seen.append((path, os.path.exists("out/a.png")))
        Image.fromarray(image.pixels).save(path)
        raise OSError("disk full")

    monkeypatch.setattr(batch, "write_image", write_image)
    (failure,) = run(Plan(["photos/a.png"], "out", "png"), upscale)
    assert "disk full" in failure.reason
    assert seen == [("out/.unfinished-a.png", False)] and list((place / "out").iterdir()) == []


def test_while_one_is_computed_the_next_is_read_and_the_last_written(place, upscale, monkeypatch):
    events, lock = [], threading.Lock()

    def noted(name, function):
        def call(*args):
            with lock:
                events.append((name, threading.get_ident()))
            return function(*args)

        return call

    for name in ("read_image", "upscale_image", "_write"):
        monkeypatch.setattr(batch, name, noted(name, getattr(batch, name)))
    assert list(run(Plan(["photos"], "out", "png"), upscale)) == []
    assert len({thread for _, thread in events}) == 3 and len(events) == 9
    names = [name for name, _ in events]
    for number in range(3):  # never more than one image ahead
        reads = [place for place, name in enumerate(names) if name == "read_image"]
        computed = [place for place, name in enumerate(names) if name == "upscale_image"]
        assert number < 2 or reads[number] > computed[number - 2]


def test_a_comparison_stands_beside_each_result(place, upscale):
    assert list(run(Plan(["photos/a.png"], "out", "jpeg"), upscale, compare=True)) == []
    assert {path.name for path in (place / "out").iterdir()} == {"a.jpg", "a compared.png"}
    assert Image.open("out/a compared.png").width > 1000


def test_the_page_has_all_results(place, upscale):
    jobs = Plan(["photos"], "out", "png")
    assert list(run(list(jobs)[:2], upscale)) == []
    batch.write_page(jobs, "out/index.html")
    text = (place / "out" / "index.html").read_text(encoding="utf-8")
    assert text.count("<figure>") == 2 and "<figcaption>a.png" in text and "写真" not in text
    (place / "photos" / "b.tif").write_bytes(b"damaged meanwhile")
    batch.write_page(jobs, "out/index.html")
    assert (place / "out" / "index.html").read_text(encoding="utf-8").count("<figure>") == 1


def test_a_page_of_ones_own_is_not_overwritten(place):
    (place / "index.html").write_text("<title>Before and after my holiday</title>")
    with pytest.raises(UserError, match="index.html: exists and is not a page of this program"):
        batch.write_page([], "index.html")
    assert "holiday" in (place / "index.html").read_text()


def write_video(path, frames):
    av = pytest.importorskip("av", reason="needs PyAV, which is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", 10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuvj420p"
        for value in range(frames):
            pixels = np.full((24, 32, 3), 20 * value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("outscale", "size"), [(None, (128, 96)), (2, (64, 48))])
def test_videos_are_upscaled(place, upscale, outscale, size):
    write_video(place / "video.avi", 3)
    (place / "bad.mp4").write_bytes(b"no video")
    jobs = Plan(["video.avi", "bad.mp4"], "out", "png")
    (failure,) = run(jobs, upscale, OutputSize(outscale))
    assert failure == Failure("bad.mp4", "not a video that FFmpeg can read")
    import av

    with av.open("out/video.mp4") as container:
        assert [(frame.width, frame.height) for frame in container.decode(video=0)] == 3 * [size]
