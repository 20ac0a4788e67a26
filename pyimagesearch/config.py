"""Every number, once, and where files go."""

from __future__ import annotations

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Config:
    """The numbers of a run; the defaults are the tutorial's. Sizes are in pixels, [height, width, channels]."""

    # Records
    scaling_factor: int = 4
    shard_size: int = 256
    record_size: int = 480  # the longest side of a training record, HR

    # Training data
    hr_shape: tuple[int, int, int] = (96, 96, 3)
    train_batch_size: int = 64  # per replica
    crops_per_record: int = 8  # drawn each time that a record is read
    seed: int = 42

    # Networks
    feature_maps: int = 64
    residual_blocks: int = 16
    batch_norm: bool = True
    leaky_alpha: float = 0.2
    disc_blocks: int = 4
    vgg_layer: str = "vgg19:block5_conv4"

    # The two stages
    pretrain_lr: float = 1e-4
    finetune_lr: float = 1e-5
    lr_schedule: str = "constant"  # or "cosine": from the value above to 0 over the stage
    pretrain_epochs: int = 2500
    finetune_epochs: int = 2500
    steps_per_epoch: int = 10

    # Inference
    infer_batch_size: int = 8
    infer_hr_size: int = 96

    @property
    def dataset(self) -> str:
        """The data set's name in tensorflow-datasets."""
        return f"div2k/bicubic_x{self.scaling_factor}"

    @property
    def lr_shape(self) -> tuple[int, int, int]:
        """The shape of a low-resolution training crop."""
        height, width, channels = self.hr_shape
        return height // self.scaling_factor, width // self.scaling_factor, channels


PRESETS = {
    "tutorial": Config(),
    # Chosen by measuring: it passes bicubic interpolation in minutes on two CPU cores. In so short a GAN stage,
    # features from behind a pooling layer leave a checkerboard.
    "demo": Config(
        record_size=192,
        hr_shape=(64, 64, 3),
        train_batch_size=8,
        feature_maps=32,
        residual_blocks=4,
        batch_norm=False,
        vgg_layer="vgg19:block1_conv2",
        pretrain_lr=2e-3,
        finetune_lr=1e-4,
        lr_schedule="cosine",
        pretrain_epochs=66,
        finetune_epochs=4,
        steps_per_epoch=50,
        infer_batch_size=6,
        infer_hr_size=144,
    ),
}


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where files are: `records` and `outputs` are folders or `gs://` addresses."""

    records: str = "tfrecord"
    outputs: str = "outputs"

    @classmethod
    def in_bucket(cls, bucket: str) -> Paths:
        """Return the places used with a TPU, under `bucket`, which starts with `gs://`."""
        return cls(os.path.join(bucket, cls.records), os.path.join(bucket, cls.outputs))

    @property
    def pretrained_generator(self) -> str:
        """The generator after the first stage, mean squared error alone."""
        return os.path.join(self.outputs, "models", "pretrained_generator.keras")

    @property
    def generator(self) -> str:
        """The generator after the second stage, the GAN."""
        return os.path.join(self.outputs, "models", "generator.keras")

    def image(self, name: str) -> str:
        """Where the picture called `name` goes."""
        return os.path.join(self.outputs, "images", name)
