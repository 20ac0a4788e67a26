"""The commands, run as by a user."""

import dataclasses
import io
import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import random_image, save
from PIL import Image

import create_tfrecords
import evaluate
import inference
import train_srgan
from pyimagesearch import config
from pyimagesearch.errors import UserError
from pyimagesearch.inference.results import NAME as RESULTS
from pyimagesearch.srgan import SRGAN
from pyimagesearch.training import builders, callbacks

ROOT = pathlib.Path(__file__).parents[1]
BRIEF = "--pretrain-epochs 1 --finetune-epochs 1 --steps-per-epoch 2 --batch-size 2 --vgg-weights random".split()


def run(script, *flags):
    return subprocess.run([sys.executable, ROOT / script, *map(str, flags)], capture_output=True, text=True)


@pytest.fixture
def run_here(monkeypatch, capfd):
    """Run a script as `python SCRIPT` does, but in this process; return its status, output and standard error."""

    def run(script, *flags):
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        return end.value.code, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def workplace(made_once):
    """A folder with the records of the demo and the models of a short run, and the outputs of the commands."""

    def make(place):
        flags = ["--preset", "demo", "--records", place / "tfrecord"]
        both = [*flags, "--outputs", place / "outputs", "--device", "gpu"]
        created = run("create_tfrecords.py", "--sample", *flags)
        trained = run("train_srgan.py", *both, *BRIEF)
        return created, trained, run("inference.py", *both)

    place, done = made_once("workplace", make)
    return place, *done


def test_all_commands_end_well_and_quietly(workplace):
    for done in workplace[1:]:
        assert (done.returncode, done.stderr) == (0, "")


def test_records_are_created_and_counted(workplace):
    place, created, *_ = workplace
    (shard,) = (place / "tfrecord" / "test").iterdir()
    assert shard.name == "00-6.tfrec"
    assert "[INFO] 6 records in" in created.stdout


def test_training_logs_its_progress(workplace):
    _, _, trained, _ = workplace
    for line in (
        "number of accelerators: 1",
        "no GPU is visible",
        "training shards found: 1",
        "stage 1 of 2, pretraining: epoch 1 of 1, pixel_loss ",
        "stage 2 of 2, fine-tuning: epoch 1 of 1, ",
        "validation: PSNR ",
    ):
        assert line in trained.stdout
    for loss in ("pixel_loss", "d_loss", "g_loss", "adversarial_loss", "content_loss"):
        assert re.search(rf"{loss} \d", trained.stdout)
    assert re.findall(r"stage (\d) .* images/s, 00:00 left$", trained.stdout, re.MULTILINE) == ["1", "2"]


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--degradation", "photo"], "degradation", "photo"),
        (["--pretrain-optimizer", "adam"], "pretrain_optimizer", "adam"),
        (["--pretrain-loss", "mse"], "pretrain_loss", "mse"),
        (["--pretrain-schedule", "constant"], "pretrain_schedule", "constant"),
        (["--finetune-schedule", "constant"], "finetune_schedule", "constant"),
        (["--pretrain-warmup", "0"], "pretrain_warmup", 0),
        (["--pretrain-crops"], "pretrain_crops", ()),
        (["--finetune-warmup", "9"], "finetune_warmup", 9),
        (["--discriminator", "patch"], "discriminator", "patch"),
        (["--spectral-norm"], "spectral_norm", True),
        (["--no-spectral-norm"], "spectral_norm", False),
        (["--disc-blocks", "3"], "disc_blocks", 3),
        (["--discriminator-optimizer", "adam"], "discriminator_optimizer", "adam"),
        (["--discriminator-lr", "0.5"], "discriminator_lr", 0.5),
        (["--discriminator-steps", "2"], "discriminator_steps", 2),
        (["--discriminator-warmup", "0"], "discriminator_warmup", 0),
        (["--adversarial-ramp", "0"], "adversarial_ramp", 0),
        (["--content-loss", "unit"], "content_loss", "unit"),
        (["--reduced-weight", "0"], "reduced_weight", 0.0),
        (["--grid-weight", "0"], "grid_weight", 0.0),
        (["--relativistic"], "relativistic", True),
        (["--no-relativistic"], "relativistic", False),
        (["--max-shift", "0"], "max_shift", 0),
        (["--adam-beta-2", "0.5"], "adam_beta_2", 0.5),
        (["--clip-norm", "0"], "clip_norm", 0.0),
        (["--adversarial-weight", "0"], "adversarial_weight", 0.0),
        (["--l1-weight", "0"], "l1_weight", 0.0),
        (["--label-smoothing", "0"], "label_smoothing", 0.0),
        (["--ema", "0"], "ema_momentum", 0.0),
        (["--no-freeze-bn"], "freeze_batch_norm", False),
        (["--freeze-bn"], "freeze_batch_norm", True),
        (["--no-bn"], "batch_norm", False),
        (["--bn"], "batch_norm", True),
        (["--prelu-slope", "0"], "prelu_slope", 0.0),
        (["--residual-scale", "1"], "residual_scale", 1.0),
        (["--global-skip"], "global_skip", True),
        (["--no-global-skip"], "global_skip", False),
    ],
)
@pytest.mark.parametrize("preset", ["tutorial", "shipped"])
def test_every_part_of_a_recipe_can_be_switched(preset, flags, field, value, monkeypatch):
    everything = dataclasses.replace(
        config.PRESETS[preset], pretrain_crops=(64, 96), clip_norm=1.0, label_smoothing=0.1, freeze_batch_norm=True
    )
    monkeypatch.setitem(config.PRESETS, preset, everything)
    args = train_srgan.parse_args(["--preset", preset, *flags])
    assert train_srgan.build_config(args) == dataclasses.replace(everything, **{field: value})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max-shift", "49"], "a shift of up to 49 pixels: more than half of the crop size, 96 pixels"),
        (["--preset", "paper", "--max-shift", "7"], "a shift of images: the paper's discriminator needs whole crops"),
    ],
)
def test_a_shift_that_leaves_the_discriminator_nothing_is_refused(flags, said):
    with pytest.raises(UserError, match=said):
        builders.check_shift(train_srgan.build_config(train_srgan.parse_args(flags)))


