import contextlib
import dataclasses
import functools

import keras
import numpy as np
import pytest
from conftest import write_records

from pyimagesearch import recipe, reports, tfrecords, training_layers
from pyimagesearch.config import Config, Paths
from pyimagesearch.data_preprocess import load_dataset, load_test_pairs
from pyimagesearch.losses import Losses
from pyimagesearch.stages import Training
from pyimagesearch.vgg import VGG

CONFIG = dataclasses.replace(
    Config(),
    hr_shape=(32, 32, 3),
    train_batch_size=2,
    feature_maps=4,
    residual_blocks=1,
    disc_blocks=2,
    pretrain_epochs=2,
    finetune_epochs=2,
    steps_per_epoch=2,
    checkpoint_every=1,
    validate_every=1,
    ema_momentum=0.9,
)


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
        recipe.Snapshot(config),
        functools.partial(load_dataset, train, config.train_batch_size, train=True, hr_crop_size=32),
        load_test_pairs(test, 2, hr_crop_size=96),
        writes=writes,
    )


def train_both(folder, make_pair, num_replicas, epochs):
    """Train both stages for so many epochs under the current strategy, or go on with them; return the generator."""
    config = dataclasses.replace(CONFIG, pretrain_epochs=epochs, finetune_epochs=epochs)
    training, losses = prepare(folder, make_pair, config), Losses(num_replicas)
    layers = training_layers.choose(num_replicas, on_cpu=True)
    generator = recipe.build_generator(config, **layers)
    training.run("pretrain", recipe.pretraining_stage(config, generator, losses))
    discriminator = recipe.build_discriminator(config, layers["norm"])
    stage = recipe.gan_stage(config, generator, discriminator, training.vgg, losses)
    return training.run("finetune", stage)


@pytest.mark.parametrize("replicas", [1, 2])
def test_both_stages_keep_everything_and_go_on_on_any_number_of_replicas(
    replicas, two_replicas, tmp_path, make_pair, capfd
):
    with two_replicas.scope() if replicas == 2 else contextlib.nullcontext():
        whole = train_both(tmp_path / "whole", make_pair, replicas, epochs=2)
        train_both(tmp_path / "parts", make_pair, replicas, epochs=1)
        (tmp_path / "parts" / "outputs" / "checkpoints" / "finetune").rename(tmp_path / "one epoch of the GAN")
        parts = train_both(tmp_path / "parts", make_pair, replicas, epochs=2)
    # In one process names differ, and with them rounding.
    lr = make_pair().lr[None].astype("float32")
    np.testing.assert_allclose(parts(lr), whole(lr), atol=0.05)
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
    """Train the first stage, with four crops a step on all replicas together, or go on with it."""
    config = dataclasses.replace(CONFIG, train_batch_size=4 // num_replicas, pretrain_epochs=epochs)
    generator = recipe.build_generator(config, **training_layers.choose(num_replicas, on_cpu=True))
    training = prepare(folder, make_pair, config, writes)
    return training.run("pretrain", recipe.pretraining_stage(config, generator, Losses(num_replicas)))


def test_a_stage_goes_on_with_another_number_of_replicas(two_replicas, tmp_path, make_pair):
    lr = make_pair().lr[None].astype("float32")
    whole = pretrain(tmp_path / "whole", make_pair, 1, epochs=3)(lr).numpy()
    first = pretrain(tmp_path / "parts", make_pair, 1, epochs=1)(lr).numpy()
    with two_replicas.scope():
        pretrain(tmp_path / "parts", make_pair, 2, epochs=2)
    parts = pretrain(tmp_path / "parts", make_pair, 1, epochs=3)(lr).numpy()
    assert np.abs(first - whole).max() > 1
    np.testing.assert_allclose(parts, whole, atol=0.1)


def test_of_several_workers_one_writes(tmp_path, make_pair):
    pretrain(tmp_path, make_pair, 1, epochs=1, writes=False)
    assert {path.name for path in tmp_path.iterdir()} == {"records"}


@pytest.mark.parametrize(("stage", "rank"), [("pretrain", reports.by_psnr), ("finetune", reports.by_looks)])
def test_the_best_of_the_first_stage_is_chosen_by_psnr_and_that_of_the_gan_by_looks(tmp_path, make_pair, stage, rank):
    callbacks = prepare(tmp_path, make_pair, CONFIG)._callbacks(stage, "title", 0)
    (keep,) = [callback for callback in callbacks if isinstance(callback, reports.KeepBest)]
    assert keep.rank is rank
