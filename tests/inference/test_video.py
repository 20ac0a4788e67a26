import logging
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from conftest import enlarged, random_image

from pyimagesearch.errors import UserError
from pyimagesearch.inference import video
from pyimagesearch.metrics import psnr

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg, which is not installed")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch, caplog):
    monkeypatch.setattr(video, "SEGMENT", 10)
    caplog.set_level(logging.WARNING)


def smooth(number, height=24, width=32):
    """A frame of colours that change slowly, over it and with its number; uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * y + 2 * number, 5 * x, 200 - 3 * y - 2 * number], axis=-1).astype(np.uint8)


def write(path, frames, codec="mp4v", rate=25.0):
    height, width, _ = frames[0].shape
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return str(path)


def read(path):
    """All frames of a film that is not damaged, uint8 [N, H, W, 3]."""
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while (result := capture.read())[0]:
        frames.append(result[1][..., ::-1])
    return np.stack(frames)


def rate_of(path):
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS)


def damage(path, *numbers):
    """Overwrite packets of a film, of which the first has number 0."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_FORMAT, -1)
    packets = []
    while capture.grab():
        packets.append(capture.retrieve()[1].tobytes())
    content = pathlib.Path(path).read_bytes()
    for packet in (packets[number] for number in numbers):
        assert content.count(packet) == 1
        content = content.replace(packet, b"\xff" * len(packet))
    pathlib.Path(path).write_bytes(content)
    return str(path)


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *map(str, arguments)], check=True)


@pytest.fixture
def source(tmp_path):
    """A film of 34 frames."""
    return write(tmp_path / "source.mp4", [smooth(number) for number in range(34)])


@pytest.fixture
def target(tmp_path):
    return tmp_path / "results" / "large.mp4"


class Counting:
    """Enlarges frames, counting them, and fails at one of them, if told so."""

    def __init__(self, fails_at=None):
        self.calls = -1  # the first is given noise
        self.fails_at = fails_at

    def __call__(self, frame):
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("no memory left")
        return enlarged(frame)


def interrupt(source, target, frames=25):
    with pytest.raises(RuntimeError, match="no memory left"):
        video.upscale_film(source, str(target), Counting(fails_at=frames))


@pytest.mark.parametrize("rate", [25, 12.5, 30000 / 1001, 24000 / 1001, 120000 / 1001])
def test_a_film_keeps_its_rate_length_and_content(tmp_path, target, rate):
    source = write(tmp_path / "source.mp4", [smooth(number) for number in range(34)], rate=rate)
    assert video.upscale_film(source, str(target), enlarged) == []
    assert rate_of(target) == pytest.approx(rate, rel=1e-5)
    large = read(target)
    assert large.shape == (34, 96, 128, 3)
    assert min(psnr(true, test) for true, test in zip(enlarged(read(source)), large, strict=True)) > 35
    assert min(psnr(enlarged(smooth(number)), frame) for number, frame in enumerate(large)) > 30
    assert [path.name for path in target.parent.iterdir()] == ["large.mp4"]


@pytest.mark.parametrize(("ending", "codec"), [(".avi", "MJPG"), (".m4v", "mp4v"), (".mkv", "mp4v"), (".mov", "mp4v")])
def test_films_may_have_other_endings(tmp_path, ending, codec):
    source = write(tmp_path / f"source{ending}", [smooth(number) for number in range(4)], codec)
    assert video.upscale_film(source, str(tmp_path / f"large{ending}"), enlarged) == []
    assert read(tmp_path / f"large{ending}").shape == (4, 96, 128, 3)


def test_names_are_never_taken_for_patterns_or_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a:%03d -b.mp4", [smooth(0)])
    video.upscale_film("a:%03d -b.mp4", "-i c:%03d.mp4", enlarged)
    assert len(read(tmp_path / "-i c:%03d.mp4")) == 1


