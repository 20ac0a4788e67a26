#!/usr/bin/env python3
"""Compare discriminators that learn for the same time to distinguish photographs and the results of a fixed generator.

Example:
    python create_tfrecords.py --images PHOTOS --crop-size 128
    python benchmarks/discriminators.py --records tfrecord
"""

import argparse
import time
from collections.abc import Callable, Sequence

from gan_step import RECIPES  # it finds the package and suppresses messages of TensorFlow

# isort: split
import keras
import tensorflow as tf
from keras import KerasTensor, layers

from pyimagesearch import cli, devices, readers
from pyimagesearch.config import SHIPPED_GENERATORS, Config
from pyimagesearch.data import tfrecords
from pyimagesearch.data_preprocess import load_dataset
from pyimagesearch.inference import generators
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders

BATCH = 8
HELD_OUT = 32  # batches


def unet_discriminator(feature_maps: int) -> keras.Model:
    """Build the U-Net with spectral normalization of Real-ESRGAN (arXiv 2107.10833), which has 64 feature maps.

    Args:
        feature_maps: filters at the full resolution.

    Returns:
        A model from RGB [B, H, W, 3] in 0..255 to float32 logits [B, H, W, 1]. H and W are multiples of 8.
    """

    def conv(x: KerasTensor, filters: int, kernel_size: int = 3, strides: int = 1) -> KerasTensor:
        layer = layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False)
        return layers.LeakyReLU(0.2)(layers.SpectralNormalization(layer, dtype=layer.dtype_policy)(x))

    image = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1, dtype="float32")(image)
    x = layers.LeakyReLU(0.2)(layers.Conv2D(feature_maps, 3, padding="same", dtype="float32")(x))
    skips = [x]
    for factor in (2, 4, 8):
        x = conv(x, factor * feature_maps, 4, 2)
        skips.append(x)
    for factor, skip in zip((4, 2, 1), reversed(skips[:-1]), strict=True):
        x = conv(layers.UpSampling2D(interpolation="bilinear")(x), factor * feature_maps)
        x = layers.Add()([x, skip])
    x = conv(conv(x, feature_maps), feature_maps)
    return keras.Model(image, layers.Conv2D(1, 3, padding="same", dtype="float32")(x))


DISCRIMINATORS: dict[str, tuple[Config, Callable[[Config], keras.Model]]] = {
    "the tutorial's": (RECIPES["the tutorial's discriminator"], builders.build_discriminator),
    "patch (shipped)": (RECIPES["shipped"], builders.build_discriminator),
    "U-Net, 32 feature maps": (RECIPES["shipped"], lambda config: unet_discriminator(32)),
}


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
    for name, (config, build) in DISCRIMINATORS.items():
        discriminator = build(config)
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
