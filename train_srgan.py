#!/usr/bin/env python3
"""Train SRGAN in two stages: the generator alone, then generator and discriminator against each other.

Examples:
    python train_srgan.py --device gpu
    python train_srgan.py --device gpu --batch-size 16 --pretrain-epochs 1000 --finetune-epochs 1000
    python train_srgan.py --device tpu --tpu NAME --bucket gs://BUCKET
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, whose start it quiets

# isort: split
import keras
import tensorflow as tf

from pyimagesearch import devices, tfrecords, training_loop
from pyimagesearch.config import Config
from pyimagesearch.data_preprocess import load_dataset
from pyimagesearch.files import written_whole
from pyimagesearch.losses import Losses
from pyimagesearch.srgan import SRGAN
from pyimagesearch.srgan_training import SRGANPretraining, SRGANTraining
from pyimagesearch.vgg import VGG


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_shared_flags(parser)
    cli.add_scaling_factor_flag(parser)
    parser.add_argument("--pretrain-epochs", type=cli.positive_int, metavar="N", help="epochs of the first stage")
    parser.add_argument("--finetune-epochs", type=cli.positive_int, metavar="N", help="epochs of the second stage")
    parser.add_argument("--steps-per-epoch", type=cli.positive_int, metavar="N", help="steps of each epoch")
    parser.add_argument("--batch-size", type=cli.positive_int, metavar="N", help="crops a step on each accelerator")
    parser.add_argument(
        "--vgg-weights",
        default="auto",
        metavar="imagenet|random|auto|PATH",
        help="weights of the content loss's network; auto: imagenet, or random without a network (%(default)s)",
    )
    parser.add_argument("--vgg-layer", metavar="NETWORK:LAYER", help="where the content loss compares")
    parser.add_argument("--seed", type=int, metavar="N", help="settles initial weights and the order of the data")
    return parser.parse_args(argv)


def build_generator(config: Config, num_replicas: int = 1) -> keras.Model:
    """Build the generator that `config` describes, for training on so many replicas."""
    return SRGAN.generator(
        config.scaling_factor,
        config.feature_maps,
        config.residual_blocks,
        batch_norm=config.batch_norm,
        synchronized=num_replicas > 1,
    )


def make_optimizer(config: Config, learning_rate: float, epochs: int) -> keras.optimizers.Adam:
    """Make Adam with the learning rate or, under a "cosine" schedule, one that falls from it to 0."""
    if config.lr_schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * config.steps_per_epoch)
    return keras.optimizers.Adam(learning_rate)


def pretrain(config: Config, generator: keras.Model, dataset: tf.data.Dataset, losses: Losses) -> None:
    """Run the first stage."""
    logging.info("pretraining the generator: %d epochs", config.pretrain_epochs)
    stage = SRGANPretraining(generator)
    stage.compile(make_optimizer(config, config.pretrain_lr, config.pretrain_epochs), losses.mse_loss)
    training_loop.fit(stage, dataset, config.pretrain_epochs, config.steps_per_epoch)


def finetune(
    config: Config, generator: keras.Model, vgg: keras.Model, dataset: tf.data.Dataset, losses: Losses
) -> None:
    """Run the second stage."""
    logging.info("fine-tuning with the GAN: %d epochs", config.finetune_epochs)
    discriminator = SRGAN.discriminator(
        config.feature_maps, config.leaky_alpha, config.disc_blocks, synchronized=losses.num_replicas > 1
    )
    stage = SRGANTraining(generator, discriminator, vgg, config.train_batch_size)
    g_optimizer, d_optimizer = (make_optimizer(config, config.finetune_lr, config.finetune_epochs) for _ in range(2))
    stage.compile(g_optimizer, d_optimizer, losses.bce_loss, losses.mse_loss)
    training_loop.fit(stage, dataset, config.finetune_epochs, config.steps_per_epoch)


def save(config: Config, generator: keras.Model, path: str) -> None:
    """Save the generator in the form that any Keras backend loads."""
    portable = build_generator(config)
    portable.set_weights(generator.get_weights())
    with written_whole(path) as aside:
        portable.save(aside)
    logging.info("generator saved: %s", path)


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Train both stages, saving the generator after each."""
    args = parse_args(argv)
    paths = cli.find_paths(args)
    config = cli.choose_config(
        args.preset,
        scaling_factor=args.scaling_factor,
        pretrain_epochs=args.pretrain_epochs,
        finetune_epochs=args.finetune_epochs,
        steps_per_epoch=args.steps_per_epoch,
        train_batch_size=args.batch_size,
        vgg_layer=args.vgg_layer,
        seed=args.seed,
    )
    keras.utils.set_random_seed(config.seed)
    strategy = devices.get_strategy(args.device, args.tpu)
    num_replicas = strategy.num_replicas_in_sync
    shards = tfrecords.find_shards(paths.records, "train", config.scaling_factor)
    logging.info("training shards found: %d", len(shards))
    dataset = load_dataset(
        shards,
        config.train_batch_size * num_replicas,
        train=True,
        hr_crop_size=config.hr_shape[0],
        scale=config.scaling_factor,
        crops_per_record=config.crops_per_record,
        seed=config.seed,
    )
    losses = Losses(num_replicas)
    with strategy.scope(), tfrecords.damage_named(shards):
        vgg = VGG.build(config.vgg_layer, args.vgg_weights)
        generator = build_generator(config, num_replicas)
        pretrain(config, generator, dataset, losses)
        save(config, generator, paths.pretrained_generator)
        finetune(config, generator, vgg, dataset, losses)
        save(config, generator, paths.generator)
    return 0


if __name__ == "__main__":
    sys.exit(main())
