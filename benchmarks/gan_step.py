#!/usr/bin/env python3
"""Measure the speed of GAN steps with several recipes in one run, to compare discriminators and VGG layers.

Example:
    python benchmarks/gan_step.py
"""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from train_step import measure, report  # it finds the package and suppresses messages of TensorFlow

# isort: split
import keras
import tensorflow as tf
from keras import KerasTensor

from pyimagesearch import devices, layers, readers
from pyimagesearch.config import PRESETS, Config
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders
from pyimagesearch.vgg import VGG

SHIPPED = PRESETS["shipped"]
FORMER = dataclasses.replace(
    Config(), vgg_layer="vgg19:block2_conv2", l1_weight=8.0, adversarial_weight=15.0, freeze_batch_norm=True
)
TUTORIAL, UNET = "the tutorial's discriminator", "a U-Net discriminator"
DISCRIMINATORS: dict[str, dict[str, Any]] = {
    TUTORIAL: {"discriminator": "image", "disc_blocks": 4, "spectral_norm": False, "discriminator_optimizer": "adam"},
    UNET: {"max_shift": 8},  # the sides of its images are multiples of 8
}
RECIPES = {
    "shipped until 2026-11": FORMER,
    "shipped": SHIPPED,
    "two discriminator steps": dataclasses.replace(SHIPPED, discriminator_steps=2),
    TUTORIAL: dataclasses.replace(SHIPPED, **DISCRIMINATORS[TUTORIAL]),
    UNET: dataclasses.replace(SHIPPED, **DISCRIMINATORS[UNET]),
    "VGG19 to block2_conv2": dataclasses.replace(SHIPPED, vgg_layer="vgg19:block2_conv2"),
}


def unet_discriminator(feature_maps: int) -> keras.Model:
    """Build the U-Net with spectral normalization of Real-ESRGAN (arXiv 2107.10833), which has 64 feature maps.

    Args:
        feature_maps: filters at the full resolution.

    Returns:
        A model from RGB [B, H, W, 3] in 0..255 to float32 logits [B, H, W, 1]. H and W are multiples of 8.
    """

    def conv(x: KerasTensor, filters: int, kernel_size: int = 3, strides: int = 1) -> KerasTensor:
        layer = keras.layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False)
        return keras.layers.LeakyReLU(0.2)(keras.layers.SpectralNormalization(layer, dtype=layer.dtype_policy)(x))

    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype="float32")(image)
    x = keras.layers.LeakyReLU(0.2)(keras.layers.Conv2D(feature_maps, 3, padding="same", dtype="float32")(x))
    skips = [x]
    for factor in (2, 4, 8):
        x = conv(x, factor * feature_maps, 4, 2)
        skips.append(x)
    for factor, skip in zip((4, 2, 1), reversed(skips[:-1]), strict=True):
        x = conv(keras.layers.UpSampling2D(interpolation="bilinear")(x), factor * feature_maps)
        x = keras.layers.Add()([x, skip])
    x = conv(conv(x, feature_maps), feature_maps)
    return keras.Model(image, keras.layers.Conv2D(1, 3, padding="same", dtype="float32")(x))


def discriminator_of(recipe: str, config: Config, norm: Any = keras.layers.BatchNormalization) -> keras.Model:
    """Build the discriminator of a recipe.

    Args:
        recipe: the name of the recipe.
        config: its settings.
        norm: the class of the batch normalization.
    """
    return unet_discriminator(32) if recipe == UNET else builders.build_discriminator(config, norm)


def stage_of(
    recipe: str, config: Config, vgg_weights: str = "random", start: Sequence[np.ndarray] | None = None
) -> builders.SRGANTraining:
    """Return the GAN stage of a recipe, optionally from the weights `start` of a generator.

    Args:
        recipe: the name of the recipe.
        config: its settings.
        vgg_weights: see `VGG.build`.
        start: the weights of the generator; by default random ones.
    """
    chosen = layers.choose(1, devices.is_cpu())
    generator = builders.build_generator(config, **chosen)
    if start:
        generator.set_weights(start)
    discriminator = discriminator_of(recipe, config, chosen["norm"])
    vgg = VGG.build(config.vgg_layer, vgg_weights, before_activation=config.content_loss == "l1")
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
    steps = {recipe: stage_of(recipe, config).train_step for recipe, config in RECIPES.items()}
    report("GAN", measure(steps, batch, args.rounds))


if __name__ == "__main__":
    main()
