#!/usr/bin/env python3
"""Train SRGAN in two stages: the generator alone, then generator and discriminator against each other.

Whatever stops it, the same command goes on where it stopped.

Examples:
    python train_srgan.py --device gpu
    python train_srgan.py --device gpu --preset paper --outputs outputs/paper
    python train_srgan.py --device gpu --batch-size 16 --pretrain-epochs 1000 --finetune-epochs 1000
    python train_srgan.py --device tpu --tpu NAME --bucket gs://BUCKET
"""

import argparse
import functools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from pyimagesearch import (
    cli,  # before TensorFlow, whose start it quiets
    readers,  # before TensorFlow, whose start it quiets
)

# isort: split
import keras
import tensorflow as tf

from pyimagesearch import devices, layers
from pyimagesearch.config import Config, Paths
from pyimagesearch.data import degradations, tfrecords
from pyimagesearch.data_preprocess import load_dataset, load_test_pairs
from pyimagesearch.errors import UserError
from pyimagesearch.inference import generators
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders, loop, run_config
from pyimagesearch.training.stages import Training
from pyimagesearch.vgg import VGG

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""What Keras calls each precision."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_shared_flags(parser)
    cli.add_scaling_factor_flag(parser)
    cli.add_crop_size_flag(parser)
    add = parser.add_argument
    add("--pretrain-epochs", type=readers.positive_int, metavar="N", help="epochs of the first stage")
    add("--finetune-epochs", type=readers.positive_int, metavar="N", help="epochs of the second stage")
    add("--steps-per-epoch", type=readers.positive_int, metavar="N", help="steps of each epoch")
    add("--batch-size", type=readers.positive_int, metavar="N", help="crops a step on each accelerator")
    add("--seed", type=readers.seed, metavar="N", help="settles initial weights and the order of the data")
    add(
        "--precision",
        choices=("auto", *POLICIES),
        default="auto",
        help="auto: bfloat16 where it is fast, else float16 on GPUs where that is",
    )
    add("--checkpoint-every", type=readers.positive_int, metavar="N", help="epochs from one checkpoint to the next")
    add("--validate-every", type=readers.positive_int, metavar="N", help="epochs from one validation to the next")
    add(
        "--worker-timeout",
        type=readers.positive_float,
        default=devices.WORKER_TIMEOUT,
        metavar="SECONDS",
        help="how long to wait for the other machines of TF_CONFIG (%(default)s)",
    )
    add("--fresh", action="store_true", help="start over instead of going on")
    add_recipe_flags(parser)
    args = parser.parse_args(argv)
    if args.init_generator and (args.scaling_factor or args.bn is not None):
        parser.error("--init-generator brings its own network; leave out --scaling-factor and --no-bn")
    if args.init_srgan and (not args.init_generator or args.init_stage == "pretrain"):
        parser.error("--init-srgan starts the GAN stage; name the pretrained generator with --init-generator, too")
    if args.degradation == "photo" and args.device == "tpu" and args.tpu != "local":
        parser.error("--degradation photo runs where the TPU is; start it there with --tpu local")
    return args


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that shape what is learned."""
    add = parser.add_argument_group("the recipe").add_argument
    switch, schedules = argparse.BooleanOptionalAction, ("constant", "cosine", "step")
    add(
        "--degradation",
        choices=degradations.KINDS,
        help="of the low-resolution side; bicubic: the records' own; photo: blur, noise and JPEG, at random",
    )
    add("--init-generator", metavar="PATH", help="start from this generator, its network and all")
    add("--init-srgan", metavar="PATH", help="go on from this SRGAN generator, which came of --init-generator")
    add("--init-stage", choices=run_config.STAGES, default="finetune", help="with which stage (%(default)s)")
    add(
        "--pretrain-optimizer", choices=("adam", "muon"), help="of the first stage; muon: for the convolutions' kernels"
    )
    add("--pretrain-loss", choices=("mse", "l1"), help="the squared or the absolute error of pixels")
    add("--pretrain-lr", type=readers.positive_float, metavar="RATE", help="learning rate of the first stage")
    add("--pretrain-schedule", choices=schedules, help="cosine: down to 0; step: a tenth after half of the stage")
    add("--pretrain-warmup", type=readers.whole_number, metavar="N", help="steps until the learning rate is reached")
    add(
        "--pretrain-crops",
        type=readers.crop_side,
        nargs="*",
        metavar="N",
        help="sides of HR crops that follow each other in the first stage, such as 64 96 128; none: --crop-size",
    )
    add("--finetune-lr", type=readers.positive_float, metavar="RATE", help="learning rate of the second stage")
    add("--finetune-schedule", choices=schedules, help="as --pretrain-schedule, of the second stage")
    add("--finetune-warmup", type=readers.whole_number, metavar="N", help="as --pretrain-warmup, of the generator")
    add("--discriminator", choices=("image", "patch"), help="image: one logit an image; patch: one for each place")
    add("--spectral-norm", action=switch, help="keep the spectral norm of the patch discriminator's kernels at 1")
    add("--disc-blocks", type=readers.positive_int, metavar="N", help="blocks of the discriminator")
    add("--discriminator-optimizer", choices=("adam", "muon"), help="as --pretrain-optimizer, of the discriminator")
    add("--discriminator-lr", type=readers.positive_float, metavar="RATE", help="of the discriminator (--finetune-lr)")
    add("--discriminator-steps", type=readers.positive_int, metavar="N", help="for each step of the generator")
    add("--discriminator-warmup", type=readers.whole_number, metavar="N", help="steps in which it learns alone")
    add(
        "--adversarial-ramp", type=readers.whole_number, metavar="N", help="steps until --adversarial-weight is reached"
    )
    add("--adam-beta-2", type=readers.below_one, metavar="B", help="of Adam, in both stages")
    add("--clip-norm", type=readers.from_zero, metavar="N", help="the largest norm of each weight's gradient; 0: any")
    add(
        "--vgg-weights",
        default="auto",
        metavar="imagenet|random|auto|PATH",
        help="weights of the content loss's network; auto: imagenet, or random without a network (%(default)s)",
    )
    add("--vgg-layer", metavar="NETWORK:LAYERS", help="where the content loss compares; commas separate layers")
    add(
        "--content-loss",
        choices=("mse", "l1", "unit"),
        help="of features: squared error; absolute error before the activation; squared distance at unit length",
    )
    add(
        "--adversarial-weight",
        type=readers.from_zero,
        metavar="W",
        help="of the discriminator, beside the content loss",
    )
    add("--l1-weight", type=readers.from_zero, metavar="W", help="add W times the absolute error of pixels to the GAN")
    add("--reduced-weight", type=readers.from_zero, metavar="W", help="add W times the error of results reduced again")
    add("--grid-weight", type=readers.from_zero, metavar="W", help="add W times the loss that a grid of pixels causes")
    add("--relativistic", action=switch, help="compare each result with its photograph instead of judging it alone")
    add("--max-shift", type=readers.whole_number, metavar="N", help="shift images by 0 to N pixels before both losses")
    add(
        "--label-smoothing",
        type=readers.below_one,
        metavar="S",
        help="tell the discriminator that photographs are 1 - S",
    )
    add(
        "--ema",
        type=readers.below_one,
        metavar="M",
        help="save weights averaged with this momentum, such as 0.999; 0: off",
    )
    add("--freeze-bn", action=switch, help="keep the batch statistics that a generator has")
    add("--bn", action=switch, help="a generator with batch normalization")
    add("--prelu-slope", type=readers.from_zero, metavar="A", help="of each PReLU below zero, at first")
    add("--residual-scale", type=readers.positive_float, metavar="S", help="of each residual branch, at first")


def choose_config(args: argparse.Namespace, start: keras.Model | None = None) -> Config:
    """Return the preset's numbers with those of the command line and the network of a generator to start from."""
    config = cli.choose_config(
        args.preset,
        scaling_factor=args.scaling_factor,
        pretrain_epochs=args.pretrain_epochs,
        finetune_epochs=args.finetune_epochs,
        steps_per_epoch=args.steps_per_epoch,
        train_batch_size=args.batch_size,
        hr_shape=args.crop_size,
        degradation=args.degradation,
        seed=args.seed,
        checkpoint_every=args.checkpoint_every,
        validate_every=args.validate_every,
        pretrain_optimizer=args.pretrain_optimizer,
        pretrain_loss=args.pretrain_loss,
        pretrain_lr=args.pretrain_lr,
        pretrain_schedule=args.pretrain_schedule,
        pretrain_warmup=args.pretrain_warmup,
        pretrain_crops=args.pretrain_crops,
        finetune_lr=args.finetune_lr,
        finetune_schedule=args.finetune_schedule,
        finetune_warmup=args.finetune_warmup,
        discriminator=args.discriminator,
        spectral_norm=args.spectral_norm,
        disc_blocks=args.disc_blocks,
        discriminator_optimizer=args.discriminator_optimizer,
        discriminator_lr=args.discriminator_lr,
        discriminator_steps=args.discriminator_steps,
        discriminator_warmup=args.discriminator_warmup,
        adversarial_ramp=args.adversarial_ramp,
        content_loss=args.content_loss,
        reduced_weight=args.reduced_weight,
        grid_weight=args.grid_weight,
        relativistic=args.relativistic,
        max_shift=args.max_shift,
        adam_beta_2=args.adam_beta_2,
        clip_norm=args.clip_norm,
        vgg_layer=args.vgg_layer,
        adversarial_weight=args.adversarial_weight,
        l1_weight=args.l1_weight,
        label_smoothing=args.label_smoothing,
        ema_momentum=args.ema,
        freeze_batch_norm=args.freeze_bn,
        batch_norm=args.bn,
        prelu_slope=args.prelu_slope,
        residual_scale=args.residual_scale,
    )
    check_shift(config)
    return builders.shaped_like(config, start) if start else config


