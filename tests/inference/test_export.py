"""Exported generators, opened again in their own runtimes."""

import functools
import io
import json
import pathlib
import subprocess
import sys
import zipfile

import cv2
import flatbuffers
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage import data
from tensorflow.lite.python import schema_py_generated as schema

import export as script
from pyimagesearch.errors import UserError
from pyimagesearch.inference import export
from pyimagesearch.metrics import psnr, to_uint8
from pyimagesearch.srgan import SRGAN

ROOT = pathlib.Path(__file__).parents[2]
CAT = data.chelsea()
IMAGES = [
    CAT[None, 100:137, 150:201],  # the nose, 37x51
    CAT[None, 60:124, 100:140],
    np.stack([CAT[:30, :31], CAT[100:130, 200:231]]),
]
TOLERANCE = 255e-3
NCHW = ("--layout", "nchw", "--range", "0..1")
INT8 = ("--precision", "int8")
FIXED = ("--size", "37x51")


both_outputs = pytest.mark.parametrize("generator", [{}, {"global_skip": True}], indirect=True, ids=["tanh", "skip"])


@pytest.fixture(scope="module")
def generator(request):
    """A small generator with random weights and statistics."""
    keras.utils.set_random_seed(1)
    generator = SRGAN.generator(4, 8, 2, **getattr(request, "param", {}))
    noise = np.random.default_rng(0)
    for weight in generator.weights:
        shift = noise.normal(0, 0.1, weight.shape)
        weight.assign_add(np.abs(shift) if "variance" in weight.path else shift)
    return generator


@pytest.fixture(scope="module")
def exported(generator, tmp_path_factory):
    """Export it by the command, once with the same flags; return where it is."""

    @functools.cache
    def run(format, *options):
        if format == "onnx":
            pytest.importorskip("tf2onnx", reason="needs requirements-export.txt")
        model = tmp_path_factory.mktemp("models") / "generator.keras"
        generator.save(model)
        assert script.main(["--model", str(model), "--format", format, *options]) == 0
        path = model.parent / f"generator{export.FORMATS[format].ending}"
        assert set(model.parent.iterdir()) == {model, path}
        return str(path)

    return run


@pytest.mark.parametrize("flags", [("saved_model",), ("onnx",), ("litert", *INT8)])
def test_the_command_says_one_line(generator, tmp_path, flags):
    if "onnx" in flags:
        pytest.importorskip("tf2onnx", reason="needs requirements-export.txt")
    generator.save(tmp_path / "generator.keras")
    flags = ["--model", tmp_path / "generator.keras", "--format", *flags]
    done = subprocess.run([sys.executable, ROOT / "export.py", *flags], capture_output=True, text=True)
    (path,) = set(tmp_path.iterdir()) - {tmp_path / "generator.keras"}
    assert (done.returncode, done.stdout, done.stderr) == (0, f"[INFO] written: {path}\n", "")


@both_outputs
def test_a_saved_model_takes_and_gives_images_of_8_bits(generator, exported):
    upscale = tf.saved_model.load(exported("saved_model")).signatures["serving_default"]
    for lr in IMAGES:
        sr = upscale(lr=tf.constant(lr))["sr"].numpy()
        assert sr.dtype == np.uint8
        np.testing.assert_allclose(sr.astype(int), to_uint8(generator(lr)), atol=1)


@both_outputs
def test_onnx_runtime_computes_what_keras_computes(generator, exported):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs requirements-dev.txt")
    session = onnxruntime.InferenceSession(exported("onnx"))
    for lr in IMAGES:
        (sr,) = session.run(["sr"], {"lr": lr.astype(np.float32)})
        np.testing.assert_allclose(sr, generator(lr), atol=TOLERANCE)


@both_outputs
def test_opencv_computes_what_keras_computes(generator, exported):
    network = cv2.dnn.readNetFromONNX(exported("onnx"))
    for lr in IMAGES:
        network.setInput(lr.astype(np.float32))
        np.testing.assert_allclose(network.forward(), generator(lr), atol=TOLERANCE)


@both_outputs
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


