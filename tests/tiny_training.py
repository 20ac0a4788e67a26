"""train_srgan.py with a preset small enough for tests, and SGD if OPTIMIZER says so; otherwise the command itself."""

import dataclasses
import functools
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import train_srgan
from pyimagesearch import config

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
    checkpoint_every=2,
    validate_every=3,
)

# In the place of Adam, which makes full steps of gradients that are rounding errors alone, this keeps small what is
# small. Its momentum is a state that a checkpoint must have.
SGD = functools.partial(keras.optimizers.SGD, momentum=0.5)

if __name__ == "__main__":
    config.PRESETS["demo"] = PRESET
    if os.environ.get("OPTIMIZER") == "SGD":
        keras.optimizers.Adam = SGD
    sys.exit(train_srgan.main())
