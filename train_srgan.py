#!/usr/bin/env python3
"""Train SRGAN in two stages: the generator alone, then the generator and the discriminator as a GAN.

If the training stops for any reason, the same command resumes it.

Examples:
    python train_srgan.py --device gpu
    python train_srgan.py --device gpu --preset paper --outputs outputs/paper
    python train_srgan.py --config outputs/models/config.json --outputs outputs/again
    python train_srgan.py --fine-tune ~/Pictures --minutes 20
    python train_srgan.py --device gpu --outputs /shared/outputs --cluster HOST:6379
    python train_srgan.py --device tpu --tpu NAME --bucket gs://BUCKET
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
from pyimagesearch import devices, readers
from pyimagesearch.config import PRESETS, Config
from pyimagesearch.errors import UserError
from pyimagesearch.training import fine_tuning, nodes, run, run_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_shared_flags(parser, for_training=True)
    cli.add_config_flags(parser)
    add = parser.add_argument
    add(
        "--precision",
        choices=("auto", *run.POLICIES),
        default="auto",
        help="precision of the computation; auto: bfloat16 on hardware where it is fast, float16 on older GPUs",
    )
    add(
        "--vgg-weights",
        default="auto",
        metavar="imagenet|random|auto|PATH",
        help="weights of VGG in the content loss; auto: imagenet, or random if they cannot be downloaded (%(default)s)",
    )
    add("--init-generator", metavar="PATH", help="start from this generator and use its network")
    add("--init-srgan", metavar="PATH", help="start the GAN stage from this SRGAN, made from --init-generator")
    add("--init-discriminator", metavar="PATH", help="start the GAN stage with this discriminator of an earlier run")
    add(
        "--init-stage",
        choices=run_config.STAGES,
        default="finetune",
        help="first stage of a training with --init-generator (%(default)s)",
    )
    add("--fresh", action="store_true", help="delete the checkpoints of an earlier run and start over")
    add("--minutes", type=readers.positive_float, default=20, help="training time with --fine-tune (%(default)g)")
    cli.add_cluster_flag(parser, "train on all nodes of")
    add(
        "--worker-timeout",
        type=readers.positive_float,
        default=devices.WORKER_TIMEOUT,
        metavar="SECONDS",
        help="seconds to wait for the other machines of TF_CONFIG (%(default)s)",
    )
    args = parser.parse_args(argv)
    if args.init_generator and (args.scaling_factor or {args.batch_norm, args.global_skip} != {None}):
        parser.error("--init-generator has its own network; remove --scaling-factor, --no-bn and --global-skip")
    if args.fine_tune and args.init_stage == "pretrain":
        parser.error("--fine-tune trains the GAN stage; remove --init-stage")
    if args.init_srgan and (not args.init_generator or args.init_stage == "pretrain"):
        parser.error("--init-srgan starts the GAN stage; give the pretrained generator with --init-generator, too")
    return args


def build_config(args: argparse.Namespace) -> Config:
    """Return the settings: those of the preset or of an earlier run, replaced by those of the command line.

    Raises:
        UserError: the settings cannot be read, or a TPU of another machine does not support them.
    """
    start = PRESETS["fine-tune"] if args.fine_tune else run_config.read(args.config) if args.config else None
    config = cli.choose_config(args, start)
    if config.degradation == "photo" and args.device == "tpu" and args.tpu != "local":
        raise UserError("--degradation photo needs a TPU of this machine; start the command there with --tpu local")
    return config


def build_options(args: argparse.Namespace) -> run.Options:
    """Return the settings of a run that are not fields of `Config`."""
    paths = cli.find_paths(args)
    if args.fine_tune and not args.records:
        paths = dataclasses.replace(paths, records=os.path.join(paths.outputs, "tfrecord"))
    names = ("precision", "vgg_weights", "init_generator", "init_srgan", "init_discriminator", "init_stage", "fresh")
    return run.Options(paths, **{name: getattr(args, name) for name in names})


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Train both stages, and save the generator after each."""
    args = parse_args(argv)
    if args.cluster and "TF_CONFIG" not in os.environ:  # which each node gets
        return nodes.train(args.cluster, cli.own_command(argv))
    config, options = build_config(args), build_options(args)
    cluster = devices.find_cluster() if args.device != "tpu" else None
    strategy = devices.get_strategy(args.device, args.tpu, cluster, args.worker_timeout)
    if args.fine_tune:
        fine_tuning.fine_tune(args.fine_tune, args.minutes, config, options, strategy)
        return 0
    with run.opened(config, options, strategy, cluster) as opened:
        opened.train()
    return 0


if __name__ == "__main__":
    sys.exit(main())
