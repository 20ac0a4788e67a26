#!/usr/bin/env python3
"""Train SRGAN in two stages: the generator alone, then generator and discriminator against each other.

Whatever stops it, the same command goes on where it stopped.

Examples:
    python train_srgan.py --device gpu
    python train_srgan.py --device gpu --preset paper --outputs outputs/paper
    python train_srgan.py --device gpu --batch-size 16 --pretrain-epochs 1000 --finetune-epochs 1000
    python train_srgan.py --config outputs/models/config.json --outputs outputs/again
    python train_srgan.py --device tpu --tpu NAME --bucket gs://BUCKET
"""

import argparse
import sys
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, whose start it quiets

# isort: split
from pyimagesearch import devices, readers
from pyimagesearch.config import Config
from pyimagesearch.errors import UserError
from pyimagesearch.training import run, run_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_shared_flags(parser, start_from_file=True)
    cli.add_config_flags(parser)
    add = parser.add_argument
    add(
        "--precision",
        choices=("auto", *run.POLICIES),
        default="auto",
        help="auto: bfloat16 where it is fast, else float16 on GPUs where that is",
    )
    add(
        "--vgg-weights",
        default="auto",
        metavar="imagenet|random|auto|PATH",
        help="weights of the content loss's network; auto: imagenet, or random without a network (%(default)s)",
    )
    add("--init-generator", metavar="PATH", help="start from this generator, its network and all")
    add("--init-srgan", metavar="PATH", help="go on from this SRGAN generator, which came of --init-generator")
    add("--init-stage", choices=run_config.STAGES, default="finetune", help="with which stage (%(default)s)")
    add("--fresh", action="store_true", help="start over instead of going on")
    add(
        "--worker-timeout",
        type=readers.positive_float,
        default=devices.WORKER_TIMEOUT,
        metavar="SECONDS",
        help="how long to wait for the other machines of TF_CONFIG (%(default)s)",
    )
    args = parser.parse_args(argv)
    if args.init_generator and (args.scaling_factor or args.batch_norm is not None):
        parser.error("--init-generator brings its own network; leave out --scaling-factor and --no-bn")
    if args.init_srgan and (not args.init_generator or args.init_stage == "pretrain"):
        parser.error("--init-srgan starts the GAN stage; name the pretrained generator with --init-generator, too")
    return args


def build_config(args: argparse.Namespace) -> Config:
    """Return the numbers of the preset or of an earlier run, with those of the command line.

    Raises:
        UserError: they cannot be read, or a TPU elsewhere cannot do what they ask for.
    """
    config = cli.choose_config(args, run_config.read(args.config) if args.config else None)
    if config.degradation == "photo" and args.device == "tpu" and args.tpu != "local":
        raise UserError("--degradation photo runs where the TPU is; start it there with --tpu local")
    return config


def build_options(args: argparse.Namespace) -> run.Options:
    """Return what else the command line tells a run."""
    names = ("precision", "vgg_weights", "init_generator", "init_srgan", "init_stage", "fresh")
    return run.Options(cli.find_paths(args), **{name: getattr(args, name) for name in names})


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Train both stages, saving the generator after each."""
    args = parse_args(argv)
    config, options = build_config(args), build_options(args)
    cluster = devices.find_cluster() if args.device == "gpu" else None
    strategy = devices.get_strategy(args.device, args.tpu, cluster, args.worker_timeout)
    with run.opened(config, options, strategy, cluster) as opened:
        opened.train()
    return 0


if __name__ == "__main__":
    sys.exit(main())
