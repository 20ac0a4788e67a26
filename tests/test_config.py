import dataclasses
from itertools import pairwise

import pytest

from pyimagesearch.config import PRESETS, Config, Paths

TUTORIAL = {
    "dataset": "div2k/bicubic_x4",
    "shard_size": 256,
    "train_batch_size": 64,
    "infer_batch_size": 8,
    "hr_shape": (96, 96, 3),
    "lr_shape": (24, 24, 3),
    "scaling_factor": 4,
    "feature_maps": 64,
    "residual_blocks": 16,
    "leaky_alpha": 0.2,
    "disc_blocks": 4,
    "pretrain_lr": 1e-4,
    "finetune_lr": 1e-5,
    "pretrain_epochs": 2500,
    "finetune_epochs": 2500,
    "steps_per_epoch": 10,
    "seed": 42,
    "infer_hr_size": 96,
}


TUTORIAL |= {
    "pretrain_optimizer": "adam",
    "pretrain_loss": "mse",
    "pretrain_schedule": "constant",
    "pretrain_warmup": 0,
    "pretrain_crops": (),
    "adam_beta_2": 0.999,
    "clip_norm": 0.0,
    "prelu_slope": 0.0,
    "residual_scale": 1.0,
    "global_skip": False,
}
"""The values of Keras and of the paper for settings that the tutorial does not have."""


@pytest.mark.parametrize(("name", "value"), TUTORIAL.items())
def test_the_tutorial_preset_has_the_tutorials_numbers(name, value):
    assert getattr(PRESETS["tutorial"], name) == value


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_presets_train_on_the_low_resolution_of_the_records(config):
    assert config.degradation == "bicubic"


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


def test_data_set_and_lr_shape_follow_the_scaling_factor():
    config = Config(scaling_factor=2)
    assert (config.dataset, config.lr_shape) == ("div2k/bicubic_x2", (48, 48, 3))


def test_crops_grow_so_that_each_size_sees_as_many_pixels():
    config = Config(pretrain_epochs=61, steps_per_epoch=100, pretrain_crops=(64, 96, 128))
    phases = config.pretrain_phases
    assert [side for _, side in phases] == [64, 96, 128]
    firsts = [first for first, _ in phases]
    steps = [last - first for first, last in pairwise([*firsts, 6100])]
    assert [count * side**2 for count, side in zip(steps, (64, 96, 128), strict=True)] == [14_745_600] * 3
    assert Config().pretrain_phases == [(0, 96)]


def test_files_go_where_the_tutorial_puts_them():
    paths = Paths()
    assert paths.records == "tfrecord"
    assert paths.pretrained_generator == "outputs/models/pretrained_generator.keras"
    assert paths.generator == "outputs/models/generator.keras"
    assert paths.image("grid.png") == "outputs/images/grid.png"


def test_a_bucket_holds_records_and_models():
    paths = Paths.in_bucket("gs://mine")
    assert paths.records == "gs://mine/tfrecord"
    assert paths.generator == "gs://mine/outputs/models/generator.keras"
