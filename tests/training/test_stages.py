import dataclasses
import functools
import logging
import shutil

import keras
import numpy as np
import pytest
from conftest import write_records
from tiny_training import SGD

from pyimagesearch import layers
from pyimagesearch.config import Config, Paths
from pyimagesearch.data import tfrecords
from pyimagesearch.data_preprocess import load_dataset, load_test_pairs
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders, callbacks
from pyimagesearch.training.stages import Training
from pyimagesearch.vgg import VGG

CONFIG = dataclasses.replace(
    Config(),
    hr_shape=(32, 32, 3),
    train_batch_size=2,
    feature_maps=4,
    residual_blocks=1,
    disc_blocks=2,
    pretrain_lr=1e-5,
    finetune_lr=1e-4,
    pretrain_epochs=2,
    finetune_epochs=2,
    steps_per_epoch=2,
    checkpoint_every=1,
    validate_every=1,
    ema_momentum=0.9,
)


@pytest.fixture(autouse=True)
def sgd(monkeypatch):
    monkeypatch.setattr(builders, "Adam", SGD)


def assert_near(one, other):
    """Check that images in 0..255 differ by rounding only: names of layers, which order sums, differ in one process."""
    np.testing.assert_allclose(one, other, atol=1e-3)


def prepare(folder, make_pair, config, writes=True):
    """Return a training in `folder`, on records of noise that are made at the first time."""
    records = str(folder / "records")
    if not (folder / "records").exists():
        pairs = [make_pair(seed=seed) for seed in range(4)]
        write_records(records, {"train": pairs, "test": pairs[:3]})
    train, test = (tfrecords.find_shards(records, split, 4) for split in ("train", "test"))
    keras.utils.set_random_seed(config.seed)
    return Training(
        config,
        Paths(outputs=str(folder / "outputs")),
        VGG.build("vgg19:block1_conv1", "random"),
        builders.Snapshot(config),
        functools.partial(
            load_dataset, train, config.train_batch_size, train=True, hr_crop_size=32, crops_per_record=4
        ),
        load_test_pairs(test, 2, hr_crop_size=96),
        writes=writes,
    )


def train_both(folder, make_pair, num_replicas):
    """Train or resume both stages under the current strategy, and return the generator."""
    training, losses = prepare(folder, make_pair, CONFIG), Losses(num_replicas)
    chosen = layers.choose(num_replicas, on_cpu=True)
    generator = builders.build_generator(CONFIG, **chosen)
    training.run("pretrain", builders.pretraining_stage(CONFIG, generator, losses))
    discriminator = builders.build_discriminator(CONFIG, chosen["norm"])
    stage = builders.gan_stage(CONFIG, generator, discriminator, training.vgg, losses)
    return training.run("finetune", stage)


def copy_first_epoch(folder, other, stage):
    """Copy the records and the checkpoints of a training that was stopped after the first epoch of a stage."""
    shutil.copytree(folder / "records", other / "records")
    checkpoints = "outputs/checkpoints"
    shutil.copytree(folder / checkpoints, other / checkpoints)
    for path in (other / checkpoints / stage).glob("step-[46]*"):
        path.unlink()


def test_both_stages_keep_everything_and_resume_with_two_replicas(two_replicas, tmp_path, make_pair, capfd, caplog):
    caplog.set_level(logging.INFO)
    with two_replicas.scope():
        whole = train_both(tmp_path / "whole", make_pair, 2)
        copy_first_epoch(tmp_path / "whole", tmp_path / "parts", "finetune")
        parts = train_both(tmp_path / "parts", make_pair, 2)
    assert caplog.text.count("resuming from step 2") == 1
    lr = make_pair().lr[None].astype("float32")
    assert_near(parts(lr), whole(lr))
    outputs = tmp_path / "whole" / "outputs"
    found = {str(path.relative_to(outputs)) for path in outputs.rglob("*") if path.is_file()}
    names = ("pretrained_generator", "best_pretrained_generator", "generator", "best_generator")
    assert {f"models/{name}.keras" for name in names} | {"history.csv", "images/training_curves.png"} <= found
    assert {f"checkpoints/{stage}/step-4.index" for stage in ("pretrain", "finetune")} <= found
    saved = keras.models.load_model(outputs / "models" / "generator.keras")
    for one, other in zip(whole.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
    assert "WARNING" not in capfd.readouterr().err


def pretrain(folder, make_pair, num_replicas, epochs, writes=True):
    """Train or resume the first stage with a global batch size of four."""
    sizes = {"train_batch_size": 4 // num_replicas, "pretrain_epochs": epochs}
    config = dataclasses.replace(CONFIG, validate_every=1000, **sizes)
    generator = builders.build_generator(config, **layers.choose(num_replicas, on_cpu=True))
    training = prepare(folder, make_pair, config, writes)
    return training.run("pretrain", builders.pretraining_stage(config, generator, Losses(num_replicas)))


def test_a_stage_resumes_with_another_number_of_replicas(two_replicas, tmp_path, make_pair, caplog):
    caplog.set_level(logging.INFO)
    lr = make_pair().lr[None].astype("float32")
    whole = pretrain(tmp_path / "whole", make_pair, 1, epochs=3)(lr)
    copy_first_epoch(tmp_path / "whole", tmp_path / "parts", "pretrain")
    with two_replicas.scope():
        after_two = pretrain(tmp_path / "parts", make_pair, 2, epochs=2)(lr)
    parts = pretrain(tmp_path / "parts", make_pair, 1, epochs=3)(lr)
    assert "resuming from step 2" in caplog.text and "resuming from step 4" in caplog.text
    assert np.abs(after_two - whole).max() > 1
    assert_near(parts, whole)


def test_of_several_workers_one_writes(tmp_path, make_pair):
    pretrain(tmp_path, make_pair, 1, epochs=1, writes=False)
    assert {path.name for path in tmp_path.iterdir()} == {"records"}


@pytest.mark.parametrize(("stage", "rank"), [("pretrain", callbacks.by_psnr), ("finetune", callbacks.by_looks)])
def test_the_best_of_the_first_stage_is_chosen_by_psnr_and_that_of_the_gan_by_looks(tmp_path, make_pair, stage, rank):
    kept = prepare(tmp_path, make_pair, CONFIG)._callbacks(stage, "title")
    (keep,) = [callback for callback in kept if isinstance(callback, callbacks.KeepBest)]
    assert keep.rank is rank
