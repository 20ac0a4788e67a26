import logging
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pyimagesearch import metrics
from pyimagesearch.data.pairs import Pair
from pyimagesearch.evaluation import scores
from pyimagesearch.srgan import SRGAN
from pyimagesearch.training import callbacks
from pyimagesearch.vgg import VGG


def train(callbacks, epochs=4, steps=3, first_step=0, logs=None, until=None, model=None):
    """Call callbacks as the loop does. `logs` returns the logs of an epoch."""
    callbacks = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs, steps=steps)
    callbacks.on_train_begin({"step": first_step})
    for epoch in range(first_step // steps, until or epochs):
        callbacks.on_epoch_begin(epoch)
        values = {} if logs is None else logs(epoch)
        for index in range(steps):
            callbacks.on_train_batch_end(index, dict(values))
        callbacks.on_epoch_end(epoch, dict(values))
    callbacks.on_train_end()


def test_without_a_terminal_progress_is_a_line_an_epoch(caplog, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: float(next(clock)))
    caplog.set_level(logging.INFO)
    train([callbacks.Progress("stage", 8)], logs=lambda epoch: {"pixel_loss": 12.3456, "d_real": 0.5})
    # Each look at the clock takes a second: a second an epoch, and two more before the first line.
    assert caplog.messages[0] == "stage: epoch 1 of 4, pixel_loss 12.35, 24 images/s, 00:09 left"
    assert caplog.messages[-1].startswith("stage: epoch 4 of 4,") and caplog.messages[-1].endswith(" 00:00 left")
    assert len(caplog.messages) == 4


def test_at_a_terminal_progress_is_one_bar_over_all_epochs(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    train([callbacks.Progress("stage", 8)], first_step=6, logs=lambda epoch: {"pixel_loss": 12.3456})
    out, _ = capsys.readouterr()
    assert "stage: " in out and "48.0/96.0" in out and "96.0/96.0" in out
    assert "pixel_loss 12.35, 00:00 left" in out
    assert "images/s" in out and "epoch" not in out


def test_rates_and_speed_become_part_of_the_logs():
    seen = []
    stage = keras.Model()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1e-3, 1e-4])
    stage.g_optimizer, stage.d_optimizer = keras.optimizers.SGD(1e-3), keras.optimizers.SGD(schedule)
    stage.d_optimizer.iterations.assign(5)
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))
    train([callbacks.Progress("stage", 8), callbacks.LearningRates(), look], epochs=1, model=stage)
    (logs,) = seen
    assert logs["images_per_second"] > 0
    assert (logs["g_rate"], logs["d_rate"]) == (pytest.approx(1e-3), pytest.approx(1e-4))


HR = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
LR = HR[:, ::4, ::4]
VGG_NETWORK = VGG.build("vgg19:block1_conv2", "random")


@pytest.fixture
def validation():
    keras.utils.set_random_seed(1)
    generator = SRGAN.generator(4, 4, 1)
    pairs = [(LR[first : first + 2], HR[first : first + 2]) for first in (0, 2, 4)]
    return callbacks.Validation(lambda model: generator, VGG_NETWORK, pairs, every=2)


def test_validation_measures_all_images_every_few_epochs_and_at_the_end(validation):
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs))))
    train([validation, look], epochs=5)
    assert [epoch for epoch, logs in seen if logs] == [1, 3, 4]
    sr = validation.sr
    np.testing.assert_allclose(sr.astype(int), metrics.to_uint8(validation.generator(LR.astype("float32"))), atol=1)
    _, logs = seen[-1]
    assert logs.keys() == {f"val_{name}" for name in ("psnr", "ssim", "perceptual_distance", "grid", "detail")}
    for name in ("psnr", "ssim", "detail"):
        measure = getattr(metrics, name)
        expected = np.mean([measure(true, test) for true, test in zip(HR, sr, strict=True)])
        assert logs[f"val_{name}"] == pytest.approx(expected)
    assert logs["val_grid"] == metrics.grid(sr)
    distances = metrics.perceptual_distance(VGG_NETWORK, HR, sr)
    assert logs["val_perceptual_distance"] == pytest.approx(np.mean(distances), rel=1e-3)


def test_validation_says_what_it_found(validation, caplog):
    caplog.set_level(logging.INFO)
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    train([validation, look], epochs=1)
    (line,) = caplog.messages
    assert line.startswith(
        f"validation: PSNR {seen[0]['val_psnr']:.2f} dB, SSIM {seen[0]['val_ssim']:.4f} (Y, 5 images)"
    )
    assert f"perceptual distance {seen[0]['val_perceptual_distance']:.4f}, grid {seen[0]['val_grid']:.2f}" in line
    assert line.endswith(f", detail {seen[0]['val_detail']:.2f}")


