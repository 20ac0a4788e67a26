import importlib.util
import threading

import cv2
import numpy as np
import pytest
import tensorflow as tf
from conftest import random_image, randomize

from pyimagesearch.data.image_io import LoadedImage
from pyimagesearch.data.metadata import Metadata
from pyimagesearch.errors import UserError
from pyimagesearch.inference import runtimes, upscaling
from pyimagesearch.inference.sizes import OutputSize
from pyimagesearch.inference.upscaling import Upscaler, pieces, upscale_image, within
from pyimagesearch.metrics import to_uint8
from pyimagesearch.srgan import SRGAN

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


def make_generator(blocks=1, scale=4, **options):
    generator = SRGAN.generator(scale, 4, blocks, **options)
    randomize(generator)
    return generator


@pytest.fixture
def as_made(monkeypatch):
    """Results of the generator without consistency, which is tested elsewhere."""
    monkeypatch.setattr(upscaling, "hold_colours", lambda lr, sr: None)


@pytest.mark.parametrize("length", [1, 2, 17, 30, 31, 32, 47, 100, 1000, 4001])
@pytest.mark.parametrize(("longest", "reach"), [(30, 0), (30, 7), (31, 14)])
def test_pieces_make_up_a_length_and_have_what_they_depend_on(length, longest, reach):
    parts = pieces(length, longest, reach)
    assert [place for part in parts for place in range(length)[part.inner]] == list(range(length))
    assert len({part.outer.stop - part.outer.start for part in parts}) == 1
    for outer, inner in parts:
        assert (
            0 <= outer.start <= inner.start < inner.stop <= outer.stop <= length and outer.stop - outer.start <= longest
        )
        assert outer.start == 0 or inner.start - outer.start >= reach
        assert outer.stop == length or outer.stop - inner.stop >= reach


def test_pieces_of_a_piece_use_what_it_has_beyond():
    for piece in pieces(500, 200, 40):
        parts = list(within(piece, 50, 3))
        assert [place for part in parts for place in range(500)[part.inner]] == list(range(500)[piece.inner])
        for outer, inner in parts:
            assert piece.outer.start <= outer.start and outer.stop <= piece.outer.stop
            assert outer.start == 0 or inner.start - outer.start >= 3
            assert outer.stop == 500 or outer.stop - inner.stop >= 3


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (17, 31), (32, 32), (33, 32), (40, 97)])
@pytest.mark.parametrize(
    ("blocks", "options"), [(1, {}), (3, {"batch_norm": False}), (0, {"scale": 2, "global_skip": True})]
)
def test_tiles_leave_no_trace(as_made, monkeypatch, size, blocks, options):
    monkeypatch.setattr(upscaling, "HEAD_TILE", 16)
    generator = make_generator(blocks, **options)
    lr = random_image(*size)
    whole = generator(lr[None].astype("float32")).numpy()[0]
    deep = Upscaler(generator, tile=32)(lr.astype(np.uint16) * 257)  # 16 bits show small errors
    np.testing.assert_allclose(deep / 257, whole.clip(0, 255), atol=0.02)
    assert np.std(whole) > 5


def test_tiles_of_8_bits_are_rounded(as_made):
    generator, lr = make_generator(), random_image(40, 50)
    sr = Upscaler(generator, tile=32)(lr)
    whole = generator(lr[None].astype("float32")).numpy()[0]
    assert sr.dtype == np.uint8 and np.abs(sr - whole).max() < 0.52


def test_in_bfloat16_results_are_near():
    generator, lr = make_generator(), random_image(40, 50)
    near = Upscaler(generator, precision="bfloat16", tile=32)(lr).astype(int)
    assert 0 < np.abs(near - Upscaler(generator)(lr)).mean() < 2


def test_progress_adds_up_to_the_pixels():
    done = []
    Upscaler(make_generator(), tile=32)(random_image(50, 70), done.append)
    assert sum(done) == 50 * 70 and len(done) > 4


def test_a_tile_that_shows_nothing_is_refused():
    with pytest.raises(
        UserError, match="tiles of 20 pixels: too small, the radius of the receptive field is 10 pixels"
    ):
        Upscaler(make_generator(), tile=20)


