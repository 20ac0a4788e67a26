#!/usr/bin/env python3
"""Compare discriminators that learn for the same time to distinguish photographs and the results of a fixed generator.

Example:
    python create_tfrecords.py --images PHOTOS --crop-size 128
    python benchmarks/discriminators.py --records tfrecord
"""

import argparse
import time
from collections.abc import Callable, Sequence

from gan_step import RECIPES, TUTORIAL, UNET, discriminator_of  # it finds the package

# isort: split
import keras
import tensorflow as tf

from pyimagesearch import cli, devices, readers
from pyimagesearch.config import SHIPPED_GENERATORS, Config
from pyimagesearch.data import tfrecords
from pyimagesearch.data_preprocess import load_dataset
from pyimagesearch.inference import generators
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders

BATCH = 8
HELD_OUT = 32  # batches
DISCRIMINATORS = {TUTORIAL: "the tutorial's", "shipped": "patch (shipped)", UNET: "U-Net, 32 feature maps"}


def main() -> None:
    """Print a row for each discriminator."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True, metavar="DIR", help="folder of records")
    parser.add_argument("--seconds", type=readers.positive_int, default=120, help="time of each one (%(default)s)")
    args = parser.parse_args()
    train, test = (tfrecords.find_shards(args.records, split, 4) for split in ("train", "test"))
    upscale = tf.function(generators.load_generator(SHIPPED_GENERATORS["srgan"]))
    held_out = [with_result(upscale, batch) for batch in batches(test).take(HELD_OUT)]
    if devices.choose_precision("auto") != "float32":
        keras.config.set_dtype_policy("mixed_bfloat16")
    for recipe, name in DISCRIMINATORS.items():
        config = RECIPES[recipe]
        discriminator = discriminator_of(recipe, config)
        steps = learn(discriminator, config, upscale, train, args.seconds)
        right, loss = judge(discriminator, held_out)
        print(f"{name}: {discriminator.count_params()} weights, {steps} steps, {right:.1%} right, loss {loss:.3f}")


def batches(shards: Sequence[str]) -> tf.data.Dataset:
    """Return random crops of photographs."""
    return load_dataset(shards, BATCH, train=True, seed=1)


def with_result(upscale: Callable[[tf.Tensor], tf.Tensor], batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """Return `hr` and `sr`, float32 [B, H, W, 3], for a batch of `lr` and `hr`."""
    lr, hr = (tf.cast(images, tf.float32) for images in batch)
    return hr, upscale(lr)


def learn(
    discriminator: keras.Model,
    config: Config,
    upscale: Callable[[tf.Tensor], tf.Tensor],
    shards: Sequence[str],
    seconds: float,
) -> int:
    """Train a discriminator with the loss of pairs, and return the number of its steps in this time."""
    optimizer = builders.make_optimizer(config, "finetune", of_generator=False)
    optimizer.build(discriminator.trainable_variables)

    @tf.function
    def step(hr: tf.Tensor, sr: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = pair_loss(discriminator, hr, sr)[0]
        variables = discriminator.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    taken = steps = 0
    for batch in batches(shards):
        pair = with_result(upscale, batch)
        began = time.perf_counter()
        float(step(*pair))
        taken += time.perf_counter() - began if steps else 0  # not the compilation
        steps += 1
        if taken >= seconds:
            return steps
    raise AssertionError("training batches are endless")


def pair_loss(discriminator: keras.Model, hr: tf.Tensor, sr: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the relativistic loss, and for each pair whether the photograph has the higher mean logit."""
    real, fake = tf.split(discriminator(tf.concat([hr, sr], axis=0), training=True), 2)
    means = (tf.reduce_mean(logits, axis=range(1, logits.shape.rank)) for logits in (real, fake))
    return Losses(1).relativistic_loss(real, fake), tf.greater(*means)


def judge(discriminator: keras.Model, pairs: Sequence[tuple[tf.Tensor, ...]]) -> tuple[float, float]:
    """Return the fraction of pairs in which the photograph has the higher logit, and the mean loss."""
    losses, right = zip(*(pair_loss(discriminator, *pair) for pair in pairs), strict=True)
    return float(tf.reduce_mean(tf.cast(tf.concat(right, 0), tf.float32))), float(tf.reduce_mean(losses))


if __name__ == "__main__":
    main()