def test_chainner_gets_colours_first_in_0_to_1_at_any_size(generator, exported):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs requirements-dev.txt")
    session = onnxruntime.InferenceSession(exported("onnx", *NCHW))
    for end, name in ((session.get_inputs(), "lr"), (session.get_outputs(), "sr")):
        assert [(place.name, place.type, place.shape[1]) for place in end] == [(name, "tensor(float)", 3)]
        assert not any(isinstance(side, int) for side in end[0].shape[2:])
    for lr in IMAGES:
        (sr,) = session.run(None, {"lr": lr.transpose(0, 3, 1, 2).astype(np.float32) / 255})
        np.testing.assert_allclose(sr.transpose(0, 2, 3, 1) * 255, generator(lr), atol=TOLERANCE)


@pytest.mark.parametrize("size", [(), FIXED])
def test_opencv_reads_the_blob_of_an_image(generator, exported, size):
    network = cv2.dnn.readNetFromONNX(exported("onnx", *NCHW, *size))
    bgr = cv2.cvtColor(IMAGES[0][0], cv2.COLOR_RGB2BGR)  # as cv2.imread returns it
    network.setInput(cv2.dnn.blobFromImage(bgr, 1 / 255, swapRB=True))
    sr = network.forward().transpose(0, 2, 3, 1) * 255
    np.testing.assert_allclose(sr, generator(IMAGES[0]), atol=TOLERANCE)


@pytest.mark.parametrize("layout", [(), NCHW[:2]])
def test_an_onnx_file_of_a_fixed_size_tells_it(exported, layout):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs requirements-dev.txt")
    session = onnxruntime.InferenceSession(exported("onnx", *layout, *FIXED))
    shapes = [session.get_inputs()[0].shape, session.get_outputs()[0].shape]
    assert shapes == ([[1, 3, 37, 51], [1, 3, 148, 204]] if layout else [[1, 37, 51, 3], [1, 148, 204, 3]])


@pytest.mark.parametrize("size", [(), FIXED])
def test_litert_computes_in_0_to_1(generator, exported, size):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs requirements-dev.txt")
    interpreter = litert.Interpreter(exported("litert", "--range", "0..1", *size))
    if size:
        (place,) = interpreter.get_input_details()
        assert list(place["shape_signature"]) == [1, 37, 51, 3]
    sr = interpreter.get_signature_runner()(lr=IMAGES[0].astype(np.float32) / 255)["sr"]
    np.testing.assert_allclose(sr * 255, generator(IMAGES[0]), atol=TOLERANCE)


@pytest.mark.parametrize("size", [(), FIXED])
def test_litert_computes_in_integers_what_keras_computes(generator, exported, size):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs requirements-dev.txt")
    interpreter = litert.Interpreter(exported("litert", *INT8, *size))
    assert {tensor["dtype"] for tensor in interpreter.get_tensor_details()} <= {np.uint8, np.int8, np.int32}
    ends = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert [(end["dtype"], end["quantization"]) for end in ends] == [(np.uint8, (1.0, 0))] * 2  # the levels of pixels
    if size:
        assert [list(end["shape_signature"]) for end in ends] == [[1, 37, 51, 3], [1, 148, 204, 3]]
    for lr in IMAGES[: 1 if size else 2]:
        sr = interpreter.get_signature_runner()(lr=lr)["sr"]
        assert psnr(to_uint8(generator(lr).numpy())[0], sr[0]) > 32  # a flat image has 14


EXPECTED = {"input": "lr", "output": "sr", "scale": "4", "colours": "RGB", "license": "CC0-1.0"}


@pytest.fixture
def described(generator, tmp_path):
    """Export a generator with a licence in a format; return the path."""

    def run(format, **options):
        path = str(tmp_path / f"generator{export.FORMATS[format].ending}")
        export.export(generator, format, path, export.Options(**options), "CC0-1.0")
        return path

    return run


