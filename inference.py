#!/usr/bin/env python3
"""Upscale images and videos to four times their size, or compare both generators on held-out photographs.

Examples:
    python inference.py --input photo.jpg                # becomes outputs/enlarged/photo.png
    python inference.py --input photo.jpg --output large.webp
    python inference.py --input photo.jpg --alpha 0.5    # less sharp, more faithful
    python inference.py --input ~/Pictures 'scans/*.tif' --output large --format jpeg --html
    python inference.py --input video.mp4 --model-name fast
    python inference.py --device gpu                     # the comparison grid
    python inference.py --device tpu --tpu NAME --bucket gs://BUCKET
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Sequence

from pyimagesearch import cli  # before TensorFlow, whose start it quiets

# isort: split
import numpy as np
from tqdm import tqdm

from pyimagesearch import devices, files, readers, utils
from pyimagesearch.config import PRESETS, SHIPPED_GENERATORS, Paths
from pyimagesearch.data import tfrecords
from pyimagesearch.data.image_io import FORMATS
from pyimagesearch.data_preprocess import load_test_pairs
from pyimagesearch.errors import UserError
from pyimagesearch.evaluation import scores
from pyimagesearch.files import printable
from pyimagesearch.inference import batch, comparison, generators, results, runtimes, upscaling
from pyimagesearch.inference.jobs import Job, choose_format, is_file_name, plan
from pyimagesearch.inference.results import State
from pyimagesearch.inference.video_formats import CODECS, VideoSettings


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_shared_flags(parser)
    add = parser.add_argument
    add("--input", nargs="+", metavar="PATH", help="images and videos to upscale: files, folders, patterns")
    group = parser.add_argument_group("with --input")
    choose = group.add_mutually_exclusive_group().add_argument
    choose("--model", metavar="PATH", help="the generator (the SRGAN in outputs, or else the project's)")
    choose("--model-name", choices=SHIPPED_GENERATORS, help="one of the generators that come with the project")
    choose("--alpha", "--blend", type=readers.share, metavar="A", help=cli.ALPHA_HELP + " (1)")
    add = group.add_argument
    add("--faithful", action="store_true", help="results that, reduced again, are the input, to within rounding")
    add("--output", metavar="PATH", help="the folder of the results, or the only result (enlarged, in --outputs)")
    add("--format", choices=FORMATS, help="of the results (png, or what --output says)")
    add("--codec", choices=CODECS, default="h264", help="of videos; ffv1 is without loss, in .mkv (%(default)s)")
    add("--crf", type=readers.crf, default=17, help="quality of h264 and hevc: 0 best, 51 worst (%(default)s)")
    add("--animated", action="store_true", help="upscale animated GIF, WebP and PNG as videos, not their first frame")
    add("--outscale", type=readers.positive_float, metavar="S", help="resample the results to S times the size")
    add("--overwrite", action="store_true", help="make all results again that are there")
    add("--compare", action="store_true", help="write an image of before and after beside each result")
    add("--html", action="store_true", help="write a page with a slider between before and after, index.html")
    add(
        "--tile",
        type=readers.positive_int,
        metavar="N",
        help="pixels to compute at once, of each side (as memory allows)",
    )
    add(
        "--runtime",
        choices=runtimes.RUNTIMES,
        default="auto",
        help="what computes; auto: OpenVINO on CPUs that have it",
    )
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where it is fast, but float32 for images of 16 bits",
    )
    args = parser.parse_args(argv)
    if not args.input:
        names = "model model-name alpha faithful output format codec crf animated outscale overwrite compare html tile"
        for name in names.split():
            dest = name.replace("-", "_")
            if getattr(args, dest) is not parser.get_default(dest):
                parser.error(f"--{name} goes with --input")
    return args


def choose_models(args: argparse.Namespace, paths: Paths) -> tuple[list[str], float | None]:
    """Return the paths of one generator, or of two and the share of the second."""
    if args.model_name:
        return [SHIPPED_GENERATORS[args.model_name]], None
    if args.model:
        return [args.model], None
    return generators.choose_interpolation(paths, args.alpha, trained=bool(args.outputs or args.bucket))


def choose_video_settings(args: argparse.Namespace, output: str) -> VideoSettings:
    """Return how videos are encoded.

    Raises:
        UserError: the output names a file that does not hold the codec.
    """
    settings = VideoSettings(args.codec, args.crf)
    if is_file_name(output) and args.codec == "ffv1" and not output.lower().endswith(settings.ending):
        raise UserError(f"{output}: does not hold --codec ffv1; choose a name that ends in {settings.ending}")
    return settings


def enlarge(args: argparse.Namespace, paths: Paths) -> int:
    """Upscale the inputs; return 1 if some could not be upscaled, otherwise 0."""
    output = args.output or os.path.join(paths.outputs, "enlarged")
    form = choose_format(output, args.format)
    video = choose_video_settings(args, output)
    jobs = plan(args.input, output, form, args.compare, args.animated, video.ending)
    folder = os.path.dirname(output) or "." if is_file_name(output) else output
    page = os.path.join(folder, "index.html")
    if args.html:
        comparison.check_page(page)
    chosen = choose_models(args, paths)
    settings = results.settings_of(*chosen, args.outscale, args.faithful)
    made = {False: results.Results(folder, settings), True: results.Results(folder, settings | video.described)}
    states = {job: made[job.is_video].state(*job) for job in jobs}
    wanted = [job for job in jobs if args.overwrite or states[job] in (State.MISSING, State.OUTDATED)]
    kept = [job for job in jobs if job not in set(wanted)]
    flags = args.runtime, args.precision, args.tile, args.faithful
    upscale = upscaling.load_upscaler(*chosen, *flags) if wanted else None
    os.makedirs(folder, exist_ok=True)

    def note(job: Job) -> None:
        made[job.is_video].note(*job)

    failures = batch.run(wanted, upscale, form, args.outscale, args.compare, note, video)
    failed = tell(failures)
    logging.info("%d results written: %s", len(wanted) - failed, printable(output))
    tell_kept([states[job] for job in kept])
    if args.compare:
        failed += tell(batch.run_comparisons(kept))
    if args.html:
        batch.write_page(jobs, page)
    return 1 if failed else 0


def tell(failures: Iterable[batch.Failure]) -> int:
    """Print each failure as it comes, and return their number."""
    count = 0
    for failure in failures:
        tqdm.write(f"inference.py: {printable(failure.source)}: {failure.reason}", file=sys.stderr)
        count += 1
    return count


def tell_kept(states: Sequence[State]) -> None:
    """Say how many results were left as they are."""
    if current := states.count(State.CURRENT):
        logging.info("%d were there already, made alike; --overwrite makes them again", current)
    if foreign := states.count(State.FOREIGN):
        logging.info(
            "%d were there already, and are not known as results of this program: they stay, --overwrite "
            "makes them again",
            foreign,
        )


def measure(lr: np.ndarray, hr: np.ndarray, sr: np.ndarray) -> tuple[list[str], str]:
    """Return a caption for each image, and the mean PSNR and SSIM on Y in words."""
    measured = scores.score_all(lr, hr, sr)
    captions = [f"{score.psnr_y:.2f} dB / {score.ssim_y:.3f}" for score in measured]
    mean = scores.mean_score(measured)
    return captions, f"PSNR {mean.psnr_y:.2f} dB, SSIM {mean.ssim_y:.4f}"


def compare(args: argparse.Namespace, paths: Paths) -> int:
    """Write the comparison grid and the zoomed images, and print PSNR and SSIM."""
    models = {
        "SRGAN Pretrained": generators.load_generator(paths.pretrained_generator),
        "SRGAN": generators.load_generator(paths.generator),
    }
    scale = generators.scaling_factor(models["SRGAN"])
    config = PRESETS[args.preset]
    shards = tfrecords.find_shards(paths.records, "test", scale)
    lr, hr = load_test_pairs(shards, config.infer_batch_size, config.infer_hr_size, scale)[0]
    made = {"Bicubic": upscaling.bicubic(lr, scale)}
    for title, generator in models.items():
        upscale = upscaling.Upscaler(generator)
        made[title] = np.stack([upscale(image) for image in lr])

    captions = {}
    for title, sr in made.items():
        captions[title], means = measure(lr, hr, sr)
        logging.info("%-16s %s (Y, %d images, %d-pixel border cut)", title, means, len(hr), scale)

    grid = utils.comparison_grid({"Low resolution": lr, **made, "High resolution": hr}, captions)
    files.save_figure(grid, paths.image("grid.png"))
    for title in models:
        files.save_figure(utils.zoom_into_images(made[title][0], title), paths.image(f"{title}.png"))
    logging.info("images written: %s", paths.image(""))
    return 0


@cli.command
@cli.stops_at_once
def main(argv: Sequence[str] | None = None) -> int:
    """Upscale the inputs, or without inputs compare the generators."""
    args = parse_args(argv)
    paths = cli.find_paths(args)
    with devices.get_strategy(args.device, args.tpu).scope():
        return enlarge(args, paths) if args.input else compare(args, paths)


if __name__ == "__main__":
    sys.exit(main())