def test_the_numbers_of_an_earlier_run_are_where_another_one_starts(workplace):
    path = workplace[0] / "outputs" / "models" / "config.json"
    earlier = train_srgan.build_config(train_srgan.parse_args(["--config", str(path)]))
    brief = train_srgan.build_config(train_srgan.parse_args(["--preset", "demo", *map(str, BRIEF)]))
    assert earlier == brief
    changed = train_srgan.build_config(train_srgan.parse_args(["--config", str(path), "--grid-weight", "2", "--bn"]))
    assert changed == dataclasses.replace(earlier, grid_weight=2.0, batch_norm=True)


def difference(one, other, part="weights"):
    """Return the largest difference of the weights of two saved networks, or of a part of them, of the same shapes."""
    before, after = (getattr(keras.models.load_model(path), part) for path in (one, other))
    return max(np.abs(old.numpy() - new.numpy()).max() for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["pretrained_generator.keras", "generator.keras"])
def test_saved_generators_upscale_by_four(workplace, name):
    generator = keras.models.load_model(workplace[0] / "outputs" / "models" / name)
    assert generator(np.zeros((1, 5, 6, 3), "float32")).shape == (1, 20, 24, 3)


def test_fine_tuning_starts_from_the_pretrained_generator_and_moves_it(workplace):
    models = workplace[0] / "outputs" / "models"
    assert 0 < difference(models / "pretrained_generator.keras", models / "generator.keras") < 1e-2


def test_inference_prints_the_figures_of_all_three(workplace):
    *_, inferred = workplace
    for name in ("Bicubic", "SRGAN Pretrained", "SRGAN"):
        assert re.search(rf"^\[INFO\] {name} +PSNR [\d.]+ dB, SSIM [\d.]+ \(Y, ", inferred.stdout, re.MULTILINE)
    assert "Bicubic          PSNR 33.05 dB, SSIM 0.8112" in inferred.stdout


def test_the_images_can_be_opened_and_show_something(workplace):
    images = workplace[0] / "outputs" / "images"
    names = {"grid.png", "SRGAN Pretrained.png", "SRGAN.png", "training_curves.png"}
    assert {path.name for path in images.iterdir()} == names
    for path in images.iterdir():
        rgb = np.asarray(Image.open(path).convert("RGB"))
        assert min(rgb.shape[:2]) >= 700 and rgb.std() > 20
    width, height = Image.open(images / "grid.png").size
    assert width > 1400 and height > 1700  # five columns, six rows