def test_finished_frames_are_kept_without_loss_and_not_made_again(tmp_path, source, target):
    video.upscale_film(source, str(tmp_path / "undisturbed.mp4"), enlarged)
    interrupt(source, target)
    assert not target.exists()
    segments = sorted((target.parent / ".unfinished-large.mp4").glob("*.mkv"))
    assert [path.name for path in segments] == ["00000000.mkv", "00000010.mkv"]
    np.testing.assert_array_equal(np.concatenate([read(path) for path in segments]), enlarged(read(source)[:20]))
    rest = Counting()
    video.upscale_film(source, str(target), rest)
    assert rest.calls == 14
    assert target.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()


def test_noise_is_kept_without_loss(tmp_path):
    frames = [random_image(12, 20, seed) for seed in range(3)]
    video._write(str(tmp_path / "noise.mkv"), video._LOSSLESS, 25, iter([frame[..., ::-1] for frame in frames]))
    np.testing.assert_array_equal(read(tmp_path / "noise.mkv"), frames)


def test_progress_begins_with_what_is_finished(source, target):
    interrupt(source, target)
    steps = []
    video.upscale_film(source, str(target), enlarged, steps.append)
    assert steps == [20] + 14 * [1] and video.count_frames(source) == 34


def test_the_result_appears_when_it_is_complete(source, target):
    target.parent.mkdir()
    target.write_bytes(b"an older one")

    def upscale(frame):
        assert target.read_bytes() == b"an older one"
        return enlarged(frame)

    video.upscale_film(source, str(target), upscale)
    assert len(read(target)) == 34


KILLED = """
import sys, time
from pyimagesearch import cli
from pyimagesearch.inference import video

def upscale(frame):
    time.sleep(0.02)
    return frame.repeat(4, axis=0).repeat(4, axis=1)

video.SEGMENT = 10
video.upscale_film(*sys.argv[1:], upscale)
"""


def test_a_killed_process_leaves_whole_segments(tmp_path, source, target):
    video.upscale_film(source, str(tmp_path / "undisturbed.mp4"), enlarged)
    project = pathlib.Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", KILLED, source, str(target)], cwd=project)
    while process.poll() is None and len(list(target.parent.rglob("0*.mkv"))) < 2:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not target.exists()
    rest = Counting()
    video.upscale_film(source, str(target), rest)
    assert rest.calls in (4, 14)
    np.testing.assert_array_equal(read(target), read(tmp_path / "undisturbed.mp4"))


def test_another_film_of_that_name_is_not_mixed_in(source, target, caplog):
    interrupt(source, target)
    write(source, [smooth(60 - number) for number in range(34)])
    whole = Counting()
    with caplog.at_level(logging.INFO):
        video.upscale_film(source, str(target), whole)
    assert whole.calls == 34 and "starting over" in caplog.text
    assert min(psnr(enlarged(smooth(60 - number)), frame) for number, frame in enumerate(read(target))) > 30


@pytest.mark.parametrize("other", [lambda frame: 255 - enlarged(frame), lambda frame: enlarged(frame, 2)])
def test_what_another_model_made_is_not_mixed_in(source, target, other):
    interrupt(source, target)
    video.upscale_film(source, str(target), other)
    for small, large in zip(read(source), read(target), strict=True):
        assert psnr(other(small), large) > 30


