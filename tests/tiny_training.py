"""train_srgan.py with a preset small enough for tests, and SGD if OPTIMIZER says so; otherwise the command itself."""

import dataclasses
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import train_srgan
from pyimagesearch import config
from pyimagesearch.training import builders

# isort: split
import keras

PRESET = dataclasses.replace(
    config.PRESETS["demo"],
    feature_maps=4,
    residual_blocks=1,
    batch_norm=True,
    hr_shape=(32, 32, 3),
    train_batch_size=2,
    disc_blocks=2,
    ema_momentum=0.9,
    pretrain_epochs=6,
    finetune_epochs=6,
    steps_per_epoch=3,
    infer_hr_size=64,
    checkpoint_every=2,
    validate_every=3,
)


class SGD(keras.optimizers.SGD):
    """Replaces Adam, which makes full steps for gradients that are only rounding errors.

    Its momentum is a state that a checkpoint must have.
    """

    def __init__(self, learning_rate, beta_2, **options):
        super().__init__(learning_rate, momentum=0.5, **options)


if __name__ == "__main__":
    config.PRESETS["demo"] = PRESET
    if os.environ.get("OPTIMIZER") == "SGD":
        builders.Adam = SGD
    sys.exit(train_srgan.main())