@pytest.fixture
def enlarging(workplace, tmp_path):
    """A folder of images, and flags that upscale them with the generator of the short run."""
    save(tmp_path / "photos" / "a.png", random_image(20, 30))
    save(tmp_path / "photos" / "sub" / "b.jpg", random_image(30, 20, 1))
    models = workplace[0] / "outputs" / "models"
    flags = ["--device", "gpu", "--model", models / "generator.keras", "--output", tmp_path / "out", "--runtime"]
    return tmp_path, [*flags, "tensorflow", "--input", tmp_path / "photos"]


def test_images_are_upscaled_and_damaged_ones_are_named(enlarging, run_here):
    place, flags = enlarging
    (place / "photos" / "c.png").write_bytes(b"not an image")
    status, out, err = run_here("inference.py", *flags, "--compare", "--html")
    said = f"inference.py: {place / 'photos' / 'c.png'}: damaged, or not an image\n"
    assert (status, err) == (1, said)
    assert f"[INFO] 2 results written: {place / 'out'}" in out
    results = {str(path.relative_to(place / "out")) for path in (place / "out").rglob("*") if path.is_file()}
    assert results - {RESULTS, f"sub/{RESULTS}"} == {
        "a.png",
        "a compared.png",
        "sub/b.png",
        "sub/b compared.png",
        "index.html",
    }
    assert Image.open(place / "out" / "sub" / "b.png").size == (80, 120)


def test_results_are_kept_unless_overwrite_is_given(enlarging):
    place, flags = enlarging
    (place / "out").mkdir()
    (place / "out" / "a.png").write_text("precious")
    flags = list(map(str, flags))
    assert inference.main([*flags, "--precision", "float32"]) == 0
    assert (place / "out" / "a.png").read_text() == "precious"
    assert Image.open(place / "out" / "sub" / "b.png").size == (80, 120)
    assert inference.main([*flags, "--overwrite", "--outscale", "2", "--tile", "64"]) == 0
    assert Image.open(place / "out" / "a.png").size == (60, 40)


@pytest.mark.parametrize(
    ("size", "expected"), [(["--width", "50"], (50, 33)), (["--width", "9", "--height", "9"], (9, 9))]
)
def test_results_have_exactly_the_size_that_is_asked_for(enlarging, size, expected):
    place, flags = enlarging
    assert inference.main([*map(str, flags), *size]) == 0
    assert Image.open(place / "out" / "a.png").size == expected


