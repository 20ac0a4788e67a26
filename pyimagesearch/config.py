"""All settings with their defaults and their flags, the presets, and the paths of all files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

from pyimagesearch.readers import (
    below_one,
    crop_side,
    from_zero,
    positive_float,
    positive_int,
    seed_number,
    square,
    whole_number,
)

SCHEDULES = ("constant", "cosine", "step")
OPTIMIZERS = ("adam", "muon")
DEGRADATIONS = ("bicubic", "photo")
"""How low-resolution training images are made: by bicubic interpolation, or as `data.degradations` describes."""


def _setting(
    default: Any,
    help: str,
    read: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    *,
    choices: Sequence[Any] | None = None,
    flag: str | None = None,
    many: bool = False,
    recipe: bool = True,
) -> Any:
    """Return a field of a dataclass that can also be set on the command line.

    Args:
        default: the default value. It is the tutorial's value, or a value with which training is as in the tutorial.
        help: the text for the help of the command.
        read: a function that reads the value from text, or with `many` each of the values. Switches have none.
        metavar: the name of the value in the help.
        choices: the allowed values.
        flag: the name of the flag without dashes, if it is not the name of the field.
        many: whether the value is a tuple of any length.
        recipe: whether the help lists the flag under "the recipe": settings of the networks, losses and optimizers, as
            opposed to settings of the data and of the length of the training.
    """
    metadata = {"help": help, "read": read, "metavar": metavar, "choices": choices, "flag": flag}
    return dataclasses.field(default=default, metadata={**metadata, "many": many, "recipe": recipe})


@dataclasses.dataclass(frozen=True)
class GANRecipe:
    """The settings of the second stage. The defaults are the tutorial's.

    Each weight multiplies one loss of the generator. The weight of the content loss is 1. In the default `mse`, the
    content loss is a mean squared difference of VGG features without a unit; `unit_weight` adds a second loss to it.
    `l1_weight` and `reduced_weight` multiply errors of pixels in 0..255.
    """

    content_loss: str = _setting(
        "mse",
        "content loss: mse, squared error of features; l1, absolute error of features before the activation; "
        "unit, squared distance of features scaled to unit length",
        choices=("mse", "l1", "unit"),
    )
    adversarial_weight: float = _setting(
        1e-3,
        "weight of the adversarial loss, relative to the content loss; 1e-3 in arXiv 1609.04802; 0: no discriminator",
        from_zero,
        "W",
    )
    unit_weight: float = _setting(
        0.0,
        "weight of a second part of the content loss: the squared distance of features scaled to unit length, in the "
        "last one of the VGG layers",
        from_zero,
        "W",
    )
    l1_weight: float = _setting(
        0.0,
        "weight of the mean absolute error of pixels in 0..255, relative to the content loss whose weight is 1",
        from_zero,
        "W",
    )
    reduced_weight: float = _setting(
        0.0,
        "weight of the mean absolute error of pixels in 0..255 after bicubic reduction of sr and hr to the size of lr, "
        "relative to the content loss",
        from_zero,
        "W",
    )
    grid_weight: float = _setting(
        0.0,
        "weight of the loss against patterns that repeat with every input pixel, relative to the content loss",
        from_zero,
        "W",
    )
    relativistic: bool = _setting(
        False,
        "relativistic discriminator: compare each generated image with its ground truth, in place of single images",
    )
    label_smoothing: float = _setting(
        0.0, "label the photographs 1 - S for the discriminator; without effect if it is relativistic", below_one, "S"
    )
    freeze_batch_norm: bool = _setting(
        False,
        "keep the generator's batch normalization statistics in the second stage, and with a given generator also "
        "in the first stage",
        flag="freeze-bn",
    )
    max_shift: int = _setting(
        0, "shift images by 0 to N random pixels before VGG and the discriminator", whole_number, "N"
    )
    discriminator_steps: int = _setting(
        1, "discriminator steps for each generator step, on the same images", positive_int, "N"
    )
    discriminator_warmup: int = _setting(
        0, "steps at the start of the second stage in which only the discriminator is trained", whole_number, "N"
    )
    adversarial_ramp: int = _setting(
        0,
        "steps after the discriminator's warm-up in which the adversarial weight rises linearly from 0",
        whole_number,
        "N",
    )


@dataclasses.dataclass(frozen=True)
class Config(GANRecipe):
    """The settings of a run. The defaults are the tutorial's.

    Sizes are in pixels, and shapes are [height, width, channels]. Each field that is a `_setting` is also a flag of the
    commands.
    """

    # Records
    scaling_factor: int = _setting(4, "upscaling factor of the generator (4)", int, choices=(2, 4, 8), recipe=False)
    shard_size: int = 256  # about how many records a shard has
    record_size: int = 480  # the longest HR side of a training record for small crops; see longest_record

    # Training data
    hr_shape: tuple[int, int, int] = _setting(
        (96, 96, 3), "side of the HR crops in pixels, a multiple of 8", square, "N", flag="crop-size", recipe=False
    )
    train_batch_size: int = _setting(
        64, "batch size on each accelerator", positive_int, "N", flag="batch-size", recipe=False
    )
    crops_per_record: int = 32  # crops from each reading of a record
    degradation: str = _setting(
        "bicubic",
        "low-resolution training images: bicubic, those of the records; photo, made with random blur, noise and JPEG",
        choices=DEGRADATIONS,
    )
    seed: int = _setting(42, "random seed of the initial weights and of the data", seed_number, "N", recipe=False)

    # Networks
    feature_maps: int = 64
    residual_blocks: int = 16
    batch_norm: bool = _setting(True, "use batch normalization in the generator", flag="bn")
    upsampling_maps: int | None = None  # filters of each upsampling stage; None: twice those of the previous one
    prelu_slope: float = _setting(  # Keras's and the tutorial's is 0; 0.25 in He et al., arXiv 1502.01852
        0.0, "initial slope of each PReLU for negative inputs", from_zero, "A"
    )
    residual_scale: float = _setting(
        1.0, "initial scale of each residual branch's last kernel, relative to Glorot's", positive_float, "S"
    )
    global_skip: bool = _setting(
        False, "add the generator's output to the interpolated input, without tanh: it learns faster"
    )
    leaky_alpha: float = 0.2
    discriminator: str = _setting(
        "image",
        "discriminator: image, the tutorial's, one logit for each image; patch, one logit for each patch",
        choices=("image", "patch"),
    )
    disc_blocks: int = _setting(4, "number of blocks in the discriminator, each of two convolutions", positive_int, "N")
    spectral_norm: bool = _setting(False, "keep the spectral norm of the patch discriminator's kernels at 1")
    disc_dense: int | None = None  # units of the paper's dense layer; None: averages instead
    vgg_layer: str = _setting(
        "vgg19:block5_conv4",
        "VGG layers whose features the content loss compares, separated by commas",
        str,
        "NETWORK:LAYERS",
    )

    # The two stages
    pretrain_lr: float = _setting(1e-4, "learning rate of the first stage", positive_float, "RATE")
    finetune_lr: float = _setting(1e-5, "learning rate of the second stage", positive_float, "RATE")
    discriminator_lr: float | None = _setting(
        None, "learning rate of the discriminator (that of the second stage)", positive_float, "RATE"
    )
    discriminator_optimizer: str = _setting("adam", "optimizer of the discriminator", choices=OPTIMIZERS)
    pretrain_optimizer: str = _setting(
        "adam",
        "optimizer of the first stage: adam; muon for the kernels of convolutions, with adam for other weights",
        choices=OPTIMIZERS,
    )
    pretrain_loss: str = _setting(
        "mse",
        "loss of the first stage: mse, squared error of pixels; l1, absolute error of pixels",
        choices=("mse", "l1"),
    )
    pretrain_crops: tuple[int, ...] = _setting(
        (),
        "sides in pixels of the HR crops in consecutive parts of the first stage, such as 64 96 128 (the crop size)",
        crop_side,
        "N",
        many=True,
    )
    pretrain_warmup: int = _setting(
        0, "steps of the first stage in which the learning rate rises linearly to its value", whole_number, "N"
    )
    pretrain_schedule: str = _setting(
        "constant",
        "learning rate schedule of the first stage: constant; cosine, to 0; step, a tenth after half of the stage",
        choices=SCHEDULES,
    )
    finetune_schedule: str = _setting("constant", "learning rate schedule of the second stage", choices=SCHEDULES)
    finetune_warmup: int = _setting(
        0,
        "steps of the second stage in which the generator's learning rate rises linearly to its value",
        whole_number,
        "N",
    )
    pretrain_epochs: int = _setting(2500, "number of epochs of the first stage", positive_int, "N", recipe=False)
    finetune_epochs: int = _setting(2500, "number of epochs of the second stage", positive_int, "N", recipe=False)
    steps_per_epoch: int = _setting(10, "training steps in each epoch", positive_int, "N", recipe=False)
    checkpoint_every: int = _setting(50, "write a checkpoint every N epochs", positive_int, "N", recipe=False)
    validate_every: int = _setting(50, "validate every N epochs", positive_int, "N", recipe=False)

    # The recipe
    pixel_scale: float = 1.0  # factor of the pixels in the first stage's loss: 1 for 0..255, 1 / 127.5 for -1..1
    adam_beta_2: float = _setting(0.999, "beta 2 of Adam, in both stages", below_one, "B")
    clip_norm: float = _setting(0.0, "clip the gradient of each weight to this norm; 0: do not clip", from_zero, "N")
    ema_momentum: float = _setting(
        0.0,
        "validate and save weights averaged with this momentum, such as 0.999; 0: do not average",
        below_one,
        "M",
        flag="ema",
    )

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

    @property
    def longest_record(self) -> int:
        """The longest HR side of a training record in pixels. It is at least three times the side of a crop.

        Neighbouring records overlap by almost the side of a crop. With this length, the records of a photograph have at
        most 2.25 times its pixels.
        """
        return max(self.record_size, 3 * self.hr_shape[0])

    @property
    def least_photograph(self) -> int:
        """The smallest height and width of a usable photograph, in pixels. Both kinds of crops must fit into it."""
        return max(*self.hr_shape[:2], self.infer_hr_size)

    @property
    def pretrain_phases(self) -> list[tuple[int, int]]:
        """The parts of the first stage: (first step, side of the HR crops). All parts get the same number of pixels."""
        sides = self.pretrain_crops or self.hr_shape[:1]
        steps = self.pretrain_epochs * self.steps_per_epoch
        shares = [1 / side**2 for side in sides]
        firsts = [round(steps * sum(shares[:number]) / sum(shares)) for number in range(len(sides))]
        return list(zip(firsts, sides, strict=True))


PRESETS = {
    "tutorial": Config(),
    # Ledig et al., arXiv 1609.04802: 10^6 steps, then 10^5 steps at each of two learning rates.
    "paper": Config(
        train_batch_size=16,
        upsampling_maps=256,
        disc_dense=1024,
        finetune_lr=1e-4,
        finetune_schedule="step",
        pretrain_epochs=1000,
        finetune_epochs=200,
        steps_per_epoch=1000,
        checkpoint_every=1,
        validate_every=5,
        pixel_scale=1 / 127.5,
        ema_momentum=0.999,
    ),
    # The tutorial's generator without batch normalization, for CPUs: benchmarks/README.md describes how it was chosen.
    "shipped": Config(
        train_batch_size=16,
        batch_norm=False,
        prelu_slope=0.25,
        residual_scale=0.1,
        discriminator="patch",
        disc_blocks=3,
        spectral_norm=True,
        vgg_layer="vgg16:block3_conv3,block4_conv3,block5_conv3",
        pretrain_lr=1e-3,
        finetune_lr=1e-4,
        discriminator_lr=1e-3,
        discriminator_optimizer="muon",
        pretrain_optimizer="muon",
        pretrain_loss="l1",
        pretrain_warmup=300,
        pretrain_schedule="cosine",
        finetune_schedule="step",
        finetune_warmup=200,
        pretrain_epochs=400,
        finetune_epochs=200,
        steps_per_epoch=100,
        checkpoint_every=5,
        validate_every=10,
        pixel_scale=1 / 127.5,
        content_loss="l1",
        adversarial_weight=0.3,
        unit_weight=3.0,
        l1_weight=0.3,
        reduced_weight=0.5,
        grid_weight=10.0,
        relativistic=True,
        max_shift=7,
        discriminator_warmup=100,
        adversarial_ramp=500,
        ema_momentum=0.999,
        infer_hr_size=288,
    ),
    # Chosen by measurement: in float32 it is better than bicubic interpolation after minutes on two CPU cores. Features
    # after a pooling layer leave a checkerboard in a GAN stage of this length.
    "demo": Config(
        record_size=192,
        hr_shape=(64, 64, 3),
        train_batch_size=8,
        crops_per_record=8,
        feature_maps=32,
        residual_blocks=4,
        batch_norm=False,
        vgg_layer="vgg19:block1_conv2",
        pretrain_lr=2e-3,
        finetune_lr=1e-4,
        pretrain_schedule="cosine",
        finetune_schedule="cosine",
        pretrain_epochs=66,
        finetune_epochs=4,
        steps_per_epoch=50,
        checkpoint_every=11,
        validate_every=11,
        infer_batch_size=6,
        infer_hr_size=144,
    ),
}

# A tenth of the computation of "shipped", for previews and video.
PRESETS["fast"] = dataclasses.replace(
    PRESETS["shipped"], feature_maps=32, residual_blocks=4, upsampling_maps=32, global_skip=True
)

# A short training on own photographs. It starts from the generators and the discriminator of the project.
PRESETS["fine-tune"] = dataclasses.replace(
    PRESETS["shipped"],
    train_batch_size=8,
    finetune_lr=2e-5,
    finetune_schedule="cosine",
    finetune_warmup=20,
    steps_per_epoch=20,
    checkpoint_every=5,
    validate_every=1000,
    discriminator_lr=3e-4,
    discriminator_warmup=10,
    adversarial_ramp=20,
    ema_momentum=0.99,
)


@dataclasses.dataclass(frozen=True)
class Paths:
    """The paths of all files of a run. `records` and `outputs` are folders or `gs://` addresses."""

    records: str = "tfrecord"
    outputs: str = "outputs"

    @classmethod
    def in_bucket(cls, bucket: str) -> Paths:
        """Return the default paths in a bucket, for TPUs. `bucket` starts with `gs://`."""
        return cls(os.path.join(bucket, cls.records), os.path.join(bucket, cls.outputs))

    @property
    def pretrained_generator(self) -> str:
        """The generator after the first stage."""
        return self.model("pretrained_generator.keras")

    @property
    def generator(self) -> str:
        """The generator after the second stage, the GAN stage."""
        return self.model("generator.keras")

    @property
    def discriminator(self) -> str:
        """The discriminator after the second stage."""
        return self.model("discriminator.keras")

    @property
    def best_pretrained_generator(self) -> str:
        """The generator of the first stage with the highest PSNR on held-out images."""
        return self.model("best_pretrained_generator.keras")

    @property
    def best_generator(self) -> str:
        """The generator of the second stage with the smallest perceptual distance on held-out images."""
        return self.model("best_generator.keras")

    def model(self, name: str) -> str:
        """The path of a model or of its description; `name` is the file name."""
        return os.path.join(self.outputs, "models", name)

    def checkpoints(self, stage: str) -> str:
        """The folder of a stage's checkpoints."""
        return os.path.join(self.outputs, "checkpoints", stage)

    def logs(self, stage: str) -> str:
        """The folder of a stage's logs for TensorBoard."""
        return os.path.join(self.outputs, "logs", stage)

    @property
    def history(self) -> str:
        """The CSV table of all epochs."""
        return os.path.join(self.outputs, "history.csv")

    def image(self, name: str) -> str:
        """The path of an image; `name` is the file name."""
        return os.path.join(self.outputs, "images", name)


_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

SHIPPED_GENERATORS = {
    name: os.path.join(_ROOT, "weights", f"{name}.keras")
    for name in ("pretrained", "srgan", "photo-pretrained", "photo", "fast")
}
"""The generators that come with the project, by name."""

SHIPPED_DISCRIMINATOR = os.path.join(_ROOT, "weights", "training", "discriminator.keras")
"""The discriminator of the training of "srgan"."""

SHIPPED_PHOTOGRAPHS = os.path.join(_ROOT, "docs", "photographs", "HR")
"""The folder of the photographs that come with the project. All have the same size."""
