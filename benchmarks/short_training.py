#!/usr/bin/env python3
"""Compare recipes for the first stage after minutes of training. All recipes get the same number of training pixels.

Example:
    python create_tfrecords.py --images PHOTOS --crop-size 128
    python benchmarks/short_training.py --records tfrecord --benchmark Set5 docs/photographs
"""

import argparse
import dataclasses
import time

from precision import train  # it finds the package

# isort: split
from pyimagesearch import cli
from pyimagesearch.config import Config
from pyimagesearch.data import tfrecords
from pyimagesearch.evaluation import benchmarks
from pyimagesearch.inference import upscaling

PLAIN = Config(
    train_batch_size=8,
    hr_shape=(64, 64, 3),
    pretrain_lr=1e-3,
    pretrain_schedule="cosine",
    pixel_scale=1 / 127.5,
    ema_momentum=0.99,
    steps_per_epoch=1,
)
BEST = dataclasses.replace(
    PLAIN,
    batch_norm=False,
    prelu_slope=0.25,
    residual_scale=0.1,
    pretrain_loss="l1",
    pretrain_optimizer="muon",
    pretrain_warmup=100,
)
VARIANTS = {
    "plain": (PLAIN, {}),
    "plain, PReLU from 0.25": (PLAIN, {"prelu_slope": 0.25}),
    "plain, without batch normalization": (PLAIN, {"batch_norm": False}),
    "plain, without, residual branches at a tenth": (PLAIN, {"batch_norm": False, "residual_scale": 0.1}),
    "plain, absolute error": (PLAIN, {"pretrain_loss": "l1"}),
    "plain, Adam's beta 2 0.99": (PLAIN, {"adam_beta_2": 0.99}),
    "plain, 100 steps of warm-up": (PLAIN, {"pretrain_warmup": 100}),
    "plain, gradients clipped to a norm of 0.1": (PLAIN, {"clip_norm": 0.1}),
    "plain, Muon": (PLAIN, {"pretrain_optimizer": "muon", "pretrain_warmup": 100}),
    "all but Muon": (BEST, {"pretrain_optimizer": "adam"}),
    "all": (BEST, {}),
    "all, rate 2e-3": (BEST, {"pretrain_lr": 2e-3}),
    "all, rate 5e-4": (BEST, {"pretrain_lr": 5e-4}),
    "all, PReLU from 0": (BEST, {"prelu_slope": 0.0}),
    "all, residual branches at their full scale": (BEST, {"residual_scale": 1.0}),
    "all, added to the interpolated input": (BEST, {"global_skip": True}),
    "all, squared error": (BEST, {"pretrain_loss": "mse"}),
    "all, crops of 96 pixels": (BEST, {"hr_shape": (96, 96, 3)}),
    "all, crops of 64, 96 and 128 pixels": (BEST, {"pretrain_crops": (64, 96, 128)}),
    "all, 16 crops of 96 pixels": (BEST, {"hr_shape": (96, 96, 3), "train_batch_size": 16}),
    "all, squared error, 16 crops of 96 pixels": (
        BEST,
        {"pretrain_loss": "mse", "hr_shape": (96, 96, 3), "train_batch_size": 16},
    ),
}


def main() -> None:
    """Print a row for each variant and seed."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True, metavar="DIR", help="folder of records")
    parser.add_argument("--benchmark", nargs="+", required=True, help="benchmark folders, as for evaluate.py")
    parser.add_argument("--steps", type=int, default=600, help="steps with 8 crops of 64 pixels (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="random seeds (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help="variants to train")
    args = parser.parse_args()
    shards = tfrecords.find_shards(args.records, "train", 4)
    chosen = [benchmarks.find_benchmark(folder, folder, 4) for folder in args.benchmark]
    for name in args.only or VARIANTS:
        base, changes = VARIANTS[name]
        for seed in args.seeds:
            measure(name, dataclasses.replace(base, seed=seed, **changes), args.steps, shards, chosen)


def measure(
    name: str,
    config: Config,
    steps: int,
    shards: list[str],
    chosen: list[benchmarks.Benchmark],
) -> None:
    """Train a generator, and print its PSNR on each benchmark."""
    per_step = [config.train_batch_size * side**2 for _, side in config.pretrain_phases]
    steps = round(steps * 8 * 64**2 / (len(per_step) / sum(1 / pixels for pixels in per_step)))
    config = dataclasses.replace(config, pretrain_epochs=steps)
    began = time.monotonic()
    generator = train(config, "bfloat16", shards)
    seconds = time.monotonic() - began
    upscaler = upscaling.Upscaler(generator)
    found = (benchmarks.means(list(benchmarks.evaluate(benchmark, {name: upscaler}))).psnr_y for benchmark in chosen)
    texts = ", ".join(f"{benchmark.name} {psnr:.2f} dB" for benchmark, psnr in zip(chosen, found, strict=True))
    print(f"{name}, seed {config.seed}: {steps} steps, {seconds:.0f} s, {texts}", flush=True)


if __name__ == "__main__":
    main()