@pytest.mark.parametrize(
    ("ending", "codec", "numbers"),
    [
        (".avi", "MJPG", [12]),
        (".avi", "MJPG", [0, 1, 10, 33]),
        (".mkv", "MJPG", [9, 10, 19, 20, 21]),
        (".webm", "VP90", [33]),
    ],
)
def test_frames_that_cannot_be_decoded_repeat_the_one_before(tmp_path, target, caplog, capfd, ending, codec, numbers):
    frames = [random_image(24, 32, number) // 16 + smooth(number) // 2 for number in range(34)]
    source = write(tmp_path / f"source{ending}", frames, codec)
    decoded = read(source)
    damage(source, *numbers)
    capfd.readouterr()  # what OpenCV writes of writing .webm
    assert video.count_frames(source) == 34
    interrupt(source, target)
    assert video.upscale_film(source, str(target), enlarged) == numbers
    assert f"repeat the one before: {', '.join(map(str, numbers))}" in caplog.text
    assert capfd.readouterr().err == ""
    good = [number for number in range(34) if number not in numbers]
    large = read(target)
    assert len(large) == 34
    for number, frame in enumerate(large):
        shown = max([other for other in good if other <= number], default=good[0])
        assert psnr(enlarged(decoded[shown]), frame) > 30


@needs_ffmpeg
@pytest.mark.parametrize(("ending", "packet", "numbers"), [("mp4", 4, [4, 5, 6]), ("avi", 4, [3, 4, 5])])
def test_frames_that_are_stored_in_another_order_are_counted_as_they_are_shown(tmp_path, ending, packet, numbers):
    original = write(tmp_path / "original.avi", [random_image(48, 64, number) for number in range(34)], "MJPG")
    source = tmp_path / f"source.{ending}"
    ffmpeg("-i", original, "-c:v", "mpeg4", "-bf", 2, "-q:v", 2, source)
    assert video._look_through(str(source)).lost == ()
    damage(source, packet)
    found = video._look_through(str(source))
    assert found.frames == 34 and list(found.lost) == numbers


@needs_ffmpeg
def test_a_varying_rate_becomes_its_mean(tmp_path, target):
    original = write(tmp_path / "original.mkv", [smooth(number) for number in range(20)])
    source = tmp_path / "source.mkv"
    # Frames are 0.04 s apart, then 0.12 s.
    ffmpeg("-i", original, "-vf", "setpts=if(lt(N\\,10)\\,N\\,3*N-20)/25/TB", "-vsync", "vfr", "-c:v", "mpeg4", source)
    assert video.upscale_film(str(source), str(target), enlarged) == []
    assert len(read(target)) == 20
    assert rate_of(target) == pytest.approx(19 / (10 * 0.04 + 9 * 0.12), rel=1e-3)


def test_missing_times_are_where_there_is_most_room():
    assert video._with_gaps_filled([0.0, 40, 80, 200], 6) == [0, 40, 80, 110, 140, 200]
    assert video._with_gaps_filled([0.0], 3) == [0]


def streams(path):
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@needs_ffmpeg
@pytest.mark.parametrize(("ending", "sound"), [("mp4", "aac"), ("avi", "pcm_s16le")])
def test_the_sound_comes_along(tmp_path, source, target, ending, sound, caplog):
    with_sound = tmp_path / f"with_sound.{ending}"
    ffmpeg("-i", source, "-f", "lavfi", "-i", "sine=duration=1.3", "-c:v", "copy", "-c:a", sound, with_sound)
    assert video.upscale_film(str(with_sound), str(target), enlarged) == []
    assert streams(target) == ["mpeg4", "aac"]
    assert len(read(target)) == 34 and rate_of(target) == 25
    assert [path.name for path in target.parent.iterdir()] == ["large.mp4"]
    assert not caplog.records


@needs_ffmpeg
def test_a_silent_film_stays_silent(source, target, caplog):
    video.upscale_film(source, str(target), enlarged)
    assert streams(target) == ["mpeg4"] and not caplog.records


def test_without_ffmpeg_there_is_no_sound(source, target, caplog, monkeypatch):
    monkeypatch.setattr(video.shutil, "which", lambda name: None)
    video.upscale_film(source, str(target), enlarged)
    assert len(read(target)) == 34
    assert [record.getMessage() for record in caplog.records] == [
        f"{source}: its sound, if there is any, is left out: ffmpeg is not installed"
    ]


def test_sound_that_ffmpeg_cannot_take_is_left_out(tmp_path, source, target, caplog, monkeypatch):
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no >&2\necho such codec >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    video.upscale_film(source, str(target), enlarged)
    assert len(read(target)) == 34
    assert caplog.records[-1].getMessage() == f"{source}: its sound is left out: such codec"


@pytest.mark.parametrize("content", [b"", b"not a film" * 100, "half"])
def test_what_is_not_a_film_is_named(source, target, content, capfd):
    path = pathlib.Path(source)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    for function in (video.count_frames, lambda source: video.upscale_film(source, str(target), enlarged)):
        with pytest.raises(UserError, match="^.*source.mp4: not a film that OpenCV can read$"):
            function(source)
    assert not target.parent.exists() and capfd.readouterr() == ("", "")


def test_a_film_of_which_nothing_can_be_decoded_is_named(tmp_path):
    source = write(tmp_path / "source.avi", [smooth(number) for number in range(3)], "MJPG")
    with pytest.raises(UserError, match="source.avi: not a film"):
        video.count_frames(damage(source, 0, 1, 2))


@pytest.mark.parametrize("name", ["missing.mp4", "."])
def test_a_missing_film_is_named(tmp_path, target, name):
    with pytest.raises(UserError, match="no such film"):
        video.upscale_film(str(tmp_path / name), str(target), enlarged)


def test_targets_that_cannot_be_written_are_told_before(source, target):
    for wrong, message in (
        ("gs://bucket/large.mp4", "^gs://bucket/large.mp4: films are written to this machine only"),
        (str(target.with_suffix(".webm")), "large.webm: .* ends in .mp4"),
        (source, "source.mp4: is the film that is to be made larger"),
    ):
        with pytest.raises(UserError, match=message):
            video.upscale_film(source, wrong, Counting(fails_at=0))


def test_a_film_that_would_be_too_large_is_told_before(source, target):
    calls = []

    def upscale(frame):
        calls.append(1)
        return np.zeros((6, 8192, 3), np.uint8)

    with pytest.raises(UserError, match="source.mp4: would become 8192x6, .* 8191"):
        video.upscale_film(source, str(target), upscale)
    assert len(calls) == 1 and not target.parent.exists()


def test_the_largest_film_can_be_written(tmp_path):
    video._write(str(tmp_path / "wide.mp4"), video._FINISHED, 25, iter([np.zeros((2, 8190, 3), np.uint8)]))
    assert read(tmp_path / "wide.mp4").shape == (1, 2, 8190, 3)


def test_a_disk_that_will_be_too_small_is_told_soon(source, target, monkeypatch):
    usage = shutil.disk_usage(target.parent.parent)
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match="large.mp4: about 0.0 GB more are needed .* 0.0 GB are free; make room"):
        video.upscale_film(source, str(target), enlarged)
    monkeypatch.undo()
    assert len(list(target.parent.rglob("0*.mkv"))) == 1


