import logging
import resource
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch.errors import UserError
from pyimagesearch.losses import Losses
from pyimagesearch.srgan import SRGAN
from pyimagesearch.srgan_training import SRGANPretraining, SRGANTraining
from pyimagesearch.training.checkpoints import Checkpoints, DivergenceError
from pyimagesearch.training.optimizers import LossScaling
from pyimagesearch.vgg import VGG

HR = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
BATCH = tf.constant(HR[:, ::4, ::4]), tf.constant(HR)


def pretraining(seed=1):
    keras.utils.set_random_seed(seed)
    stage = SRGANPretraining(SRGAN.generator(4, 4, 1))
    stage.compile(keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9), Losses(1).mse_loss)
    return stage


def float16(seed=1):
    """A stage whose loss is scaled too much at first, and more after each second step."""
    keras.config.set_dtype_policy("mixed_float16")
    keras.utils.set_random_seed(seed)
    stage = SRGANPretraining(SRGAN.generator(4, 4, 1))
    optimizer = keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9)
    stage.compile(LossScaling(optimizer, initial_scale=2.0**33, dynamic_growth_steps=2), Losses(1).mse_loss)
    return stage


def gan(seed=1):
    keras.utils.set_random_seed(seed)
    vgg = VGG.build("vgg19:block1_conv1", "random")
    keras.utils.set_random_seed(seed)
    stage = SRGANTraining(SRGAN.generator(4, 4, 1), SRGAN.discriminator(4, 0.2, 2), vgg, 2)
    optimizers = (keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9), keras.optimizers.Adam(1e-3))
    stage.compile(*optimizers, Losses(1).bce_loss, Losses(1).mse_loss)
    return stage


def everything(stage):
    """All values that the further steps depend on."""
    optimizers = [getattr(stage, name) for name in ("g_optimizer", "d_optimizer") if hasattr(stage, name)]
    parts = [*(part.variables for part in (*stage.networks, *optimizers)), stage.statistics.averages]
    return [variable.numpy().copy() for variables in parts for variable in variables]


def take(stage, steps):
    for _ in range(steps):
        stage.train_step(BATCH)


def saved(folder, *steps):
    """A stage with a checkpoint after each number of further `steps`."""
    stage = pretraining()
    checkpoints = Checkpoints(str(folder), stage)
    for number in steps:
        take(stage, number)
        checkpoints.save()
    return stage, checkpoints


@pytest.mark.parametrize("make", [pretraining, gan, float16])
def test_training_resumes_from_a_checkpoint_bit_by_bit(make, tmp_path):
    undisturbed = make()
    checkpoints = Checkpoints(str(tmp_path), undisturbed)
    take(undisturbed, 2)
    checkpoints.save()
    take(undisturbed, 2)

    if make is gan:  # the checkpoint does not have the frozen network, so it must start with the same weights
        resumed = make()
        for network in resumed.networks:
            network.set_weights([weights + 1 for weights in network.get_weights()])
    else:
        resumed = make(seed=2)
    assert Checkpoints(str(tmp_path), resumed).restore() == 2
    take(resumed, 2)
    for expected, found in zip(everything(undisturbed), everything(resumed), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_without_checkpoints_training_begins_at_the_first_step(tmp_path):
    stage = pretraining()
    before = everything(stage)
    checkpoints = Checkpoints(str(tmp_path / "none"), stage)
    assert checkpoints.restore() == 0 and checkpoints.last_good() == "There is no checkpoint yet"
    for old, new in zip(before, everything(stage), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_three_newest_checkpoints_are_kept(tmp_path):
    _, checkpoints = saved(tmp_path, 1, 1, 1, 7)
    assert [path.rpartition("/")[2] for path in checkpoints.found()] == ["step-10", "step-3", "step-2"]
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"checkpoint", "step-2", "step-3", "step-10"}


@pytest.mark.parametrize(
    ("part", "damage"),
    [(part, damage) for part in ("index", "data-00000-of-00001") for damage in ("cut", "emptied", "altered")]
    + [("data-00000-of-00001", "removed")],
)
def test_a_damaged_checkpoint_is_left_for_the_one_before(part, damage, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    saved(tmp_path, 2, 2)
    path = tmp_path / f"step-4.{part}"
    data = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes({"cut": data[: len(data) // 2], "emptied": b"", "altered": data}[damage])
    stage = pretraining(seed=2)
    assert Checkpoints(str(tmp_path), stage).restore() == 2
    assert "step-4: damaged, skipped" in caplog.text and "resuming from step 2" in caplog.text
    expected, _ = saved(tmp_path / "other", 2)
    for one, other in zip(everything(expected), everything(stage), strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_all_checkpoints_are_damaged_training_does_not_silently_start_over(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "step-1.index").write_bytes(b"")
    with pytest.raises(UserError, match=f"{tmp_path}: all checkpoints are damaged; remove this folder"):
        Checkpoints(str(tmp_path), pretraining()).restore()


@pytest.mark.parametrize("text", [None, b"", b"model_checkpoint_path: nothing", b"\xff\xfe"])
def test_checkpoints_are_found_without_tensorflows_list_of_them(tmp_path, text):
    saved(tmp_path, 1, 1, 1)
    (tmp_path / "checkpoint").unlink() if text is None else (tmp_path / "checkpoint").write_bytes(text)
    stage = pretraining()
    checkpoints = Checkpoints(str(tmp_path), stage)
    assert checkpoints.restore() == 3
    take(stage, 1)
    checkpoints.save()
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"checkpoint", "step-2", "step-3", "step-4"}


def test_what_a_killed_write_leaves_behind_does_no_harm(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "step-2_temp").mkdir()
    shutil.copy(tmp_path / "step-1.data-00000-of-00001", tmp_path / "step-2_temp" / "part-00000-of-00001")
    shutil.copy(tmp_path / "step-1.data-00000-of-00001", tmp_path / "step-2.data-00000-of-00001")
    stage = pretraining(seed=2)
    checkpoints = Checkpoints(str(tmp_path), stage)
    assert checkpoints.restore() == 1
    take(stage, 1)
    checkpoints.save()
    assert Checkpoints(str(tmp_path), pretraining(seed=2)).restore() == 2


def test_a_step_that_is_saved_already_is_left_alone(tmp_path):
    _, checkpoints = saved(tmp_path, 1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    checkpoints.save()
    again = Checkpoints(str(tmp_path), pretraining())
    again.restore()
    again.save()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_full_disk_is_reported_and_leaves_the_earlier_checkpoints_good(tmp_path):
    stage, checkpoints = saved(tmp_path, 10)
    expected = everything(stage)
    stage.g_optimizer.iterations.assign(1)  # its name has the same beginning
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(UserError, match="checkpoint of step 1 cannot be written .*step-10$"):
            checkpoints.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"checkpoint", "step-10"}
    again = pretraining(seed=2)
    assert Checkpoints(str(tmp_path), again).restore() == 10
    for one, other in zip(expected, everything(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    stage = pretraining()
    checkpoints = Checkpoints(str(tmp_path / "file" / "checkpoints"), stage)
    take(stage, 1)
    with pytest.raises(UserError, match="file/checkpoints: the checkpoint of step 1 cannot be written"):
        checkpoints.save()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    stage, checkpoints = saved(tmp_path, 1)
    take(stage, 1)
    stage.generator.layers[-3].bias.assign([np.nan, 0, 0])
    with pytest.raises(DivergenceError, match="step 2"):
        checkpoints.save()


def test_of_several_workers_one_writes(tmp_path):
    Checkpoints(str(tmp_path), pretraining(), writes=False).save()
    assert list(tmp_path.iterdir()) == []