def test_an_onnx_file_describes_itself(described):
    onnx = pytest.importorskip("onnx", reason="needs requirements-export.txt")
    model = onnx.load(described("onnx", layout="nchw", range="0..1", size=(5, 6)))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == EXPECTED | {
        "layout": "nchw",
        "range": "0..1",
        "size": "5x6",
        "precision": "float32",
        "dtype": "float32",
    }
    assert model.producer_name == "srgan-tf"
    assert model.doc_string == "SRGAN generator: upscales RGB images by a factor of 4"


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_litert_file_describes_itself(described, precision):
    data = pathlib.Path(described("litert", precision=precision)).read_bytes()
    model = schema.Model.GetRootAs(data)
    entries = [model.Metadata(number) for number in range(model.MetadataLength())]
    (number,) = (entry.Buffer() for entry in entries if entry.Name() == b"TFLITE_METADATA")
    buffer = model.Buffers(number).DataAsNumpy().tobytes()
    assert buffer[4:8] == b"M001"
    table = flatbuffers.table.Table(buffer, int.from_bytes(buffer[:4], "little"))
    name, description, license = (table.String(table.Offset(4 + 2 * slot) + table.Pos).decode() for slot in (0, 1, 5))
    assert (name, license) == ("srgan-tf", "CC0-1.0")
    title, *lines = description.splitlines()
    assert title == "SRGAN generator: upscales RGB images by a factor of 4."
    assert dict(line.split(": ") for line in lines) == EXPECTED | {
        "layout": "nhwc",
        "range": "0..255",
        "size": "any",
        "precision": precision,
        "dtype": "uint8" if precision == "int8" else "float32",
    }


def test_the_weights_in_a_litert_file_are_aligned(described):
    data = pathlib.Path(described("litert")).read_bytes()
    model, start = schema.Model.GetRootAs(data), np.frombuffer(data, np.uint8).ctypes.data
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    places = [buffer.DataAsNumpy().ctypes.data - start for buffer in buffers if buffer.DataLength()]
    assert len(places) > 10
    assert {place % 16 for place in places} == {0}


def test_a_saved_model_describes_itself(described):
    texts = json.loads(pathlib.Path(described("saved_model"), "assets.extra", "metadata.json").read_text())
    assert EXPECTED.items() <= texts.items()
    assert (texts["dtype"], texts["size"]) == ("uint8", "any")


def test_only_the_licence_of_the_projects_generators_is_known(generator, exported, tmp_path, monkeypatch):
    folder = pathlib.Path(exported("saved_model"))
    assert "license" not in json.loads((folder / "assets.extra" / "metadata.json").read_text())
    monkeypatch.chdir(tmp_path)
    assert script.main(["--format", "saved_model", "--output", "srgan"]) == 0
    assert json.loads(pathlib.Path("srgan", "assets.extra", "metadata.json").read_text())["license"] == "MIT"


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
    ("format", "options", "said"),
    [
        ("keras", NCHW[:2], "the format keras has no choice of layout; choose the format onnx for nchw"),
        ("litert", NCHW[:2], "the format litert has no choice of layout; choose the format onnx for nchw"),
        ("saved_model", NCHW[2:], "saved_model has no choice of range; choose the format onnx or litert for 0..1"),
        ("keras", FIXED, "the format keras has no choice of size; choose the format onnx or litert for 37x51"),
        ("onnx", INT8, "the format onnx has no choice of precision; choose the format litert for int8"),
        ("litert", (*INT8, *NCHW[2:]), "int8 has no choice of range; choose the precision float32 for 0..1"),
    ],
)
def test_options_that_a_format_does_not_have_are_refused(refused, format, options, said):
    assert said in refused("--format", format, *options)


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
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.keras")] == ["outputs/models/photo.keras"]
    assert not list((ROOT / "weights").glob(".unfinished*"))


def test_without_a_model_the_trained_generator_comes_first(generator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "models").mkdir(parents=True)
    generator.save(tmp_path / "outputs" / "models" / "generator.keras")
    assert script.main(["--format", "keras", "--output", "small.keras"]) == 0
    small = keras.models.load_model("small.keras")
    assert [weight.shape for weight in small.weights] == [weight.shape for weight in generator.weights]
