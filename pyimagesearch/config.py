"""Every number, once, and where files go."""

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
"""How low-resolution training images come about: by bicubic interpolation, or as `data.degradations` does it."""


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
    """Return a field of a dataclass that can be set on the command line.

    Args:
        default: the tutorial's number, or what does as the tutorial does.
        help: what it is, in a line.
        read: makes a value, or with `many` each value, of text; not for switches.
        metavar: stands for the text in the help.
        choices: the values that it may have.
        flag: what it is called on the command line, if not as the field.
        many: whether it is a tuple of any number of values.
        recipe: whether it shapes what is learned, rather than how long and on what.
    """
    metadata = {"help": help, "read": read, "metavar": metavar, "choices": choices, "flag": flag}
    return dataclasses.field(default=default, metadata={**metadata, "many": many, "recipe": recipe})


@dataclasses.dataclass(frozen=True)
class GANRecipe:
    """The numbers of the second stage, by default the tutorial's. Weights are relative to that of the content loss."""

    content_loss: str = _setting(
        "mse",
        "of features: squared error; absolute error before the activation; squared distance at unit length",
        choices=("mse", "l1", "unit"),
    )
    adversarial_weight: float = _setting(1e-3, "of the adversarial loss; 1e-3 in arXiv 1609.04802", from_zero, "W")
    l1_weight: float = _setting(0.0, "add W times the absolute error of pixels to the GAN", from_zero, "W")
    reduced_weight: float = _setting(0.0, "add W times the error of results reduced again", from_zero, "W")
    grid_weight: float = _setting(0.0, "add W times the loss that a grid of pixels causes", from_zero, "W")
    relativistic: bool = _setting(False, "compare each result with its photograph instead of judging it alone")
    label_smoothing: float = _setting(
        0.0, "tell the discriminator that photographs are 1 - S; not if it is relativistic", below_one, "S"
    )
    freeze_batch_norm: bool = _setting(
        False, "keep the batch statistics that a generator has, a given one's in the first stage, too", flag="freeze-bn"
    )
    max_shift: int = _setting(0, "shift images by 0 to N pixels before VGG and the discriminator", whole_number, "N")
    discriminator_steps: int = _setting(1, "for each step of the generator, on the same images", positive_int, "N")
    discriminator_warmup: int = _setting(0, "steps in which only the discriminator learns", whole_number, "N")
    adversarial_ramp: int = _setting(
        0, "steps after that in which the adversarial weight rises from 0, along a line", whole_number, "N"
    )


