import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import random_image, randomize, save
from PIL import Image

from pyimagesearch.config import SHIPPED_GENERATORS
from pyimagesearch.data.image_io import read_image
from pyimagesearch.errors import UserError
from pyimagesearch.inference import service
from pyimagesearch.inference.comparison import as_jpeg
from pyimagesearch.inference.service import Service
from pyimagesearch.inference.sessions import Session, StopRequest
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.srgan import SRGAN


def nothing(part):
    pass


@pytest.fixture(scope="module")
def upscaler():
    generator = SRGAN.generator(4, 4, 1)
    randomize(generator)
    return Upscaler(generator)


@pytest.fixture
def loaded():
    """The arguments of all calls that load generators."""
    return []


@pytest.fixture
def serve(upscaler, loaded):
    """Return a service of up to 1,000 pixels, with one small generator in place of all."""

    def load(paths, alpha):
        loaded.append((paths, alpha))
        return upscaler

    return Service(tf.distribute.get_strategy(), load, 1000, "models/mine.keras")


@pytest.fixture
def session(tmp_path):
    return Session(str(tmp_path / "session"))


def test_images_become_results_with_previews_and_failures_are_named(serve, session, tmp_path, upscaler):
    good = save(tmp_path / "good.png", random_image(9, 12))
    twin = save(tmp_path / "twins" / "good.png", random_image(8, 8))
    large = save(tmp_path / "large.png", random_image(26, 40))
    (tmp_path / "bad.png").write_bytes(b"no image")
    sources = [str(path) for path in (good, twin, large, tmp_path / "bad.png", tmp_path / "gone.png")]
    results, failures = serve.upscale_images(session, sources, "fast", 1, "tiff", nothing)
    assert [os.path.basename(result.path) for result in results] == ["good.tif", "good.tif"]
    np.testing.assert_array_equal(read_image(results[0].path).pixels, upscaler(random_image(9, 12)))
    assert [Image.open(path).size for path in results[1].pair] == [(32, 32)] * 2
    assert failures == [
        "large.png: 40x26 pixels are more than the limit of 1,000; make it smaller",
        "bad.png: damaged, or not an image",
        "gone.png: was removed meanwhile; add it again",
    ]


def test_a_result_has_any_name_beside_the_previews(serve, session, tmp_path):
    source = save(tmp_path / "right.jpg", random_image(9, 12))
    ((result,), _) = serve.upscale_images(session, [str(source)], "fast", 1, "jpeg", nothing)
    assert os.path.basename(result.path) == "right.jpg" and result.path not in result.pair


@pytest.mark.parametrize(("count", "said"), [(0, "choose an image first"), (3, "choose 1 to 2 images")])
def test_too_few_and_too_many_images_are_refused(serve, session, tmp_path, monkeypatch, count, said):
    monkeypatch.setattr(service, "MAX_FILES", 2)
    with pytest.raises(UserError, match=said):
        serve.upscale_images(session, ["image.png"] * count, "fast", 1, "png", nothing)


@pytest.mark.parametrize(
    ("name", "alpha", "paths", "share"),
    [
        ("fast", 0.3, ["fast"], None),
        ("photo", 1, ["photo"], None),
        ("srgan", 1, ["srgan"], None),
        ("srgan", 0, ["pretrained"], None),
        ("srgan", 0.3, ["pretrained", "srgan"], 0.3),
        ("mine.keras", 0.3, None, None),
    ],
)
def test_only_srgan_is_interpolated(serve, session, tmp_path, loaded, name, alpha, paths, share):
    source = str(save(tmp_path / "image.png", random_image(9, 12)))
    serve.upscale_images(session, [source], name, alpha, "png", nothing)
    expected = tuple(SHIPPED_GENERATORS[path] for path in paths) if paths else ("models/mine.keras",)
    assert loaded == [(expected, share)]


def test_the_progress_rises_to_the_end(serve, session, tmp_path):
    sources = [str(save(tmp_path / f"{seed}.png", random_image(9, 12, seed))) for seed in range(3)]
    told = []
    serve.upscale_images(session, sources, "fast", 1, "png", told.append)
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1 and len(set(told)) == 4


