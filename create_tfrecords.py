#!/usr/bin/env python3
"""Make the TFRecord files for training from photographs.

Examples:
    python create_tfrecords.py                                  # DIV2K, downloaded
    python create_tfrecords.py --manual-dir ~/Downloads         # DIV2K, from its four zip files
    python create_tfrecords.py --images ~/Images                # your own photographs, a tenth held out
    python create_tfrecords.py --images HR --lr-images LR       # your own pairs, matched by their names
    python create_tfrecords.py --sample                         # three small photographs, for a first try
    python create_tfrecords.py --verify                         # compare the records with their checksums

After an interruption, the same command resumes.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pyimagesearch import cli, readers
from pyimagesearch.config import Config, Paths
from pyimagesearch.data import creation, paired, photographs, sources, tfrecords
from pyimagesearch.errors import UserError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--records", metavar="DIR", default=Paths.records, help="folder to write the records to (%(default)s)"
    )
    cli.add_preset_flag(parser)
    cli.add_config_flags(parser, "scaling_factor", "hr_shape")
    add_source_flags(parser)
    parser.add_argument(
        "--strict",
        action="store_true",
        help="stop at a photograph that cannot be used, instead of listing it in skipped.csv",
    )
    parser.add_argument(
        "--processes",
        type=readers.positive_int,
        metavar="N",
        help="number of parallel processes (the number of cores; 1 for a few images)",
    )
    cli.add_cluster_flag(parser)
    args = parser.parse_args(argv)
    if not args.images and (args.test_images or args.test_fraction):
        parser.error("--test-images and --test-fraction need --images")
    if args.lr_images and not args.images:
        parser.error("--lr-images needs --images, the folder of the high-resolution images")
    if bool(args.test_lr_images) != bool(args.lr_images and args.test_images):
        parser.error("--test-lr-images needs --lr-images and --test-images; give all three")
    return args


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which photographs are used, and which are held out."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--manual-dir", metavar="DIR", help="folder of DIV2K's four zip files")
    source.add_argument("--images", metavar="DIR", help="folder of photographs to use, with its subfolders")
    source.add_argument("--sample", action="store_true", help="use the sample photographs of scikit-image")
    source.add_argument(
        "--verify", action="store_true", help="make no records; compare existing ones with their checksums"
    )
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test-images", metavar="DIR", help="folder of the photographs to hold out")
    test.add_argument(
        "--test-fraction", type=readers.fraction, metavar="F", help="fraction of --images to hold out (0.1)"
    )
    lr_help = "low-resolution images of {}, with the same names or with x4 appended (made by bicubic interpolation)"
    parser.add_argument("--lr-images", metavar="DIR", help=lr_help.format("--images"))
    parser.add_argument("--test-lr-images", metavar="DIR", help=lr_help.format("--test-images"))


def choose_source(args: argparse.Namespace, config: Config) -> sources.Source:
    """Return the photographs that the flags select."""
    scale, min_size = config.scaling_factor, config.least_photograph
    if args.sample:
        return sources.sample(scale, min_size)
    if args.images and args.test_images:
        return photographs.folders(args.images, args.test_images, scale, min_size)
    if args.images:
        return photographs.folder(args.images, args.test_fraction or 0.1, scale, min_size, config.seed)
    from pyimagesearch.data import div2k  # only here, because TensorFlow Datasets takes a quarter of a second to import

    return div2k.source(config.dataset, scale, min_size, args.manual_dir)


def verify(records: str) -> None:
    """Compare all shards with the manifest.

    Raises:
        UserError: shards are missing or damaged. A log line names each of them.
    """
    bad = 0
    for path, complaint in (shards := list(tfrecords.verify(records))):
        if complaint:
            logging.error("%s: %s", path, complaint)
            bad += 1
    if bad:
        raise UserError(
            f"{records}: {bad} of {len(shards)} shards are missing or damaged; remove the folder and make it again"
        )
    logging.info("all %d shards in %s match their checksums", len(shards), records)


@cli.command
@cli.stops_at_once
def main(argv: Sequence[str] | None = None) -> int:
    """Write the shards of both splits."""
    args = parse_args(argv)
    if args.verify:
        verify(args.records)
        return 0
    config = cli.choose_config(args)
    source = choose_source(args, config)
    if args.lr_images:
        source = paired.match(source, args.lr_images, args.test_lr_images)
    names = ("images", "lr_images", "test_images", "test_lr_images", "test_fraction", "sample", "manual_dir")
    origin = {name: getattr(args, name) for name in names}
    counts = creation.create(args.records, source, config, args.processes, args.strict, args.cluster, origin=origin)
    skipped = counts.pop("skipped")
    for split, count in counts.items():
        logging.info("%d records in %s/%s", count, args.records, split)
    if skipped:
        logging.warning("%d photographs were skipped: see %s/%s", skipped, args.records, creation.SKIPPED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