def test_a_full_disk_leaves_no_part_of_a_segment(tmp_path, target):
    source = write(tmp_path / "source.avi", [random_image(24, 32, number) for number in range(34)], "MJPG")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(UserError, match="00000000.mkv: cannot be written; make room"):
            video.upscale_film(source, str(target), enlarged)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in target.parent.rglob("*") if path.is_file()} == {"plan.json", "sample.npy"}
    video.upscale_film(source, str(target), enlarged)
    assert len(read(target)) == 34


def test_a_segment_that_was_damaged_meanwhile_is_made_again(source, target):
    interrupt(source, target)
    segment = target.parent / ".unfinished-large.mp4" / "00000010.mkv"
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])
    with pytest.raises(UserError, match="00000010.mkv: was damaged and is removed; repeat the command"):
        video.upscale_film(source, str(target), enlarged)
    assert not target.exists()
    again = Counting()
    video.upscale_film(source, str(target), again)
    assert again.calls == 10 and len(read(target)) == 34


def test_a_film_that_is_cut_short_meanwhile_is_told(source, target):
    def upscale(frame):
        write(source, [smooth(0)])
        return enlarged(frame)

    with pytest.raises(UserError, match="source.mp4: was changed meanwhile"):
        video.upscale_film(source, str(target), upscale)
    assert not list(target.parent.rglob("0*.mkv"))