@pytest.mark.parametrize("video", [False, True])
def test_a_stop_ends_a_computation_and_leaves_no_result(serve, session, tmp_path, video):
    if video:
        pytest.importorskip("av", reason="needs PyAV, which is not installed")
    frames = [Image.fromarray(random_image(9, 12, seed)) for seed in range(8)]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    parts = []

    def stop(part):
        parts.append(part)
        if part > 0:
            session.stop()

    source = str(tmp_path / "image.gif")
    with pytest.raises(StopRequest):
        if video:
            serve.upscale_video(session, source, "fast", stop)
        else:
            serve.upscale_images(session, [source] * 3, "fast", 1, "png", stop)
    assert max(parts) < 0.5
    session.end([])
    assert os.path.exists(source) and not list((tmp_path / "session").glob("**/*.mp4"))


def test_a_video_becomes_a_video(serve, session, tmp_path):
    av = pytest.importorskip("av", reason="needs PyAV, which is not installed")
    frames = [Image.fromarray(random_image(8, 12, seed)) for seed in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    told = []
    path = serve.upscale_video(session, str(tmp_path / "moving.gif"), "fast", told.append)
    assert os.path.basename(path) == "moving.mp4" and told == sorted(told) and told[-1] == 1
    with av.open(path) as container:
        assert [frame.width for frame in container.decode(video=0)] == [48] * 3


def test_what_is_not_a_video_of_that_size_is_refused(serve, session, tmp_path):
    pytest.importorskip("av", reason="needs PyAV, which is not installed")
    still = save(tmp_path / "still.png", random_image(8, 12))
    large = [Image.fromarray(random_image(40, 40, seed)) for seed in range(2)]
    large[0].save(tmp_path / "large.gif", save_all=True, append_images=large[1:])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "list.ts").write_text(f"#EXTM3U\n#EXTINF:10,\nfile://{tmp_path}/bad.mp4\n#EXT-X-ENDLIST\n")
    said = {
        still: "still.png: is not a video; upscale it as an image",
        tmp_path / "large.gif": "large.gif: 40x40 pixels are more than the limit of 1,000; make it smaller",
        tmp_path / "bad.mp4": "bad.mp4: not a video that FFmpeg can read",
        tmp_path / "list.ts": "list.ts: not a video that FFmpeg can read",
    }
    for path, message in said.items():
        with pytest.raises(UserError) as error:
            serve.upscale_video(session, str(path), "fast", nothing)
        assert str(error.value) == message


def test_what_srgan_invents_is_its_difference_from_the_pretrained_generator(session, tmp_path, upscaler):
    generator = SRGAN.generator(4, 4, 1)
    upscalers = {SHIPPED_GENERATORS["pretrained"]: Upscaler(generator), SHIPPED_GENERATORS["srgan"]: upscaler}
    serve = Service(tf.distribute.get_strategy(), lambda paths, alpha: upscalers[paths[0]], 1000)
    image, told = random_image(9, 12), []
    pair, difference = serve.show_invented(session, str(save(tmp_path / "image.png", image)), told.append)
    srgan, pretrained = (upscale(image) for upscale in (upscaler, Upscaler(generator)))
    distance = np.abs(srgan.astype(int) - pretrained).mean()
    assert difference.mean == pytest.approx(distance) and distance > 1
    assert pathlib.Path(pair.left).read_bytes() == as_jpeg(srgan, None) and Image.open(pair.right).size == (48, 36)
    assert told[-1] == 1 and 0.5 in told


def test_errors_name_the_file_but_no_folder(serve, session, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    for call in (serve.check_image, lambda path: serve.show_invented(session, path, nothing)):
        with pytest.raises(UserError) as error:
            call(str(tmp_path / "bad.png"))
        assert str(error.value) == "bad.png: damaged, or not an image"


def test_a_result_that_cannot_be_written_is_told_without_its_folder(serve, session, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyimagesearch.inference.batch.write_image", refuse)
    source = save(tmp_path / "image.png", random_image(9, 12))
    _, failures = serve.upscale_images(session, [str(source)], "fast", 1, "png", nothing)
    assert failures == ["image.png: image.png cannot be written: No space left on device"]
