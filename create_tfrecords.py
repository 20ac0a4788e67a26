#!/usr/bin/env python3
"""Turn photographs into the records that training reads.

Examples:
    python create_tfrecords.py                                  # DIV2K, downloaded
    python create_tfrecords.py --manual-dir ~/Downloads         # DIV2K, from its four zip files
    python create_tfrecords.py --images ~/Pictures              # your own photographs, a tenth held out
    python create_tfrecords.py --sample                         # three small photographs, to try things out
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pyimagesearch import cli, sources, tfrecords
from pyimagesearch.config import PRESETS, Config, Paths


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", metavar="DIR", default=Paths.records, help="where they go (%(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="tutorial", help="the numbers to use (%(default)s)")
    cli.add_scaling_factor_flag(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--manual-dir", metavar="DIR", help="the folder of DIV2K's four zip files")
    source.add_argument("--images", metavar="DIR", help="a folder of photographs")
    source.add_argument("--sample", action="store_true", help="the sample photographs of scikit-image")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test-images", metavar="DIR", help="the photographs to hold out")
    test.add_argument("--test-fraction", type=cli.fraction, metavar="F", help="their part to hold out (0.1)")
    args = parser.parse_args(argv)
    if not args.images and (args.test_images or args.test_fraction):
        parser.error("--test-images and --test-fraction go with --images")
    return args


def choose_source(args: argparse.Namespace, config: Config) -> sources.Source:
    """Return the photographs that the flags ask for."""
    scale, min_size = config.scaling_factor, max(*config.hr_shape[:2], config.infer_hr_size)
    if args.sample:
        return sources.sample(scale)
    if args.images and args.test_images:
        return sources.folders(args.images, args.test_images, scale, min_size)
    if args.images:
        return sources.folder(args.images, args.test_fraction or 0.1, scale, min_size, config.seed)
    return sources.div2k(config.dataset, args.manual_dir)


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Write the shards of both splits."""
    args = parse_args(argv)
    config = cli.choose_config(args.preset, scaling_factor=args.scaling_factor)
    source = choose_source(args, config)
    pieces = sources.cut(source.train, config.record_size, config.hr_shape[0])
    splits = {"train": pieces, "test": source.test}
    counts = tfrecords.write_records(args.records, splits, config.shard_size, config.scaling_factor)
    for split, count in counts.items():
        logging.info("%d records in %s/%s", count, args.records, split)
    return 0


if __name__ == "__main__":
    sys.exit(main())