def test_an_image_goes_through_standard_input_and_output(workplace, tmp_path):
    save(tmp_path / "a.jpg", random_image(20, 30))
    model = workplace[0] / "outputs" / "models" / "generator.keras"
    command = [sys.executable, ROOT / "inference.py", "-m", model, "-i", "-", "-o", "-", "--format", "auto", "-t", "64"]
    with open(tmp_path / "a.jpg", "rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("JPEG", (120, 80))
    assert b"[INFO] computing with " in done.stderr and b"generator.keras: " in done.stderr
    done = subprocess.run(command, input=b"not an image", capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"standard input: damaged, or not an image" in done.stderr and b"Traceback" not in done.stderr


def test_an_interpolation_at_its_ends_is_the_pretrained_generator_or_srgan(workplace, tmp_path):
    save(tmp_path / "a.png", random_image(20, 30))
    outputs = workplace[0] / "outputs"
    flags = ["--input", tmp_path / "a.png", "--runtime", "tensorflow", "--precision", "float32"]
    results = {}
    for name, chosen in {
        "0": ["--alpha", "0", "--outputs", outputs],
        "1": ["--alpha", "1", "--outputs", outputs],
        "faithful": ["--model", outputs / "models" / "pretrained_generator.keras"],
        "sharp": ["--model", outputs / "models" / "generator.keras"],
    }.items():
        assert inference.main(list(map(str, [*flags, *chosen, "--output", tmp_path / name]))) == 0
        results[name] = np.asarray(Image.open(tmp_path / name / "a.png"))
    np.testing.assert_array_equal(results["0"], results["faithful"])
    np.testing.assert_array_equal(results["1"], results["sharp"])
    assert (results["0"] != results["1"]).any()


def test_the_gan_stage_starts_from_given_networks_and_the_numbers_of_an_earlier_run(workplace, tmp_path):
    for name in ("start", "srgan"):
        SRGAN.generator(4, 32, 2, upsampling_maps=16, batch_norm=False).save(tmp_path / f"{name}.keras")
    start, srgan, earlier = tmp_path / "start.keras", tmp_path / "srgan.keras", workplace[0] / "outputs" / "models"
    flags = ["--config", earlier / "config.json", "--records", workplace[0] / "tfrecord", "--outputs", tmp_path]
    flags += ["--vgg-weights", "random", "--init-generator", start, "--init-srgan", srgan]
    flags += ["--init-discriminator", earlier / "discriminator.keras", "--seed", 1, "--finetune-lr", "1e-6"]
    assert train_srgan.main(list(map(str, flags))) == 0
    assert difference(tmp_path / "models" / "pretrained_generator.keras", start) == 0
    assert 0 < difference(tmp_path / "models" / "generator.keras", srgan) < 1e-4
    discriminators = (folder / "discriminator.keras" for folder in (earlier, tmp_path / "models"))
    assert 0 < difference(*discriminators, part="trainable_weights") < 1e-4


def test_fine_tuning_refuses_an_srgan_of_another_network(refused, workplace, tmp_path):
    SRGAN.generator(4, 12, 2).save(tmp_path / "start.keras")
    SRGAN.generator(4, 12, 3).save(tmp_path / "srgan.keras")
    flags = ["--preset", "demo", "--records", workplace[0] / "tfrecord", *BRIEF, "--init-generator", "start.keras"]
    said = refused(train_srgan, *flags, "--init-srgan", "srgan.keras")
    assert "srgan.keras: its network differs from that of the initial generator" in said


def test_a_discriminator_of_another_network_is_refused(refused, workplace, tmp_path):
    SRGAN.patch_discriminator(12, 0.2, 2).save(tmp_path / "other.keras")
    flags = ["--preset", "demo", "--records", workplace[0] / "tfrecord", *BRIEF, "--init-discriminator"]
    assert "other.keras: its network differs from the discriminator" in refused(train_srgan, *flags, "other.keras")
    (tmp_path / "damaged.keras").write_bytes(b"no network")
    assert "damaged.keras: not a discriminator" in refused(train_srgan, *flags, "damaged.keras")
    assert "missing.keras: no such model" in refused(train_srgan, *flags, "missing.keras")


def test_the_first_stage_can_start_from_a_generator_too_and_keep_its_batch_statistics(workplace, tmp_path):
    start = tmp_path / "start.keras"
    SRGAN.generator(4, 12, 2).save(start)
    flags = ["--preset", "demo", "--records", workplace[0] / "tfrecord", "--outputs", tmp_path, *BRIEF, "--freeze-bn"]
    flags = list(map(str, [*flags, "--init-generator", start, "--init-stage", "pretrain", "--pretrain-lr", "1e-6"]))
    assert train_srgan.main(flags) == 0
    assert 0 < difference(start, tmp_path / "models" / "pretrained_generator.keras") < 1e-5
    assert [row["stage"] for row in callbacks.read_history(str(tmp_path / "history.csv"))] == ["pretrain", "finetune"]


@pytest.fixture
def benchmark(tmp_path):
    """A benchmark with HR/ alone."""
    for seed in range(2):
        save(tmp_path / "Two" / "HR" / f"{seed}.png", random_image(41, 50, seed))
    return tmp_path / "Two"


def test_evaluate_writes_tables_and_figures(workplace, benchmark, tmp_path):
    models = [workplace[0] / "outputs" / "models" / f"{name}.keras" for name in ("pretrained_generator", "generator")]
    flags = ["--benchmark", benchmark, "--model", *models, "--alpha", 0, "--output", tmp_path / "out"]
    done = run("evaluate.py", *flags, "--vgg-weights", "random", "--vgg-layer", "vgg16:block1_conv2")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.md", "results.json", "images.csv", "Two.png")
    }
    said = json.loads((tmp_path / "out" / "results.json").read_text())
    means = said["benchmarks"]["Two"]["means"]
    assert list(means) == ["bicubic", "pretrained_generator", "generator", "alpha 0"]
    assert means["alpha 0"]["psnr_y"] == means["pretrained_generator"]["psnr_y"] != means["generator"]["psnr_y"]
    assert (
        means["bicubic"]["perceptual_distance"] > 0
        and "vgg16:block1_conv2, random" in said["protocol"]["perceptual_distance"]
    )
    assert "made from HR by antialiased bicubic" in done.stdout
    for name in means:
        assert f"| {name} " in done.stdout and f"| {name} " in (tmp_path / "out" / "results.md").read_text()
    assert len((tmp_path / "out" / "images.csv").read_text().splitlines()) == 1 + 2 * 4
    assert min(Image.open(tmp_path / "out" / "Two.png").size) > 700


def test_evaluate_measures_each_degradation_in_a_table_of_its_own(benchmark, tmp_path, capsys):
    SRGAN.generator(4, 4, 1).save(tmp_path / "x4.keras")
    flags = ["--benchmark", benchmark, "--model", tmp_path / "x4.keras", "--output", tmp_path / "out"]
    assert evaluate.main([str(flag) for flag in [*flags, "--degradation", "clean", "jpeg:30", "noise:9,blur:1"]]) == 0
    said = json.loads((tmp_path / "out" / "results.json").read_text())
    clean, *degraded = (said["benchmarks"][name]["means"]["bicubic"]["psnr_y"] for name in said["benchmarks"])
    assert list(said["benchmarks"]) == ["Two", "Two, JPEG 30", "Two, blur 1, noise 9"]
    assert max(degraded) < clean
    assert "then degraded: blur 1, noise 9." in capsys.readouterr().out
    assert (tmp_path / "out" / "Two, JPEG 30.png").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--benchmark", "Two", "--degradation", "jpeg:0"], "--degradation: jpeg:0 is not a whole number from 1"),
        (["--benchmark", "nowhere"], "benchmark nowhere: no images in nowhere/HR"),
        (["--benchmark", "Two", "--alpha", "2"], "--alpha"),
        (["--benchmark", "Two", "--alpha", "0.5", "--model", "x2.keras"], "--alpha interpolates two generators"),
        (["--benchmark", "Two", "--output", "gs://there"], "--output gs://there: tables are written to this machine"),
        (["--benchmark", "Two", "--vgg-layer", "vgg16:block1_conv1"], "--vgg-layer needs --vgg-weights"),
        (["--benchmark", "Two", "--model", "x4.keras", "./x4.keras", "--alpha", "0"], "--alpha interpolates two"),
        (["--benchmark", "Two", "--model", "x2.keras", "x4.keras"], "x2 ×2, x4 ×4; measure them in separate runs"),
        (
            ["--benchmark", "Two", "--model", "x4.keras", "x2.keras", "--alpha", "1"],
            "interpolation: the two generators are",
        ),
        (["--benchmark", "Two", "--model", "x4.keras", "--vgg-weights", "nowhere.h5"], "VGG weights nowhere.h5: "),
    ],
)
def test_evaluate_refuses(refused, benchmark, tmp_path, flags, said):
    for scale in (2, 4):
        SRGAN.generator(scale, 4, 1).save(tmp_path / f"x{scale}.keras")
    assert said in refused(evaluate, *flags)


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("evaluate.py", ["--benchmark", "nowhere"]),
        ("create_tfrecords.py", ["--images", "nowhere"]),
        ("train_srgan.py", ["--device", "gpu", "--records", "nowhere"]),
        ("inference.py", ["--device", "tpu", "--tpu", "local"]),
    ],
)
def test_a_user_error_is_one_line_on_standard_error_and_status_2(run_here, script, flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run_here(script, *flags)
    assert status == 2
    assert err.startswith(f"{script}: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Run a command that must fail. Check that it changes no file, and return its message."""
    monkeypatch.chdir(tmp_path)

    def check(script, *flags):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        try:
            status = script.main([str(flag) for flag in flags])
        except SystemExit as stop:
            status = stop.code
        _, err = capsys.readouterr()
        assert status == 2 and err.count("\n") == 1
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return err

    return check


def test_create_refuses_an_empty_folder(refused, tmp_path):
    (tmp_path / "photos").mkdir()
    assert "photos: no photographs in it" in refused(create_tfrecords, "--images", "photos")


def test_create_refuses_unreadable_and_small_images_and_leaves_no_shard(refused, tmp_path):
    for seed in range(3):
        save(tmp_path / "photos" / f"{seed}.png", random_image(100, 120, seed))
    save(tmp_path / "small" / "little.png", random_image(95, 300))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    for folder, said in (("broken", "broken.jpg: damaged, or not an image"), ("small", "little.png: 300x95 pixels")):
        assert said in refused(create_tfrecords, "--images", "photos", "--test-images", folder)
    assert "120x100 pixels" in refused(create_tfrecords, "--images", "photos", "--strict", "--crop-size", "104")


@pytest.mark.parametrize(
    "flags",
    [
        ["--scaling-factor", "3"],
        ["--test-fraction", "2", "--images", "photos"],
        ["--test-fraction", "0.5"],
        ["--crop-size", "24"],
        ["--images", "photos", "--sample"],
        ["--lr-images", "small"],
        ["--test-lr-images", "small", "--images", "photos", "--lr-images", "small"],
        ["--test-images", "held_out", "--images", "photos", "--lr-images", "small"],
    ],
)
def test_create_refuses_flags_that_make_no_sense(refused, flags):
    assert flags[0] in refused(create_tfrecords, *flags)


def test_create_refuses_missing_zips(refused, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    said = refused(create_tfrecords, "--manual-dir", "nowhere")
    assert "nowhere/DIV2K_train_LR_bicubic_X4.zip" in said and "DIV2K_train_HR.zip (3,530,603,713 bytes)" in said


@pytest.fixture
def flags(workplace):
    place = workplace[0]
    return ["--device", "gpu", "--preset", "demo", "--records", place / "tfrecord", "--outputs", "outputs"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--records", "nowhere"], "nowhere: no finished records"),
        (["--device", "tpu"], "--device tpu: "),
        (["--device", "tpu", "--tpu", "mine", "--bucket", "mine"], "--bucket mine: "),
        (["--device", "abacus"], "--device"),
        (["--vgg-weights", "nowhere.h5"], "VGG weights nowhere.h5: "),
        (["--vgg-layer", "vgg19:block9_conv1"], "VGG layer"),
        (["--scaling-factor", "3"], "--scaling-factor"),
        (["--scaling-factor", "2"], "a scaling factor of 4, not 2"),
        (["--pretrain-epochs", "0"], "--pretrain-epochs"),
        (["--batch-size", "many"], "--batch-size"),
        (["--crop-size", "100"], "--crop-size: '100' is not a multiple of 8"),
        (["--crop-size", "104"], "records for crops of 64 pixels, not of 104"),
        (["--batch-size", "369"], "a batch of 369 crops is too large: the 46 training records give 368"),
        (["--precision", "float8"], "--precision"),
        (["--finetune-lr", "0"], "--finetune-lr"),
        (["--degradation", "heavy"], "--degradation"),
        (
            ["--degradation", "photo", "--device", "tpu", "--tpu", "mine", "--bucket", "gs://mine"],
            "--degradation photo needs a TPU of this machine",
        ),
        (["--init-generator", "any.keras", "--no-bn"], "--init-generator has its own network"),
        (["--init-srgan", "any.keras"], "--init-srgan starts the GAN stage"),
    ],
)
def test_train_refuses(refused, flags, wrong, said):
    assert said in refused(train_srgan, *flags, *BRIEF, *wrong)


def test_train_refuses_a_configuration_that_is_none(refused, tmp_path):
    assert "nowhere.json: no such file" in refused(train_srgan, "--config", "nowhere.json")
    (tmp_path / "broken.json").write_text('{"seed": 1')
    assert "broken.json: damaged" in refused(train_srgan, "--config", "broken.json")
    (tmp_path / "other.json").write_text('{"colour": 1}')
    assert "other.json: unknown settings: 'colour'" in refused(train_srgan, "--config", "other.json")
    assert "not allowed with argument" in refused(train_srgan, "--config", "other.json", "--preset", "demo")


def test_train_refuses_a_damaged_shard_and_records_of_another_format(refused, workplace, flags, tmp_path):
    records = tmp_path / "tfrecord"
    (records / "train").mkdir(parents=True)
    (records / "manifest.json").write_bytes((workplace[0] / "tfrecord" / "manifest.json").read_bytes())
    (shard,) = (workplace[0] / "tfrecord" / "train").iterdir()
    (records / "train" / shard.name).write_bytes(shard.read_bytes()[:-1])
    assert f"{shard.name}: damaged" in refused(train_srgan, *flags, *BRIEF, "--records", "tfrecord")
    (records / "manifest.json").write_text('{"format": 0}')
    assert "manifest.json: records of format 0, not 3" in refused(train_srgan, *flags, *BRIEF, "--records", "tfrecord")


def test_train_refuses_a_damaged_record_within_a_shard(refused, workplace, flags, tmp_path):
    shutil.copytree(workplace[0] / "tfrecord", tmp_path / "tfrecord")
    (shard,) = (tmp_path / "tfrecord" / "train").iterdir()
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    all_at_once = ["--batch-size", 46, "--outputs", workplace[0] / "elsewhere"]
    said = refused(train_srgan, *flags, *BRIEF, "--records", "tfrecord", *all_at_once)
    assert f"{shard.name}: damaged" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--html"], "--html needs --input"),
        (["--format", "jpeg"], "--format needs --input"),
        (["--input", "nowhere.png"], "nowhere.png: no such file or folder"),
        (["--input", "photos", "--output", "photos"], "photos: is the input and the output at once"),
        (["--input", "photos", "--model", "nowhere.keras"], "nowhere.keras: no such model"),
        (["--input", "photos", "--alpha", "0.5"], "argument --alpha/--blend: not allowed with argument -m/--model"),
        (["--alpha", "0"], "--alpha needs --input"),
        (
            ["--input", "photos", "--tile", "20"],
            "tiles of 20 pixels: too small, the radius of the receptive field is 16 pixels",
        ),
        (["--input", "photos", "--output", "photos/a.png"], "photos/a.png: is one file"),
        (["--input", "photos/a.png", "--output", "photos/a.png"], "photos/a.png: is an input and a result at once"),
        (["--input", "photos", "--format", "xcf"], "--format"),
        (["--input", "photos", "--width", "9", "--long-side", "9"], "exclude each other; give one of them"),
        (["--input", "-", "photos"], "--input -: is one image"),
        (["--input", "photos/a.png", "--output", "-", "--html"], "--output -: has no folder for --compare and --html"),
        (["--input", "photos", "--output", "-"], "--output -: takes the result of one image"),
        (["--input", "photos", "--suffix", "a/b"], "'a/b' cannot be part of a file name"),
        (["--input", "photos", "--device", "cuda"], "'cuda' is not one of gpu, gpu:0, gpu:1 ..., cpu, tpu"),
        (["--input", "photos", "--device", "gpu:7"], "gpu:7: no such GPU; this machine has 0"),
    ],
)
def test_inference_refuses(refused, workplace, tmp_path, flags, said):
    save(tmp_path / "photos" / "a.png", random_image(20, 30))
    model = workplace[0] / "outputs" / "models" / "generator.keras"
    assert said in refused(inference, "--device", "gpu", *(["--model", model] if "--input" in flags else []), *flags)