def test_without_memory_tiles_become_smaller(caplog):
    generator = make_generator()
    upscale = Upscaler(generator, tile=128)
    trunk, windows = upscale.trunk, []

    def small_trunk(window):
        windows.append(window.shape[1])
        if windows[-1] > 50:
            raise tf.errors.ResourceExhaustedError(None, None, "no memory")
        return trunk(window)

    upscale.trunk = small_trunk
    sr = upscale(random_image(100, 40))
    assert max(windows) == 100 and windows[-1] <= 50 and "tiles of 32 pixels" in caplog.text
    np.testing.assert_allclose(sr, Upscaler(generator)(random_image(100, 40)), atol=1)
    assert upscale.tile == 32


def test_if_no_tile_is_small_enough_an_error_is_raised():
    upscale = Upscaler(make_generator(), tile=64)

    def trunk(window):
        raise MemoryError

    upscale.trunk = trunk
    with pytest.raises(MemoryError):
        upscale(random_image(100, 40))


def test_a_strategy_computes_each_image_once(as_made, two_replicas):
    lr = random_image(5, 7)
    with two_replicas.scope():
        generator = make_generator()
        sr = Upscaler(generator)(lr)
    whole = to_uint8(generator(lr[None].astype("float32")).numpy()[0])
    np.testing.assert_allclose(sr.astype(int), whole, atol=1)


def test_several_devices_share_the_tiles_and_compute_each_once(as_made, two_replicas, monkeypatch):
    """Each waits until both compute."""
    on_device, both, computed = runtimes._on_device, threading.Barrier(2, timeout=60), []

    def recorded(network, device):
        compute = on_device(network, device)

        def on_this_device(x):
            computed.append((device, x.shape[1]))
            both.wait()
            return compute(x)

        return on_this_device if network.name == "trunk" else compute

    monkeypatch.setattr(runtimes, "_on_device", recorded)
    lr = random_image(90, 30)
    with two_replicas.scope():
        generator = make_generator()
        sr = Upscaler(generator)(lr)
    assert [device[-5:] for device, _ in sorted(computed)] == ["CPU:0", "CPU:1"]
    assert {rows for _, rows in computed} == {55}  # half of the rows and 10 more for the receptive field
    whole = to_uint8(generator(lr[None].astype("float32")).numpy()[0])
    np.testing.assert_allclose(sr.astype(int), whole, atol=1)


def openvino_capabilities():
    import openvino

    return openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize("runtime", ["tensorflow", pytest.param("openvino", marks=needs_openvino)])
def test_images_of_16_bits_are_computed_in_float32(runtime):
    generator = make_generator()
    lr = np.random.default_rng(0).integers(0, 2**16, (40, 50, 3), np.uint16)
    half, full = (Upscaler(generator, runtime, precision, tile=32) for precision in ("bfloat16", "float32"))
    np.testing.assert_array_equal(half(lr), full(lr))
    shallow = (lr >> 8).astype(np.uint8)
    assert (half(shallow) != full(shallow)).any() or (runtime == "openvino" and "BF16" not in openvino_capabilities())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grey_and_transparency_and_depth_stay(channels, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (6, 9, channels), dtype)
    pixels[..., -1] |= np.iinfo(dtype).max // 2 + 1  # all pixels are visible
    before = LoadedImage(pixels, Metadata(icc=b"profile", exif=b"exif", xmp=b"xmp"))
    upscale = Upscaler(make_generator())
    after = upscale_image(before, upscale)
    assert after.pixels.shape == (24, 36, channels) and after.pixels.dtype == dtype
    assert after.metadata == before.metadata
    if channels > 2:
        np.testing.assert_array_equal(after.pixels[..., :3], upscale(pixels[..., :3]))


def test_what_is_opaque_stays_opaque():
    pixels = np.dstack([random_image(6, 9), np.full((6, 9), 255, np.uint8)])
    pixels[:, 5:, 3] = 0
    alpha = upscale_image(LoadedImage(pixels), Upscaler(make_generator())).pixels[..., 3]
    assert (alpha[:, :12] == 255).all() and (alpha[:, -8:] == 0).all()


