"""Every number, once, and where files go."""

from __future__ import annotations

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class GANRecipe:
    """The numbers of the second stage, by default the tutorial's.

    Attributes:
        content_loss: what compares the features: "mse", "l1" or "unit", as the methods of `Losses` are called. Its
            weight is 1; of several layers it is the mean.
        adversarial_weight: the weight of the adversarial loss; by default that of arXiv 1609.04802, equation 3.
        l1_weight: the weight of `Losses.l1_loss` of the images in 0..255.
        reduced_weight: the weight of `Losses.reduced_loss` of the images in 0..255.
        grid_weight: the weight of `Losses.grid_loss`.
        relativistic: whether each generated image is compared with its photograph, place by place, instead of judged
            alone.
        label_smoothing: how far below 1 the label of a photograph is for the discriminator; not if `relativistic`.
        freeze_batch_norm: whether the generator's batch normalization keeps the statistics that it has, in the first
            stage of a given generator, too.
        max_shift: by how many random pixels at most images are shifted before VGG and the discriminator.
        discriminator_steps: of the discriminator, for each step of the generator; on the same images.
        discriminator_warmup: steps in which only the discriminator learns.
        adversarial_ramp: steps after that in which the adversarial weight rises from 0, along a line.
    """

    content_loss: str = "mse"
    adversarial_weight: float = 1e-3
    l1_weight: float = 0.0
    reduced_weight: float = 0.0
    grid_weight: float = 0.0
    relativistic: bool = False
    label_smoothing: float = 0.0
    freeze_batch_norm: bool = False
    max_shift: int = 0
    discriminator_steps: int = 1
    discriminator_warmup: int = 0
    adversarial_ramp: int = 0


@dataclasses.dataclass(frozen=True)
class Config(GANRecipe):
    """The numbers of a run; the defaults are the tutorial's. Sizes are in pixels, [height, width, channels]."""

    # Records
    scaling_factor: int = 4
    shard_size: int = 256  # about
    record_size: int = 480  # the longest side of a training record, HR, of small crops; see longest_record

    # Training data
    hr_shape: tuple[int, int, int] = (96, 96, 3)
    train_batch_size: int = 64  # per replica
    crops_per_record: int = 32  # drawn each time that a record is read
    degradation: str = "bicubic"  # of the low-resolution side: the records' own; or "photo", see degradations
    seed: int = 42

    # Networks
    feature_maps: int = 64
    residual_blocks: int = 16
    batch_norm: bool = True
    upsampling_maps: int | None = None  # filters of each upsampling stage; None: twice those of the one before
    prelu_slope: float = 0.0  # at first; Keras's and the tutorial's, 0.25 in He et al., arXiv 1502.01852
    residual_scale: float = 1.0  # at first, of the last kernel of each residual branch, relative to Glorot's
    leaky_alpha: float = 0.2
    discriminator: str = "image"  # the tutorial's, one logit an image; or "patch", one for each place
    disc_blocks: int = 4
    spectral_norm: bool = False  # of a "patch" discriminator
    disc_dense: int | None = None  # units of the paper's dense layer; None: averages instead
    vgg_layer: str = "vgg19:block5_conv4"

    # The two stages
    pretrain_lr: float = 1e-4
    finetune_lr: float = 1e-5
    discriminator_lr: float | None = None  # None: that of the generator
    discriminator_optimizer: str = "adam"  # or "muon"
    pretrain_optimizer: str = "adam"  # or "muon", for the kernels of convolutions
    pretrain_loss: str = "mse"  # or "l1"
    pretrain_crops: tuple[int, ...] = ()  # sides of HR crops that follow each other; (): that of hr_shape throughout
    pretrain_warmup: int = 0  # steps until the learning rate is reached
    pretrain_schedule: str = "constant"  # or "cosine", down to 0, or "step", to a tenth after half of the stage
    finetune_schedule: str = "constant"
    finetune_warmup: int = 0  # of the generator
    pretrain_epochs: int = 2500
    finetune_epochs: int = 2500
    steps_per_epoch: int = 10
    checkpoint_every: int = 50  # epochs
    validate_every: int = 50  # epochs

    # The recipe
    pixel_scale: float = 1.0  # of the images in the first stage's loss: 1 for 0..255, 1 / 127.5 for -1..1
    adam_beta_2: float = 0.999
    clip_norm: float = 0.0  # the largest norm of each weight's gradient; 0: any
    ema_momentum: float = 0.0  # of the averaged weights that are validated and saved; 0: the weights themselves

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
