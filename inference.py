#!/usr/bin/env python3
"""Compare both generators with bicubic interpolation and the originals, on held-out photographs.

Examples:
    python inference.py --device gpu
    python inference.py --device tpu --tpu NAME --bucket gs://BUCKET
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pyimagesearch import cli  # before TensorFlow, whose start it quiets

# isort: split
import numpy as np

from pyimagesearch import devices, metrics, tfrecords, upscaling, utils
from pyimagesearch.data_preprocess import load_test_pairs


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_shared_flags(parser)
    return parser.parse_args(argv)


def measure(hr: np.ndarray, sr: np.ndarray, border: int) -> tuple[list[str], str]:
    """Return a caption for each picture, and the mean PSNR and SSIM on Y in words."""
    psnrs = [metrics.psnr(true, test, border) for true, test in zip(hr, sr, strict=True)]
    ssims = [metrics.ssim(true, test, border) for true, test in zip(hr, sr, strict=True)]
    captions = [f"{psnr:.2f} dB / {ssim:.3f}" for psnr, ssim in zip(psnrs, ssims, strict=True)]
    return captions, f"PSNR {np.mean(psnrs):.2f} dB, SSIM {np.mean(ssims):.4f}"


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Write the comparison grid and the zoomed pictures, and print PSNR and SSIM."""
    args = parse_args(argv)
    paths = cli.find_paths(args)
    strategy = devices.get_strategy(args.device, args.tpu)
    with strategy.scope():
        models = {
            "SRGAN Pretrained": upscaling.load_generator(paths.pretrained_generator),
            "SRGAN": upscaling.load_generator(paths.generator),
        }
        scale = upscaling.scaling_factor(models["SRGAN"])
        config = cli.choose_config(args.preset, scaling_factor=scale)
        shards = tfrecords.find_shards(paths.records, "test", scale)
        lr, hr = load_test_pairs(shards, config.infer_batch_size, config.infer_hr_size, scale)[0]
        results = {"Bicubic": upscaling.bicubic(lr, scale)}
        results |= {
            title: upscaling.super_resolve(upscaling.compiled(generator), lr) for title, generator in models.items()
        }

    captions = {}
    for title, sr in results.items():
        captions[title], means = measure(hr, sr, border=scale)
        logging.info("%-16s %s (Y, %d pictures, %d-pixel border cut)", title, means, len(hr), scale)

    grid = utils.comparison_grid({"Low resolution": lr, **results, "High resolution": hr}, captions)
    utils.save_figure(grid, paths.image("grid.png"))
    for title in models:
        utils.save_figure(utils.zoom_into_images(results[title][0], title), paths.image(f"{title}.png"))
    logging.info("pictures written: %s", paths.image(""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
