#!/usr/bin/env python3
"""Measure the training steps of both stages, and compare them with steps written like those of the tutorial.

The steps are measured in alternation, so that other work of the machine affects all of them. The tutorial's steps use
the same Keras in float32. In its GAN step the generator is computed twice, and the features of the ground truth are
computed under the gradient tape.

Example:
    python benchmarks/train_step.py
"""

import argparse
import logging
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import devices, layers, readers
from pyimagesearch.config import Config
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders
from pyimagesearch.vgg import VGG

Step = Callable[[tuple[tf.Tensor, tf.Tensor]], dict[str, tf.Tensor]]


def tutorial_pretraining_step(config: Config) -> Step:
    """Return the tutorial's step of the first stage."""
    generator, optimizer = builders.build_generator(config), keras.optimizers.Adam(config.pretrain_lr)

    def step(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        lr, hr = (tf.cast(images, tf.float32) for images in batch)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.mean_squared_error(hr, generator(lr, training=True)))
        variables = generator.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}

    return step


def tutorial_gan_step(config: Config) -> Step:
    """Return the tutorial's step of the second stage."""
    generator, discriminator = builders.build_generator(config), builders.build_discriminator(config)
    vgg, losses = VGG.build(config.vgg_layer, "random"), Losses(1)
    g_optimizer, d_optimizer = (keras.optimizers.Adam(config.finetune_lr) for _ in range(2))

    def step(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        lr, hr = (tf.cast(images, tf.float32) for images in batch)
        both = tf.concat([generator(lr, training=True), hr], axis=0)
        labels = tf.concat([tf.zeros((len(lr), 1)), tf.ones((len(hr), 1))], axis=0)
        with tf.GradientTape() as tape:
            d_loss = losses.bce_loss(labels, discriminator(both, training=True))
        variables = discriminator.trainable_variables
        d_optimizer.apply(tape.gradient(d_loss, variables), variables)
        with tf.GradientTape() as tape:
            sr = generator(lr, training=True)
            adversarial_loss = losses.bce_loss(tf.ones((len(lr), 1)), discriminator(sr, training=True))
            loss = losses.mse_loss(vgg(hr), vgg(sr)) + 1e-3 * adversarial_loss
        variables = generator.trainable_variables
        g_optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}

    return step


def our_steps(config: Config) -> tuple[Step, Step]:
    """Return the steps of both stages as train_srgan.py uses them on this machine."""
    chosen, losses = layers.choose(1, devices.is_cpu()), Losses(1)
    pretraining = builders.pretraining_stage(config, builders.build_generator(config, **chosen), losses)
    generator, discriminator = (
        builders.build_generator(config, **chosen),
        builders.build_discriminator(config, chosen["norm"]),
    )
    gan = builders.gan_stage(config, generator, discriminator, VGG.build(config.vgg_layer, "random"), losses)
    return pretraining.train_step, gan.train_step


def measure(steps: dict[str, Step], batch: tuple[tf.Tensor, tf.Tensor], rounds: int) -> dict[str, np.ndarray]:
    """Return the patches per second of each step in each round."""
    jit_compile = devices.compiles_well(tf.distribute.get_strategy())
    compiled = {name: tf.function(step, jit_compile=jit_compile) for name, step in steps.items()}
    seconds = {name: [] for name in steps}
    for number in range(-2, rounds):  # the first two rounds are for tracing and warm-up
        for name, step in compiled.items():
            began = time.perf_counter()
            float(next(iter(step(batch).values())))
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: len(batch[0]) / np.array(taken) for name, taken in seconds.items()}


def report(stage: str, rates: dict[str, np.ndarray]) -> None:
    """Print the median and the spread of the rate of each step, and of its ratio to the first step."""
    baseline = next(iter(rates.values()))
    for name, rate in rates.items():
        low, median, high = np.percentile(rate, (10, 50, 90))
        ratios = np.percentile(rate / baseline, (10, 50, 90))
        print(
            f"{stage:12} {name:24} {median:6.2f} patches/s ({low:.2f} to {high:.2f})   "
            f"x {ratios[1]:.2f} ({ratios[0]:.2f} to {ratios[2]:.2f})"
        )


def main() -> None:
    """Measure both stages, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=readers.positive_int, default=16, help="batch size (%(default)s)")
    parser.add_argument(
        "--rounds", type=readers.positive_int, default=12, help="number of measurements of each step (%(default)s)"
    )
    args = parser.parse_args()
    logging.basicConfig(format="[%(levelname)s] %(message)s", level=logging.INFO, stream=sys.stdout)
    config = Config()
    hr = tf.constant(np.random.default_rng(0).integers(0, 256, (args.batch_size, *config.hr_shape), np.uint8))
    batch = hr[:, :: config.scaling_factor, :: config.scaling_factor], hr
    pretraining = {"tutorial, float32": tutorial_pretraining_step(config)}
    gan = {"tutorial, float32": tutorial_gan_step(config)}
    for precision in ("float32", "bfloat16"):
        keras.config.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")
        pretraining[f"this project, {precision}"], gan[f"this project, {precision}"] = our_steps(config)
    report("pretraining", measure(pretraining, batch, args.rounds))
    report("GAN", measure(gan, batch, args.rounds))


if __name__ == "__main__":
    main()