@pytest.mark.parametrize(("images", "each"), [(1, 1), (4, 2), (5, 3)])
def test_replicas_share_the_images_of_a_validation(two_replicas, images, each):
    traced = []

    class Twice(keras.layers.Layer):
        def call(self, x):
            traced.append(x.shape[0])
            return 2 * x

    lr = keras.Input((None, None, 3))
    generator = keras.Model(lr, Twice()(lr))
    traced.clear()
    with two_replicas.scope():
        sr = callbacks._compile(generator)(LR[:images])
    assert traced == [each, each]
    np.testing.assert_array_equal(sr, 2.0 * LR[:images])


def test_validation_and_evaluation_have_the_same_measures(validation):
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    train([validation, look], epochs=1)
    distance = scores.perceptual_distance(VGG_NETWORK)
    pairs = [Pair("", *images) for images in zip(LR, HR, strict=True)]
    measured = [scores.score(pair, sr, 4, distance, 0) for pair, sr in zip(pairs, validation.sr, strict=True)]
    mean = scores.mean_score(measured)
    found = [seen[0][f"val_{name}"] for name in ("psnr", "ssim", "perceptual_distance", "detail")]
    assert found == pytest.approx([mean.psnr_y, mean.ssim_y, mean.perceptual_distance, mean.detail])


def history(tmp_path, stage="pretrain"):
    return callbacks.History(str(tmp_path / "history.csv"), str(tmp_path / "images" / "curves.png"), stage)


def numbers(epoch):
    validated = {"val_psnr": 20.0 + epoch, "val_perceptual_distance": 0.7, "val_grid": 1.3, "val_detail": 0.4}
    return {"pixel_loss": 1 / (epoch + 3), **(validated if epoch % 2 else {})}


def test_the_history_of_both_stages_is_one_table_with_curves(tmp_path):
    train([history(tmp_path)], logs=numbers)
    train([history(tmp_path, "finetune")], epochs=2, logs=lambda epoch: {"d_real": 0.5, "val_psnr": 25.0})
    rows = callbacks.read_history(str(tmp_path / "history.csv"))
    places = [(row["stage"], row["epoch"], row["step"]) for row in rows]
    assert places == [("pretrain", epoch, epoch * 3) for epoch in range(1, 5)] + [
        ("finetune", 1, 3),
        ("finetune", 2, 6),
    ]
    assert rows[0]["pixel_loss"] == 1 / 3 and "val_psnr" not in rows[0]
    assert [rows[1][f"val_{name}"] for name in ("psnr", "perceptual_distance", "grid", "detail")] == [21, 0.7, 1.3, 0.4]
    image = np.asarray(Image.open(tmp_path / "images" / "curves.png").convert("RGB"))
    assert min(image.shape[:2]) > 500 and image.std() > 5


def test_an_interrupted_history_becomes_that_of_an_undisturbed_run(tmp_path):
    train([history(tmp_path)], logs=numbers)
    expected = (tmp_path / "history.csv").read_text()
    (tmp_path / "cut").mkdir()
    train([history(tmp_path / "cut")], logs=numbers, until=3)
    path = tmp_path / "cut" / "history.csv"
    path.write_text(path.read_text()[:-5])  # killed while it wrote a line
    train([history(tmp_path / "cut")], logs=numbers, first_step=3)  # the checkpoint is older than the table
    assert path.read_text() == expected


def test_damaged_lines_of_a_history_are_left_out(tmp_path, caplog):
    train([history(tmp_path)], logs=numbers)
    path = tmp_path / "history.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "pretrain,1.5,what\n", "\0\0\n", *lines[2:]]))
    assert [row["step"] for row in callbacks.read_history(str(path))] == [3, 6, 9, 12]
    assert "history.csv: a damaged line is skipped" in caplog.text


@pytest.fixture
def epochs_kept(tmp_path, validation, monkeypatch):
    """Return the numbers of the epochs whose generator is saved, given each epoch's logs. Rows are appended."""
    monkeypatch.setattr(callbacks.utils, "training_curves", lambda rows: None)
    monkeypatch.setattr(callbacks, "save_figure", lambda figure, path: None)

    def run(rank, logs, stage="finetune", **options):
        kept, table = [], history(tmp_path, stage)
        epoch = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: setattr(validation, "generator", epoch)
        )
        train(
            [epoch, callbacks.KeepBest(table, validation, rank, kept.append), table],
            epochs=len(logs),
            steps=1,
            logs=lambda epoch: logs[epoch],
            **options,
        )
        return kept

    return run


def test_the_best_generator_is_saved_whenever_it_gets_better_also_after_a_restart(epochs_kept):
    values = [{"val_psnr": psnr} if psnr else {} for psnr in (20.0, None, 22.0, 21.0, 22.0, 23.0)]
    assert epochs_kept(callbacks.by_psnr, values, until=5) == [0, 2]
    assert epochs_kept(callbacks.by_psnr, values, first_step=3) == [5]  # neither 21 nor a second 22
    assert epochs_kept(callbacks.by_psnr, [{"val_psnr": -psnr} for psnr in range(6)], "pretrain") == [0]