def check_shift(config: Config) -> None:
    """Check that `--max-shift` leaves the discriminator images that it takes.

    Raises:
        UserError: it does not.
    """
    if config.max_shift > config.hr_shape[0] // 2:
        raise UserError(f"--max-shift {config.max_shift}: more than half of the crops' {config.hr_shape[0]} pixels")
    if config.max_shift and config.disc_dense and config.discriminator == "image":
        raise UserError("--max-shift: the paper's discriminator takes whole crops; add --discriminator patch")


def find_start(init_generator: str | None, paths: Paths, begun: bool) -> keras.Model | None:
    """Return the generator that the training starts from, or what is kept of it once that has begun."""
    if not init_generator:
        return None
    return generators.load_generator(paths.pretrained_generator if begun else init_generator)


def find_srgan(init_srgan: str | None, config: Config) -> keras.Model | None:
    """Return the SRGAN generator that the second stage starts from, if one is given.

    Raises:
        UserError: it is not the network of `config`.
    """
    if not init_srgan:
        return None
    srgan = generators.load_generator(init_srgan)
    if builders.shaped_like(config, srgan) != config:
        raise UserError(f"--init-srgan {init_srgan}: another network than that of --init-generator")
    return srgan


def prepare_batches(config: Config, shards: Sequence[str], num_replicas: int) -> Callable[..., tf.data.Dataset]:
    """Return what loads the training batches of a replica.

    Raises:
        UserError: the batches of all replicas are larger than the data.
    """
    load = functools.partial(
        load_dataset,
        shards,
        train=True,
        scale=config.scaling_factor,
        crops_per_record=config.crops_per_record,
        seed=config.seed,
        degradation=config.degradation,
    )
    load(batch_size=config.train_batch_size * num_replicas)
    return functools.partial(load, batch_size=config.train_batch_size)