@dataclasses.dataclass(frozen=True)
class Config(GANRecipe):
    """The numbers of a run; the defaults are the tutorial's. Sizes are in pixels, [height, width, channels].

    Those that are a `_setting` are flags of the commands, too, others are not.
    """

    # Records
    scaling_factor: int = _setting(4, "how many times larger the results are (4)", int, choices=(2, 4, 8), recipe=False)
    shard_size: int = 256  # about
    record_size: int = 480  # the longest side of a training record, HR, of small crops; see longest_record

    # Training data
    hr_shape: tuple[int, int, int] = _setting(
        (96, 96, 3), "side of the HR crops, a multiple of 8", square, "N", flag="crop-size", recipe=False
    )
    train_batch_size: int = _setting(
        64, "crops a step on each accelerator", positive_int, "N", flag="batch-size", recipe=False
    )
    crops_per_record: int = 32  # drawn each time that a record is read
    degradation: str = _setting(
        "bicubic",
        "of the low-resolution side; bicubic: the records' own; photo: blur, noise and JPEG, at random",
        choices=DEGRADATIONS,
    )
    seed: int = _setting(42, "settles initial weights and the order of the data", seed_number, "N", recipe=False)

    # Networks
    feature_maps: int = 64
    residual_blocks: int = 16
    batch_norm: bool = _setting(True, "a generator with batch normalization", flag="bn")
    upsampling_maps: int | None = None  # filters of each upsampling stage; None: twice those of the one before
    prelu_slope: float = _setting(  # Keras's and the tutorial's is 0; 0.25 in He et al., arXiv 1502.01852
        0.0, "of each PReLU below zero, at first", from_zero, "A"
    )
    residual_scale: float = _setting(
        1.0, "of the last kernel of each residual branch, at first, relative to Glorot's", positive_float, "S"
    )
    leaky_alpha: float = 0.2
    discriminator: str = _setting(
        "image", "image: the tutorial's, one logit an image; patch: one for each place", choices=("image", "patch")
    )
    disc_blocks: int = _setting(4, "blocks of the discriminator", positive_int, "N")
    spectral_norm: bool = _setting(False, "keep the spectral norm of the patch discriminator's kernels at 1")
    disc_dense: int | None = None  # units of the paper's dense layer; None: averages instead
    vgg_layer: str = _setting(
        "vgg19:block5_conv4",
        "where the content loss compares; commas separate layers",
        str,
        "NETWORK:LAYERS",
    )

    # The two stages
    pretrain_lr: float = _setting(1e-4, "learning rate of the first stage", positive_float, "RATE")
    finetune_lr: float = _setting(1e-5, "learning rate of the second stage", positive_float, "RATE")
    discriminator_lr: float | None = _setting(
        None, "learning rate of the discriminator (that of the second stage)", positive_float, "RATE"
    )
    discriminator_optimizer: str = _setting("adam", "of the discriminator, as in the first stage", choices=OPTIMIZERS)
    pretrain_optimizer: str = _setting(
        "adam", "of the first stage; muon: for the convolutions' kernels", choices=OPTIMIZERS
    )
    pretrain_loss: str = _setting("mse", "the squared or the absolute error of pixels", choices=("mse", "l1"))
    pretrain_crops: tuple[int, ...] = _setting(
        (),
        "sides of HR crops that follow each other in the first stage, such as 64 96 128; none: the crop size",
        crop_side,
        "N",
        many=True,
    )
    pretrain_warmup: int = _setting(0, "steps until the learning rate is reached", whole_number, "N")
    pretrain_schedule: str = _setting(
        "constant", "of the learning rate; cosine: down to 0; step: a tenth after half of the stage", choices=SCHEDULES
    )
    finetune_schedule: str = _setting("constant", "the same of the second stage", choices=SCHEDULES)
    finetune_warmup: int = _setting(0, "steps until the generator's learning rate is reached", whole_number, "N")
    pretrain_epochs: int = _setting(2500, "epochs of the first stage", positive_int, "N", recipe=False)
    finetune_epochs: int = _setting(2500, "epochs of the second stage", positive_int, "N", recipe=False)
    steps_per_epoch: int = _setting(10, "steps of each epoch", positive_int, "N", recipe=False)
    checkpoint_every: int = _setting(50, "epochs from one checkpoint to the next", positive_int, "N", recipe=False)
    validate_every: int = _setting(50, "epochs from one validation to the next", positive_int, "N", recipe=False)

    # The recipe
    pixel_scale: float = 1.0  # of the images in the first stage's loss: 1 for 0..255, 1 / 127.5 for -1..1
    adam_beta_2: float = _setting(0.999, "of Adam, in both stages", below_one, "B")
    clip_norm: float = _setting(0.0, "the largest norm of each weight's gradient; 0: any", from_zero, "N")
    ema_momentum: float = _setting(
        0.0, "validate and save weights averaged with this momentum, such as 0.999; 0: off", below_one, "M", flag="ema"
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
        """The longest side of a training record, HR: three times the crop at least.

        Records overlap by the crop, less a step. So they have at most 2.25 times the pixels of their photograph.
        """
        return max(self.record_size, 3 * self.hr_shape[0])

    @property
    def least_photograph(self) -> int:
        """The least height and width of a photograph: that of a crop and of a square that is measured."""
        return max(*self.hr_shape[:2], self.infer_hr_size)

    @property
    def pretrain_phases(self) -> list[tuple[int, int]]:
        """The first step and the side of the crops, for each part of the first stage; all parts see as many pixels."""
        sides = self.pretrain_crops or self.hr_shape[:1]
        steps = self.pretrain_epochs * self.steps_per_epoch
        shares = [1 / side**2 for side in sides]
        firsts = [round(steps * sum(shares[:number]) / sum(shares)) for number in range(len(sides))]
        return list(zip(firsts, sides, strict=True))


PRESETS = {
    "tutorial": Config(),
    # Ledig et al., arXiv 1609.04802: a million steps, then a hundred thousand at each of two rates.
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
    # The tutorial's generator without batch normalization, for CPUs: see benchmarks/README.md for how it was chosen.
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
        l1_weight=0.3,
        reduced_weight=0.5,
        grid_weight=2.0,
        relativistic=True,
        max_shift=7,
        discriminator_steps=2,
        discriminator_warmup=100,
        adversarial_ramp=500,
        ema_momentum=0.999,
        infer_hr_size=288,
    ),
    # Chosen by measuring: in float32 it passes bicubic interpolation in minutes on two CPU cores. In so short a GAN
    # stage, features from behind a pooling layer leave a checkerboard.
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
PRESETS["fast"] = dataclasses.replace(PRESETS["shipped"], feature_maps=32, residual_blocks=4, upsampling_maps=32)


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
        return self.model("pretrained_generator.keras")

    @property
    def generator(self) -> str:
        """The generator after the second stage, the GAN."""
        return self.model("generator.keras")

    @property
    def best_pretrained_generator(self) -> str:
        """The generator of the first stage with the highest PSNR on held-out pictures."""
        return self.model("best_pretrained_generator.keras")

    @property
    def best_generator(self) -> str:
        """The generator of the second stage with the least distance of VGG features on held-out pictures."""
        return self.model("best_generator.keras")

    def model(self, name: str) -> str:
        """Where the file called `name`, a model or what describes it, goes."""
        return os.path.join(self.outputs, "models", name)

    def checkpoints(self, stage: str) -> str:
        """The folder of a stage's checkpoints."""
        return os.path.join(self.outputs, "checkpoints", stage)

    def logs(self, stage: str) -> str:
        """The folder of what TensorBoard shows of a stage."""
        return os.path.join(self.outputs, "logs", stage)

    @property
    def history(self) -> str:
        """The table of all epochs."""
        return os.path.join(self.outputs, "history.csv")

    def image(self, name: str) -> str:
        """Where the picture called `name` goes."""
        return os.path.join(self.outputs, "images", name)


_WEIGHTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "weights")

SHIPPED_GENERATORS = {
    name: os.path.join(_WEIGHTS, f"{name}.keras") for name in ("pretrained", "srgan", "photo", "fast")
}
"""The generators that come with the project, by name."""
