import dataclasses

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


@pytest.mark.parametrize(("name", "value"), TUTORIAL.items())
def test_the_tutorial_preset_has_the_tutorials_numbers(name, value):
    assert getattr(PRESETS["tutorial"], name) == value


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1


def test_data_set_and_lr_shape_follow_the_scaling_factor():
    config = Config(scaling_factor=2)
    assert (config.dataset, config.lr_shape) == ("div2k/bicubic_x2", (48, 48, 3))


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
