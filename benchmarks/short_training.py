#!/usr/bin/env python3
"""Compare what recipes for the first stage reach in minutes: each gets as many pixels of training data.

Example:
    python create_tfrecords.py --images PHOTOS
    python benchmarks/short_training.py --records tfrecord --benchmark Set5
"""

import argparse
import dataclasses
import time

from precision import train  # which finds the package

# isort: split
from pyimagesearch import cli, evaluation, tfrecords, upscaling
from pyimagesearch.config import Config

COMMON = Config(
    train_batch_size=16, pretrain_lr=1e-3, pretrain_schedule="cosine", ema_momentum=0.99, steps_per_epoch=1, seed=1
)
VARIANTS = {
    "tutorial's generator, 16 crops of 96 pixels a step": {},
    "paper's generator": {"upsampling_maps": 256},
    "without batch normalization": {"batch_norm": False},
    "learning rate 3e-3 instead of 1e-3": {"pretrain_lr": 3e-3},
    "8 crops of 96 pixels": {"train_batch_size": 8},
    "8 crops of 64 pixels": {"train_batch_size": 8, "hr_shape": (64, 64, 3)},
}


def main() -> None:
    """Print a row a variant."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    parser.add_argument("--benchmark", required=True, help="a folder as evaluate.py takes it")
    parser.add_argument("--steps", type=int, default=300, help="of 16 crops of 96 pixels")
    args = parser.parse_args()
    shards = tfrecords.find_shards(args.records, "train", 4)
    benchmark = evaluation.find_benchmark("benchmark", args.benchmark, 4)
    pixels = args.steps * 16 * 96 * 96
    for name, changes in VARIANTS.items():
        config = dataclasses.replace(COMMON, **changes)
        steps = round(pixels / config.train_batch_size / config.hr_shape[0] ** 2)
        start = time.monotonic()
        generator = train(dataclasses.replace(config, pretrain_epochs=steps), "bfloat16", shards)
        seconds = time.monotonic() - start
        rows = list(evaluation.evaluate(benchmark, {name: upscaling.Upscaler(generator)}))
        print(f"{name}: {steps} steps, {seconds:.0f} s, {evaluation.means(rows).psnr_y:.2f} dB", flush=True)


if __name__ == "__main__":
    main()
