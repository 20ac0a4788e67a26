"""Exported generators, opened again in their own runtimes."""

import functools
import io
import pathlib
import subprocess
import sys
import zipfile

import cv2
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage import data

import export as script
from pyimagesearch.errors import UserError
from pyimagesearch.inference import export
from pyimagesearch.metrics import to_uint8
from pyimagesearch.srgan import SRGAN

ROOT = pathlib.Path(__file__).parents[2]
CAT = data.chelsea()
IMAGES = [
    CAT[None, 100:137, 150:201],  # the nose, 37x51
    CAT[None, 60:124, 100:140],
    np.stack([CAT[:30, :31], CAT[100:130, 200:231]]),
]
TOLERANCE = 255e-3


@pytest.fixture(scope="module")
def generator():
    """A small generator with random weights and statistics."""
    keras.utils.set_random_seed(1)
    generator = SRGAN.generator(4, 8, 2)
    noise = np.random.default_rng(0)
    for weight in generator.weights:
        shift = noise.normal(0, 0.1, weight.shape)
        weight.assign_add(np.abs(shift) if "variance" in weight.path else shift)
    return generator


@pytest.fixture(scope="module")
def exported(generator, tmp_path_factory):
    """Export it by the command, once in each format; return where it is."""
    model = tmp_path_factory.mktemp("models") / "generator.keras"
    generator.save(model)

    @functools.cache
    def run(format):
        if format == "onnx":
            pytest.importorskip("tf2onnx", reason="needs requirements-export.txt")
        flags = ["--model", model, "--format", format]
        done = subprocess.run([sys.executable, ROOT / "export.py", *flags], capture_output=True, text=True)
        path = model.parent / f"generator{export.FORMATS[format].ending}"
        assert (done.returncode, done.stdout, done.stderr) == (0, f"[INFO] written: {path}\n", "")
        assert not list(model.parent.glob(".unfinished*"))
        return str(path)

    return run


def test_a_saved_model_takes_and_gives_images_of_8_bits(generator, exported):
    upscale = tf.saved_model.load(exported("saved_model")).signatures["serving_default"]
    for lr in IMAGES:
        sr = upscale(lr=tf.constant(lr))["sr"].numpy()
        assert sr.dtype == np.uint8
        np.testing.assert_allclose(sr.astype(int), to_uint8(generator(lr)), atol=1)


def test_onnx_runtime_computes_what_keras_computes(generator, exported):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs requirements-dev.txt")
    session = onnxruntime.InferenceSession(exported("onnx"))
    for lr in IMAGES:
        (sr,) = session.run(["sr"], {"lr": lr.astype(np.float32)})
        np.testing.assert_allclose(sr, generator(lr), atol=TOLERANCE)


def test_opencv_computes_what_keras_computes(generator, exported):
    network = cv2.dnn.readNetFromONNX(exported("onnx"))
    for lr in IMAGES:
        network.setInput(lr.astype(np.float32))
        np.testing.assert_allclose(network.forward(), generator(lr), atol=TOLERANCE)