def train(training: Training, vgg: keras.Model, pretrain: bool, given: bool, num_replicas: int) -> None:
    """Run both stages, or without `pretrain` the second one, from the generator of the training's snapshot.

    The content loss uses `vgg`. Only a generator that was `given` has batch statistics that the first stage may keep.
    """
    config, losses = training.config, Losses(num_replicas)
    chosen = layers.choose(num_replicas, on_cpu=devices.is_cpu())

    generator = builders.build_generator(config, **chosen)
    generator.set_weights(training.snapshot.generator.get_weights())
    if pretrain:
        stage = builders.pretraining_stage(config, generator, losses, given and config.freeze_batch_norm)
        training.run("pretrain", stage)
        generator.set_weights(training.snapshot.generator.get_weights())
    discriminator = builders.build_discriminator(config, chosen["norm"])
    training.run("finetune", builders.gan_stage(config, generator, discriminator, vgg, losses))


def prepare(
    config: Config,
    paths: Paths,
    shards: Mapping[str, Sequence[str]],
    vgg: keras.Model,
    cluster: devices.Cluster | None,
) -> Training:
    """Return what both stages share, under the present strategy."""
    strategy = tf.distribute.get_strategy()
    return Training(
        config,
        paths,
        vgg,
        builders.Snapshot(config),
        prepare_batches(config, shards["train"], strategy.num_replicas_in_sync),
        load_test_pairs(
            shards["test"], config.infer_batch_size, config.infer_hr_size, config.scaling_factor, config.degradation
        ),
        writes=cluster is None or cluster.index == 0,
        jit_compile=devices.compiles_well(strategy),
    )


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Train both stages, saving the generator after each."""
    args = parse_args(argv)
    paths = cli.find_paths(args)
    cluster = devices.find_cluster() if args.device == "gpu" else None
    strategy = devices.get_strategy(args.device, args.tpu, cluster, args.worker_timeout)
    begun = [] if args.fresh else run_config.begun(paths)
    start = find_start(args.init_generator, paths, bool(begun))
    config = choose_config(args, start)
    srgan = None if begun else find_srgan(args.init_srgan, config)
    precision = devices.choose_precision(args.precision, training=True)
    keras.config.set_dtype_policy(POLICIES[precision])
    tfrecords.check_crops(paths.records, config.hr_shape[0])
    tfrecords.check_crops(paths.records, max(config.pretrain_crops, default=0), "--pretrain-crops")
    if config.degradation == "photo" and tfrecords.has_own_lr(paths.records):
        raise UserError(
            f"--degradation photo: {paths.records} has low-resolution images of its own, which it would replace; "
            "leave it out"
        )
    splits = ("train", "test")
    shards = {split: tfrecords.find_shards(paths.records, split, config.scaling_factor) for split in splits}
    logging.info("training shards found: %d", len(shards["train"]))
    vgg_weights = VGG.settle(config.vgg_layer, args.vgg_weights)
    run = run_config.describe(
        config,
        global_batch_size=config.train_batch_size * strategy.num_replicas_in_sync,
        precision=precision,
        vgg_weights=vgg_weights,
        init_generator=args.init_generator,
        init_srgan=args.init_srgan,
        init_stage=args.init_stage if start else None,
        records=tfrecords.fingerprint(paths.records),
    )
    with strategy.scope(), tfrecords.damage_named(shards["train"]), devices.lost_workers_named(cluster):
        loop.agree(run_config.checksum(run), "TF_CONFIG: the workers have other flags or records; give all the same")
        training = prepare(config, paths, shards, VGG.build(config.vgg_layer, vgg_weights), cluster)
        run_config.begin(paths, run, args.fresh, training.writes)
        if start and not begun:
            training.start_from(start, srgan)
        pretrain = "finetune" not in begun and not (start and args.init_stage == "finetune")
        vgg = VGG.build(config.vgg_layer, vgg_weights, before_activation=config.content_loss == "l1")
        train(training, vgg, pretrain, bool(start), strategy.num_replicas_in_sync)
    return 0


if __name__ == "__main__":
    sys.exit(main())