def test_inference_refuses_missing_and_foreign_models(refused, flags, tmp_path):
    assert "pretrained_generator.keras: no such model" in refused(inference, *flags)
    (tmp_path / "outputs" / "models").mkdir(parents=True)
    (tmp_path / "outputs" / "models" / "pretrained_generator.keras").write_text("foreign")
    assert "pretrained_generator.keras: not a generator" in refused(inference, *flags)


def test_inference_refuses_test_images_smaller_than_its_crop(refused, workplace, flags, tmp_path):
    for seed in range(2):
        save(tmp_path / "photos" / f"{seed}.png", random_image(100, 100, seed))
    assert create_tfrecords.main(["--images", "photos", "--records", "small"]) == 0
    outputs = workplace[0] / "outputs"
    said = refused(inference, *flags, "--records", "small", "--outputs", outputs)
    assert "small/test: images smaller than 144x144 pixels; choose a preset with smaller test crops" in said


def test_photographs_of_ones_own_become_records(tmp_path, shared_data, capsys):
    photos = sorted((shared_data / "photos2k").glob("*.jpg"))[:3]
    (tmp_path / "photos").mkdir()
    for photo in photos:
        (tmp_path / "photos" / photo.name).symlink_to(photo)
    flags = ["--images", str(tmp_path / "photos"), "--records", str(tmp_path / "tfrecord"), "--processes", "1"]
    assert create_tfrecords.main(flags) == 0
    assert "1 records in" in capsys.readouterr().out and (tmp_path / "tfrecord" / "test" / "00-1.tfrec").exists()
