#!/usr/bin/env python3
"""Compare training in bfloat16 and float32: the same steps from the same generator, measured on held-out images.

A generator is trained in float32 by the first stage of the demo preset. Then it is trained further in both precisions
with the same crops, while the learning rate decreases to 0, once for each seed.

Example:
    python create_tfrecords.py --images PHOTOS --preset demo
    python benchmarks/precision.py --records tfrecord
"""

import argparse
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import devices, layers, metrics
from pyimagesearch.config import PRESETS, Config
from pyimagesearch.data import tfrecords
from pyimagesearch.data_preprocess import load_dataset, load_test_pairs
from pyimagesearch.evaluation import scores
from pyimagesearch.losses import Losses
from pyimagesearch.training import builders

HR_SIZE = 288  # side of the held-out crops in pixels
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def train(
    config: Config, precision: str, shards: Sequence[str], start: Sequence[np.ndarray] | None = None
) -> keras.Model:
    """Train the first stage, optionally from the weights `start`, and return the generator in float32."""
    keras.config.set_dtype_policy(POLICIES[precision])
    generator = builders.build_generator(config, **layers.choose(1, on_cpu=devices.is_cpu()))
    if start:
        generator.set_weights(start)
    stage = builders.pretraining_stage(config, generator, Losses(1))
    step = tf.function(stage.train_step)
    load_batches = functools.partial(
        load_dataset,
        shards,
        config.train_batch_size,
        train=True,
        crops_per_record=config.crops_per_record,
        seed=config.seed,
    )
    firsts, sides = zip(*config.pretrain_phases, strict=True)
    for first, last, side in zip(
        firsts, (*firsts[1:], config.pretrain_epochs * config.steps_per_epoch), sides, strict=True
    ):
        for batch in load_batches(hr_crop_size=side, first_batch=first).take(last - first):
            step(batch)
    return builders.Snapshot(config).take(stage)


def measure(generator: keras.Model, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the mean PSNR in dB and the mean SSIM, both on Y without a border of 4 pixels."""
    measured = [
        score
        for lr, hr in pairs
        for score in scores.score_all(lr, hr, metrics.to_uint8(generator(lr.astype("float32")).numpy()))
    ]
    mean = scores.mean_score(measured)
    return mean.psnr_y, mean.ssim_y


def main() -> None:
    """Print a row for each seed."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--records",
        required=True,
        help="folder of records of the demo preset, from photographs of at least 1000 pixels",
    )
    parser.add_argument("--steps", type=int, default=400, help="training steps of each precision (%(default)s)")
    parser.add_argument("--seeds", type=int, default=4, help="number of seeds (%(default)s)")
    args = parser.parse_args()
    shards, test_shards = (tfrecords.find_shards(args.records, split, 4) for split in ("train", "test"))
    pairs = load_test_pairs(test_shards, 3, HR_SIZE, 4)
    demo = PRESETS["demo"]
    start = train(demo, "float32", shards).get_weights()
    for seed in range(args.seeds):
        config = dataclasses.replace(
            demo, seed=seed, pretrain_lr=5e-4, pretrain_epochs=args.steps // demo.steps_per_epoch
        )
        found = {precision: measure(train(config, precision, shards, start), pairs) for precision in POLICIES}
        row = ", ".join(f"{precision} {psnr:.3f} dB / {ssim:.4f}" for precision, (psnr, ssim) in found.items())
        print(f"seed {seed}: {row}, difference {found['bfloat16'][0] - found['float32'][0]:+.3f} dB", flush=True)


if __name__ == "__main__":
    main()
