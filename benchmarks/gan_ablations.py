#!/usr/bin/env python3
"""Compare GAN stages that differ from the shipped recipe in one thing.

Example:
    python create_tfrecords.py --images PHOTOS --crop-size 128
    python benchmarks/gan_ablations.py --records tfrecord --benchmark Set5 docs/photographs
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence

from gan_step import DISCRIMINATORS, stage_of  # it finds the package and suppresses messages of TensorFlow

# isort: split
import keras
import tensorflow as tf

from pyimagesearch import cli, devices, readers
from pyimagesearch.config import PRESETS, SHIPPED_GENERATORS, Config
from pyimagesearch.data import tfrecords
from pyimagesearch.data_preprocess import load_dataset
from pyimagesearch.evaluation import benchmarks
from pyimagesearch.inference import generators, upscaling
from pyimagesearch.training import builders
from pyimagesearch.vgg import VGG

MEASURE = "vgg16:block5_conv3"
BASE = dataclasses.replace(
    PRESETS["shipped"], train_batch_size=4, hr_shape=(64, 64, 3), ema_momentum=0.99, steps_per_epoch=1
)
VARIANTS = {
    "shipped": {},
    "no discriminator": {"adversarial_weight": 0.0},
    "not relativistic": {"relativistic": False},
    "no unit loss": {"unit_weight": 0.0},
    "no grid loss": {"grid_weight": 0.0},
    "no pixel loss": {"l1_weight": 0.0},
    "no loss of reduced images": {"reduced_weight": 0.0},
    "squared error of features": {"content_loss": "mse"},
    "features of block3_conv3 alone": {"vgg_layer": "vgg16:block3_conv3"},
    "features of block5_conv3 alone": {"vgg_layer": "vgg16:block5_conv3"},
    "no shifts": {"max_shift": 0},
    "no warm-up and no ramp": {"discriminator_warmup": 0, "adversarial_ramp": 0},
    "no spectral normalization": {"spectral_norm": False},
    **DISCRIMINATORS,
}


def main() -> None:
    """Print a row for each variant."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--records", required=True, metavar="DIR", help="folder of records")
    add("--benchmark", nargs="+", required=True, metavar="DIR", help="benchmark folders, as for evaluate.py")
    add("--vgg-weights", default="imagenet", metavar="imagenet|PATH", help="weights of VGG16 (%(default)s)")
    add("--steps", type=readers.positive_int, default=1500, help="steps of the GAN stage (%(default)s)")
    add("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT", help="variants to train")
    args = parser.parse_args()
    shards = tfrecords.find_shards(args.records, "train", 4)
    chosen = [benchmarks.find_benchmark(folder, folder, 4) for folder in args.benchmark]
    vgg = VGG.build(MEASURE, args.vgg_weights)
    if devices.choose_precision("auto") != "float32":
        keras.config.set_dtype_policy("mixed_bfloat16")
    for name in args.only:
        config = dataclasses.replace(BASE, finetune_epochs=args.steps, **VARIANTS[name])
        began = time.monotonic()
        generator, share = train(name, config, args.vgg_weights, shards)
        seconds = time.monotonic() - began
        print(f"{name}: {args.steps} steps, {seconds:.0f} s, adversarial share {share:.2f}", end="", flush=True)
        for benchmark in chosen:
            print(f"; {measure(generator, benchmark, vgg)}", end="", flush=True)
        print(flush=True)


def train(name: str, config: Config, vgg_weights: str, shards: Sequence[str]) -> tuple[keras.Model, float]:
    """Train the GAN stage from the shipped pretrained generator.

    Returns:
        The averaged generator in float32, and the adversarial fraction of the gradient in the last step, in 0..1.
    """
    start = generators.load_generator(SHIPPED_GENERATORS["pretrained"]).get_weights()
    stage = stage_of(name, config, vgg_weights, start)
    step = tf.function(stage.train_step)
    size, side = config.train_batch_size, config.hr_shape[0]
    batches = load_dataset(shards, size, train=True, hr_crop_size=side, seed=config.seed)
    for batch in batches.take(config.finetune_epochs):
        logs = step(batch)
    return builders.Snapshot(config).take(stage), float(logs.get("adversarial_share", 0))


def measure(generator: keras.Model, benchmark: benchmarks.Benchmark, vgg: keras.Model) -> str:
    """Return the means of a benchmark as text."""
    upscaler = upscaling.Upscaler(generator)
    mean = benchmarks.means(list(benchmarks.evaluate(benchmark, {"generator": upscaler}, vgg)))
    texts = f"{mean.psnr_y:.2f} dB, distance {mean.perceptual_distance:.3f}, grid {mean.grid:.2f}"
    return f"{benchmark.name} {texts}, detail {mean.detail:.2f}"


if __name__ == "__main__":
    main()