def looks(*measured):
    """Return logs of perceptual distances and grids."""
    return [
        {"val_psnr": 20.0 + epoch, "val_perceptual_distance": distance, "val_grid": grid}
        for epoch, (distance, grid) in enumerate(measured)
    ]


def test_the_best_looking_has_the_smallest_perceptual_distance_of_those_without_a_grid(epochs_kept):
    logs = looks((0.6, 1.3), (0.5, 1.6), (0.4, 1.7), (0.45, 1.2), (0.5, 1.1), (0.3, 2.0))
    assert epochs_kept(callbacks.by_looks, logs) == [0, 1, 3]


def test_while_all_have_a_grid_the_faintest_is_the_best_looking(epochs_kept):
    logs = looks((0.4, 3.0), (0.3, 3.1), (0.5, 1.8), (1.9, 1.5), (0.2, 1.61))
    assert epochs_kept(callbacks.by_looks, logs) == [0, 2, 3]


@pytest.mark.parametrize("stopped", range(1, 5))
def test_the_best_generator_is_the_same_after_a_run_resumes(epochs_kept, stopped):
    logs = looks((0.4, 3.0), (0.5, 2.0), (0.7, 1.5), (0.2, 1.7), (0.6, 1.6))
    first = epochs_kept(callbacks.by_looks, logs, until=stopped)
    assert first + epochs_kept(callbacks.by_looks, logs, first_step=stopped) == [0, 1, 2, 4]


def test_the_best_of_a_stage_is_judged_by_that_stage_alone(epochs_kept):
    assert epochs_kept(callbacks.by_looks, looks((0.2, 1.1)), "pretrain") == [0]
    assert epochs_kept(callbacks.by_looks, looks((0.5, 1.2))) == [0]


def test_tensorboard_gets_all_numbers_and_the_same_images_every_time(tmp_path, validation):
    from tensorboard.backend.event_processing import event_accumulator

    stage = keras.Model()
    board = callbacks.TensorBoard(str(tmp_path), validation)
    train([validation, board], epochs=4, model=stage, logs=lambda epoch: {"pixel_loss": 5.0 - epoch})
    (path,) = pathlib.Path(tmp_path).iterdir()
    events = event_accumulator.EventAccumulator(str(path), size_guidance={"tensors": 0})
    events.Reload()
    losses = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors("pixel_loss")]
    assert losses == [(3, 5.0), (6, 4.0), (9, 3.0), (12, 2.0)]
    for name in ("val_psnr", "val_perceptual_distance", "val_grid", "val_detail"):
        assert [event.step for event in events.Tensors(name)] == [6, 12]
    images = [tf.make_ndarray(event.tensor_proto) for event in events.Tensors("bicubic, generator, ground truth")]
    assert len(images) == 2
    for width, height, *encoded in images:
        assert (int(width), int(height), len(encoded)) == (96, 32, 3)
        for image, hr in zip(encoded, HR, strict=False):
            np.testing.assert_array_equal(tf.io.decode_png(image)[:, 64:], hr)


@pytest.mark.parametrize(
    ("d_real", "d_fake", "said"), [(0.99, 0.01, "won"), (0.5, 0.48, "lost"), (0.8, 0.2, None), (0.99, 0.3, None)]
)
def test_a_discriminator_that_has_won_or_lost_for_long_causes_one_warning(caplog, d_real, d_fake, said):
    train(
        [callbacks.DiscriminatorWatch()],
        epochs=20,
        steps=100,
        logs=lambda epoch: {"d_real": d_real, "d_fake": d_fake, "d_right": 1},
    )
    assert len(caplog.messages) == (said is not None)
    if said:
        assert f"the discriminator has {said} for 500 steps" in caplog.text


def test_a_smoothed_label_is_what_a_discriminator_that_has_won_gives(caplog):
    def logs(epoch):
        return {"d_real": 0.9, "d_fake": 0.01, "d_right": 1}

    train([callbacks.DiscriminatorWatch()], epochs=20, steps=100, logs=logs)
    assert caplog.messages == []
    train([callbacks.DiscriminatorWatch(real_label=0.9)], epochs=20, steps=100, logs=logs)
    assert "won" in caplog.text


def test_a_discriminator_that_has_won_now_and_then_is_no_matter(caplog):
    def logs(epoch):
        return {"d_real": 0.99, "d_fake": 0.01 if epoch % 4 else 0.3}

    train([callbacks.DiscriminatorWatch()], epochs=20, steps=100, logs=logs)
    assert caplog.messages == []


@pytest.mark.parametrize(("d_right", "lost"), [(0.52, True), (0.6, False), (1.0, False)])
def test_a_discriminator_of_pairs_is_judged_by_the_pairs(caplog, d_right, lost):
    logs = {"d_real": 0.5, "d_fake": 0.49, "d_right": d_right}
    train([callbacks.DiscriminatorWatch(relativistic=True)], epochs=20, steps=100, logs=lambda epoch: dict(logs))
    assert ("the discriminator has lost for 500 steps" in caplog.text) == lost