def disc(colour, hidden, dtype):
    """An object with soft edges on a transparent background of another colour, and an interpolating upscaler."""
    rows, columns = np.mgrid[:40, :40]
    opacity = np.clip(15 - np.hypot(rows - 20, columns - 20), 0, 1)
    full = np.iinfo(dtype).max
    alpha = np.round(opacity * full).astype(dtype)
    pixels = np.where(alpha[..., None] > 0, np.array(colour), np.array(hidden)).astype(dtype) * (full // 255)
    return np.dstack([pixels, alpha])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("colour", "hidden"),
    [((255, 255, 255), (0, 0, 0)), ((0, 0, 0), (255, 255, 255)), ((200,), (0,)), ((9, 99, 199), (0, 255, 0))],
)
@pytest.mark.parametrize("outscale", [None, 2, 3])
def test_an_object_has_its_own_colour_up_to_its_edge(monkeypatch, colour, hidden, dtype, outscale):
    def mix(lr, progress=None):
        return cv2.resize(lr, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)

    mix.scale = 4
    pixels = disc(colour, hidden, dtype)
    result = upscale_image(LoadedImage(pixels), mix, OutputSize(outscale)).pixels
    seen = result[..., -1] > 0
    step = np.iinfo(dtype).max // 255
    assert np.abs(result[seen][:, :-1] / step - colour).max() <= 1 and 0.2 < seen.mean() < 0.6


def test_colours_of_what_can_be_seen_are_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 4), np.uint8)
    colours, alpha = pixels[..., :3], pixels[..., 3]
    alpha[:, 10:] = 0
    filled = upscaling.filled(colours, alpha)
    np.testing.assert_array_equal(filled[alpha > 8], colours[alpha > 8])
    assert {tuple(pixel) for pixel in filled[:, 10:].reshape(-1, 3)} <= {tuple(pixel) for pixel in colours[alpha > 7]}
    for same in (0, 255):
        assert upscaling.filled(colours, np.full_like(alpha, same)) is colours


@pytest.mark.parametrize(("outscale", "size"), [(2, (12, 18)), (1.5, (9, 14)), (6, (36, 54))])
def test_results_can_be_of_another_size(outscale, size):
    before, upscale = LoadedImage(random_image(6, 9)), Upscaler(make_generator())
    after = upscale_image(before, upscale, OutputSize(outscale))
    assert after.pixels.shape == (*size, 3) and after.pixels.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resampling_is_antialiased(dtype):
    stripes = np.zeros((64, 64, 1), dtype)
    stripes[:, ::2] = np.iinfo(dtype).max
    half = upscaling.resample(stripes, 32, 32)
    assert half.dtype == dtype and np.ptp(half[4:-4, 4:-4].astype(int)) <= np.iinfo(dtype).max // 100


def test_bicubic_keeps_a_plane_and_upscales_by_the_scale():
    lr = np.full((1, 6, 5, 3), 77, np.uint8)
    np.testing.assert_array_equal(upscaling.bicubic(lr, 4), np.full((1, 24, 20, 3), 77))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [True, False])
def test_an_ensemble_turns_with_the_image(dtype, grey):
    lr = random_image(7, 10).astype(dtype) * (np.iinfo(dtype).max // 255)
    lr = lr[..., :1].repeat(3, axis=-1) if grey else lr
    generator = make_generator()
    ensemble, single = Upscaler(generator, ensemble=True), Upscaler(generator)
    sr = ensemble(lr).astype(int)
    assert np.abs(sr - single(lr)).max() > 0
    step = np.iinfo(dtype).max // 255
    for turned, back in ((lr[::-1], np.flipud), (np.rot90(lr), lambda image: np.rot90(image, -1))):
        other = back(ensemble(np.ascontiguousarray(turned)))
        assert np.abs(other.astype(int) - sr).max() <= step


def test_the_progress_of_an_ensemble_is_that_of_one_image():
    done = []
    Upscaler(make_generator(), ensemble=True)(random_image(7, 10), done.append)
    assert sum(done) == pytest.approx(70)