def test_litert_computes_what_keras_computes(generator, exported):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs requirements-dev.txt")
    interpreter = litert.Interpreter(exported("litert"))
    (lr_place,), (sr_place,) = interpreter.get_input_details(), interpreter.get_output_details()
    for lr in IMAGES:
        interpreter.resize_tensor_input(lr_place["index"], lr.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(lr_place["index"], lr.astype(np.float32))
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(sr_place["index"]), generator(lr), atol=TOLERANCE)


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Run a command that must fail. Check that it changes no file, and return its message."""
    monkeypatch.chdir(tmp_path)

    def check(*flags):
        before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
        assert script.main([*flags]) == 2
        _, err = capsys.readouterr()
        assert err.count("\n") == 1
        assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before
        return err

    return check


def test_missing_and_foreign_models_are_named(refused, tmp_path):
    said = refused("--format", "litert", "--model", "generator.keras")
    assert "generator.keras: no such model; make it with train_srgan.py" in said
    (tmp_path / "generator.keras").write_text("foreign")
    assert "generator.keras: not a generator" in refused("--format", "litert", "--model", "generator.keras")


def test_a_missing_package_is_named(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    said = refused("--format", "onnx")
    assert "the format onnx needs tf2onnx; run pip install -r requirements-export.txt" in said


@pytest.mark.parametrize(
    ("format", "output", "said"),
    [
        ("litert", "there.tflite", "there.tflite: already exists; allow overwriting, or choose another name"),
        ("saved_model", "folder", "folder: already exists"),
        ("litert", "there.onnx", "there.onnx: files of the format litert end in .tflite"),
        ("saved_model", "gs://mine/model", "gs://mine/model: exports are written to this machine only"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(refused, tmp_path, format, output, said):
    (tmp_path / "there.tflite").write_text("earlier")
    (tmp_path / "folder").mkdir()
    assert said in refused("--format", format, "--output", output)


@pytest.mark.parametrize(("format", "output"), [("saved_model", "models"), ("litert", "models.tflite")])
def test_overwrite_leaves_alone_what_is_no_export(refused, tmp_path, format, output):
    (tmp_path / output).mkdir()
    (tmp_path / output / "generator.keras").write_text("the work of days")
    assert f"{output}: exists and is not an export of the format {format}" in refused(
        "--format", format, "--output", output, "--overwrite"
    )


def test_a_folder_that_cannot_be_written_to_is_named(refused, generator, tmp_path):
    generator.save(tmp_path / "generator.keras")
    (tmp_path / "notes.txt").write_text("a file, not a folder")
    said = refused("--format", "litert", "--model", "generator.keras", "--output", "notes.txt/generator.tflite")
    assert "notes.txt: cannot be written to (File exists); choose another folder" in said


@pytest.mark.parametrize("format", ["saved_model", "litert"])
def test_overwrite_replaces_an_earlier_export(generator, tmp_path, format):
    generator.save(tmp_path / "generator.keras")
    flags = ["--format", format, "--model", str(tmp_path / "generator.keras")]
    path = tmp_path / f"generator{export.FORMATS[format].ending}"
    assert script.main(flags) == 0
    earlier = path.stat().st_ino
    assert script.main([*flags, "--overwrite"]) == 0
    assert path.stat().st_ino != earlier
    assert {file.name for file in tmp_path.iterdir()} == {"generator.keras", path.name}


def test_a_failure_leaves_the_earlier_export_and_nothing_else(generator, tmp_path, monkeypatch):
    path = tmp_path / "generator_saved_model"
    export.export(generator, "saved_model", str(path))
    files = {file: file.is_file() and file.read_bytes() for file in tmp_path.rglob("*")}

    def stop_halfway(self, aside, **_):
        pathlib.Path(aside).mkdir()
        (pathlib.Path(aside) / "saved_model.pb").write_text("half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "export", stop_halfway)
    with pytest.raises(KeyboardInterrupt):
        export.export(generator, "saved_model", str(path))
    assert {file: file.is_file() and file.read_bytes() for file in tmp_path.rglob("*")} == files


def test_a_model_is_not_replaced_by_its_export(tmp_path):
    model = tmp_path / "generator.keras"
    for output in (None, str(tmp_path / "." / "generator.keras")):
        with pytest.raises(UserError, match="generator.keras: is the model itself"):
            export.choose_output(str(model), "keras", output, overwrite=True)


def test_weights_too_large_for_16_bits_are_refused(tmp_path):
    generator = SRGAN.generator(4, 4, 1)
    generator.weights[0].assign(generator.weights[0] + 7e4)
    with pytest.raises(UserError, match="the format keras: this generator has weights that are too large for 16 bits"):
        export.export(generator, "keras", str(tmp_path / "small.keras"))
    assert not list(tmp_path.iterdir())


def test_half_the_space_holds_the_generator_itself(generator, tmp_path):
    path = tmp_path / "small.keras"
    export.export(generator, "keras", str(path))
    loaded = keras.models.load_model(path)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in generator.layers]
    assert {weight.dtype for weight in loaded.weights} == {"float32"}
    for found, weight in zip(loaded.get_weights(), generator.get_weights(), strict=True):
        np.testing.assert_array_equal(found, weight.astype(np.float16))
    with zipfile.ZipFile(path) as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as weights:
        stored = []
        weights.visititems(lambda _, item: stored.append(item) if isinstance(item, h5py.Dataset) else None)
        assert {item.dtype for item in stored} == {np.dtype("float16")}
        assert sum(item.size for item in stored) == sum(weight.numpy().size for weight in generator.weights)


def test_an_interpolation_of_two_generators_can_be_exported(generator, tmp_path):
    keras.utils.set_random_seed(2)
    other = SRGAN.generator(4, 8, 2)
    models = [str(tmp_path / name) for name in ("faithful.keras", "sharp.keras")]
    for network, path in zip((generator, other), models, strict=True):
        network.save(path)
    flags = [
        "--format",
        "keras",
        "--model",
        *models,
        "--alpha",
        "0.25",
        "--output",
        str(tmp_path / "interpolated.keras"),
    ]
    assert script.main(flags) == 0
    interpolated = keras.models.load_model(tmp_path / "interpolated.keras").get_weights()
    for found, one, two in zip(interpolated, generator.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(found, (0.75 * one + 0.25 * two).astype(np.float16))


def test_one_generator_is_exported_or_two_are_interpolated(refused):
    for flags in (["one.keras", "two.keras"], ["one.keras", "--alpha", "0.5"]):
        with pytest.raises(SystemExit, match="2"):
            refused("--format", "keras", "--model", *flags)


def test_without_a_model_the_generator_of_the_project_is_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script.main(["--format", "keras"]) == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.keras")] == ["outputs/models/srgan.keras"]
    assert not list((ROOT / "weights").glob(".unfinished*"))


def test_without_a_model_the_trained_generator_comes_first(generator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "models").mkdir(parents=True)
    generator.save(tmp_path / "outputs" / "models" / "generator.keras")
    assert script.main(["--format", "keras", "--output", "small.keras"]) == 0
    small = keras.models.load_model("small.keras")
    assert [weight.shape for weight in small.weights] == [weight.shape for weight in generator.weights]
