"""The flags of videos, in real processes of the command."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import random_image, save
from PIL import Image

import inference
from pyimagesearch.inference.results import NAME as RESULTS

av = pytest.importorskip("av", reason="needs PyAV, which is not installed")

ROOT = Path(__file__).parents[2]
WITHOUT_PYAV = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "av" else found(name, package)
sys.modules["av"] = None  # whatever imports it fails
sys.argv = ["inference.py", *sys.argv[1:]]
sys.path.insert(0, "ROOT")
import inference
sys.exit(inference.main())
""".replace("ROOT", str(ROOT))


@pytest.fixture
def place(tmp_path):
    """A folder with a video and an image."""
    (tmp_path / "in").mkdir()
    with av.open(str(tmp_path / "in" / "moving.ts"), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(4):
            pixels = np.full((24, 32, 3), 60 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    save(tmp_path / "in" / "still.png", random_image(9, 12))
    return tmp_path


def infer(place, model, *flags, script=(str(ROOT / "inference.py"),), what="in"):
    command = [sys.executable, *script, "--model", model, "--input", what, "--output", "out"]
    done = subprocess.run([*map(str, command), *flags], cwd=place, capture_output=True, text=True, env={**os.environ})
    return done.returncode, done.stdout, done.stderr


def infer_here(place, model, *flags, what="in"):
    flags = ["--model", model, "--input", place / what, "--output", place / "out", *flags]
    try:
        return inference.main([*map(str, flags)])
    except SystemExit as end:
        return end.code


def codecs(folder):
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != RESULTS and path.suffix != ".png":
            with av.open(str(path)) as container:
                found[path.name] = container.streams.video[0].codec_context.name
    return found


def test_videos_and_images_of_a_folder_are_upscaled_and_made_again_for_other_flags_alone(place, model, capsys):
    assert infer(place, model)[::2] == (0, "")
    assert codecs(place / "out") == {"moving.mp4": "h264"}
    image = (place / "out" / "still.png").stat().st_mtime_ns
    assert infer_here(place, model, "--codec", "hevc", "--crf", "20") == 0
    out = capsys.readouterr().out
    assert "1 results written" in out and "1 results exist already" in out
    assert codecs(place / "out") == {"moving.mp4": "hevc"}
    assert (place / "out" / "still.png").stat().st_mtime_ns == image
    assert infer_here(place, model, "--codec", "ffv1") == 0
    assert codecs(place / "out") == {"moving.mkv": "ffv1", "moving.mp4": "hevc"}


def test_animated_images_are_videos_if_asked(place, model, capsys):
    frames = [Image.fromarray(random_image(9, 12, seed)) for seed in range(3)]
    frames[0].save(place / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    assert infer_here(place, model, what="a.gif") == 0
    assert "a.gif: is animated; only its first frame is upscaled" in capsys.readouterr().out
    assert infer_here(place, model, "--animated", what="a.gif") == 0
    assert codecs(place / "out") == {"a.mp4": "h264"} and (place / "out" / "a.png").exists()


@pytest.mark.parametrize(("what", "status"), [("in", 1), ("in/moving.ts", 2)])
def test_without_pyav_one_line_tells_what_to_install(place, model, what, status):
    told, _, err = infer(place, model, what=what, script=("-c", WITHOUT_PYAV))
    assert told == status and err.count("\n") == 1
    assert "in/moving.ts: videos are read by PyAV" in err and "pip install -r requirements-video.txt" in err
    assert (place / "out" / "still.png").exists() == (what == "in")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--crf", "60"], "'60' is not a whole number from 0 to 51"),
        (["--codec", "mpeg4"], "invalid choice: 'mpeg4'"),
        (["--codec", "ffv1", "--output", "a.mp4"], "a.mp4: does not support --codec ffv1"),
    ],
)
def test_flags_that_make_no_sense_are_refused(place, model, flags, said, capsys):
    assert infer_here(place, model, *flags, what="in/moving.ts") == 2
    err = capsys.readouterr().err
    assert said in err and "\n" not in err.strip()
