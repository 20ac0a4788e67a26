#!/usr/bin/env python3
"""Measure the speed of GAN steps with several recipes in one run, to compare discriminators and VGG layers.

Example:
    python benchmarks/gan_step.py
"""

import argparse
import dataclasses
import logging
import sys

import numpy as np
from train_step import measure, report  # it finds the package and suppresses messages of TensorFlow

# isort: split
import keras
import tensorflow as tf

from pyimagesearch import devices, layers, readers
from pyimagesearch.config import PRESETS, Config
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders
from pyimagesearch.vgg import VGG

SHIPPED = PRESETS["shipped"]
FORMER = dataclasses.replace(
    Config(), vgg_layer="vgg19:block2_conv2", l1_weight=8.0, adversarial_weight=15.0, freeze_batch_norm=True
)
RECIPES = {
    "shipped until 2026-11": FORMER,
    "shipped": SHIPPED,
    "two discriminator steps": dataclasses.replace(SHIPPED, discriminator_steps=2),
    "the tutorial's discriminator": dataclasses.replace(
        SHIPPED, discriminator="image", disc_blocks=4, spectral_norm=False, discriminator_optimizer="adam"
    ),
    "VGG19 to block2_conv2": dataclasses.replace(SHIPPED, vgg_layer="vgg19:block2_conv2"),
}


def step_of(config: Config) -> builders.SRGANTraining:
    """Return the GAN stage of a recipe with random weights of VGG."""
    chosen = layers.choose(1, devices.is_cpu())
    generator = builders.build_generator(config, **chosen)
    discriminator = builders.build_discriminator(config, chosen["norm"])
    vgg = VGG.build(config.vgg_layer, "random", before_activation=config.content_loss == "l1")
    return builders.gan_stage(config, generator, discriminator, vgg, Losses(1))


def main() -> None:
    """Measure all recipes, and print the ratios to the first one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=readers.positive_int, default=8, help="batch size (%(default)s)")
    parser.add_argument(
        "--rounds", type=readers.positive_int, default=8, help="number of measurements of each step (%(default)s)"
    )
    args = parser.parse_args()
    logging.basicConfig(format="[%(levelname)s] %(message)s", level=logging.INFO, stream=sys.stdout)
    if devices.choose_precision("auto") != "float32":
        keras.config.set_dtype_policy("mixed_bfloat16")
    hr = tf.constant(np.random.default_rng(0).integers(0, 256, (args.batch_size, *SHIPPED.hr_shape), np.uint8))
    batch = hr[:, :: SHIPPED.scaling_factor, :: SHIPPED.scaling_factor], hr
    steps = {name: step_of(config).train_step for name, config in RECIPES.items()}
    report("GAN", measure(steps, batch, args.rounds))


if __name__ == "__main__":
    main()
