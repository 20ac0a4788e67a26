#!/usr/bin/env python3
"""Upscale images and videos to four times their size, or compare both generators on held-out photographs.

Examples:
    python inference.py --input photo.jpg                # becomes outputs/enlarged/photo.png
    python inference.py --input photo.jpg --output large.webp
    python inference.py --input photo.jpg --alpha 0.5    # less sharp, more faithful
    python inference.py --input ~/Pictures 'scans/*.tif' --output large --format jpeg --html
    python inference.py --input video.mp4 --model-name fast
    python inference.py --input s3://BUCKET/photos --output s3://BUCKET/large
    python inference.py -i - -o - --format jpeg < photo.jpg > large.jpg
    python inference.py --device gpu                     # the comparison grid
    python inference.py --device tpu --tpu NAME --bucket gs://BUCKET
"""

import argparse
import contextlib
import functools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyimagesearch import cli  # before TensorFlow, to suppress its messages

# isort: split
import numpy as np
from tqdm import tqdm

from pyimagesearch import devices, files, readers, utils
from pyimagesearch.config import PRESETS, SHIPPED_GENERATORS, Paths
from pyimagesearch.data import image_io, tfrecords
from pyimagesearch.data.image_io import ENDING_FORMATS, FORMATS
from pyimagesearch.data_preprocess import load_test_pairs
from pyimagesearch.errors import UserError
from pyimagesearch.evaluation import scores
from pyimagesearch.files import printable
from pyimagesearch.inference import batch, cluster, comparison, generators, results, upscaling
from pyimagesearch.inference.jobs import AUTO, Job, Plan, choose_format, is_file_name
from pyimagesearch.inference.results import State
from pyimagesearch.inference.sizes import OutputSize
from pyimagesearch.inference.video_formats import CODECS, VideoSettings


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_shared_flags(parser)
    add = parser.add_argument
    add(
        "-i",
        "--input",
        nargs="+",
        metavar="PATH",
        help="images and videos to upscale: files, folders, patterns, addresses, - for one image of standard input",
    )
    group = parser.add_argument_group("with --input")
    choose = group.add_mutually_exclusive_group().add_argument
    choose("-m", "--model", metavar="PATH", help="path of the generator (the SRGAN in outputs, or else the project's)")
    choose("--model-name", choices=SHIPPED_GENERATORS, help="generator that comes with the project")
    choose("--alpha", "--blend", type=readers.share, metavar="A", help=cli.ALPHA_HELP + " (1)")
    add_result_flags(group)
    add_computing_flags(group)
    args = parser.parse_args(argv)
    check_flags(parser, args)
    return args


def add_result_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say which results are written, and where."""
    add = group.add_argument
    add(
        "--faithful",
        action="store_true",
        help="correct the results until their reduced version equals the input, except for rounding",
    )
    add("--ensemble", action="store_true", help=cli.ENSEMBLE_HELP)
    add(
        "-o",
        "--output",
        metavar="PATH",
        help="output folder, or the path of a single result, or an address, - for standard output "
        "(enlarged, in --outputs)",
    )
    add(
        "--suffix",
        type=readers.name_part,
        default="",
        metavar="TEXT",
        help="add this to the file names of the results, such as _x4",
    )
    add(
        "--format",
        choices=(*FORMATS, AUTO),
        help="format of the results; auto: that of the input (png, or that of --output)",
    )
    add(
        "--codec",
        choices=CODECS,
        default="h264",
        help="codec of videos; ffv1 is lossless and written to .mkv (%(default)s)",
    )
    add(
        "--crf",
        type=readers.crf,
        default=17,
        help="quality of h264 and hevc: 0 is the best, 51 the worst (%(default)s)",
    )
    add("--animated", action="store_true", help="upscale animated GIF, WebP and PNG as videos, not their first frame")
    add("-s", "--outscale", type=readers.positive_float, metavar="S", help="resample the results to S times the size")
    add("--width", type=readers.positive_int, metavar="N", help="resample the results to this width in pixels")
    add("--height", type=readers.positive_int, metavar="N", help="resample the results to this height in pixels")
    add(
        "--long-side",
        type=readers.positive_int,
        metavar="N",
        help="resample the results until their longer side has this many pixels",
    )
    add("--overwrite", action="store_true", help="replace results that exist already")
    add("--compare", action="store_true", help="write an image of before and after beside each result")
    add("--html", action="store_true", help="write a page with a slider between before and after, index.html")


def add_computing_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say how results are computed."""
    add = group.add_argument
    add(
        "-t",
        "--tile",
        type=readers.positive_int,
        metavar="N",
        help="side in input pixels of the tiles that are computed at once (as memory allows)",
    )
    cli.add_computation_flags(group, precision="auto", note=", but float32 for images of 16 bits")
    cli.add_cluster_flag(group)
    add(
        "--cores",
        type=readers.positive_int,
        metavar="N",
        help="CPU cores of each worker without a GPU, with --cluster (8, or all of a smaller machine)",
    )


def check_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with an error if flags contradict each other."""
    sizes = [bool(args.outscale), bool(args.width or args.height), bool(args.long_side)]
    if sum(sizes) > 1:
        parser.error("--outscale, --width with --height, and --long-side exclude each other; give one of them")
    if args.input and "-" in args.input and len(args.input) > 1:
        parser.error("--input -: is one image; give other files in a second command")
    if args.output == "-" and (len(args.input or ()) > 1 or any(map(os.path.isdir, args.input or ()))):
        parser.error("--output -: takes the result of one image; give an output folder")
    if args.output == "-" and (args.compare or args.html):
        parser.error("--output -: has no folder for --compare and --html; give an output folder")
    if not files.is_local(args.output or "") and (args.compare or args.html):
        parser.error(f"--output {args.output}: --compare and --html need a folder on this machine")
    if args.cores and not args.cluster:
        parser.error("--cores needs --cluster")
    if args.cluster and args.device == "tpu":
        parser.error("--cluster: computes on GPUs and CPUs, not with --device tpu")
    names = "model model-name alpha faithful ensemble output suffix format codec crf animated outscale width height"
    for name in (*names.split(), "long-side", "overwrite", "compare", "html", "tile", "cluster", "cores"):
        dest = name.replace("-", "_")
        if not args.input and getattr(args, dest) is not parser.get_default(dest):
            parser.error(f"--{name} needs --input")


def choose_models(args: argparse.Namespace, paths: Paths) -> tuple[list[str], float | None]:
    """Return the paths of one generator, or of two and the weight alpha of the second."""
    if args.model_name:
        return [SHIPPED_GENERATORS[args.model_name]], None
    if args.model:
        return [args.model], None
    return generators.choose_interpolation(paths, args.alpha, trained=bool(args.outputs or args.bucket))


def choose_video_settings(args: argparse.Namespace, output: str) -> VideoSettings:
    """Return the encoding of videos.

    Raises:
        UserError: the output is a file of a format that does not support the codec.
    """
    settings = VideoSettings(args.codec, args.crf)
    if is_file_name(output) and args.codec == "ffv1" and not output.lower().endswith(settings.ending):
        raise UserError(f"{output}: does not support --codec ffv1; choose a name that ends in {settings.ending}")
    return settings


def enlarge(args: argparse.Namespace, paths: Paths) -> int:
    """Upscale the inputs; return 1 if some could not be upscaled, otherwise 0."""
    output = args.output or os.path.join(paths.outputs, "enlarged")
    form = choose_format(output, args.format)
    video = choose_video_settings(args, output)
    jobs = Plan(args.input, output, form, args.compare, args.animated, video.ending, args.suffix)
    folder = os.path.dirname(output) or "." if is_file_name(output) else output
    page = os.path.join(folder, "index.html")
    if args.html:
        comparison.check_page(page)
    chosen = choose_models(args, paths)
    size = OutputSize(args.outscale, args.width, args.height, args.long_side)
    settings = results.settings_of(*chosen, size, args.faithful, args.ensemble)
    made = {False: results.Results(folder, settings), True: results.Results(folder, settings | video.described)}
    wanted = results.Wanted(jobs, made, args.overwrite)
    flags = args.runtime, args.precision, args.tile, args.faithful, args.ensemble
    load = functools.partial(upscaling.load_upscaler, *chosen, *flags)

    def note(job: Job) -> None:
        made[job.is_video].note(*job)

    how = size, args.compare, note, video
    if not any(True for _ in wanted):
        failures = ()
    elif args.cluster:
        failures = cluster.run(args.cluster, wanted, load, *how, args.cores)
    else:
        failures = batch.run(wanted, load(), *how)
    if files.is_local(folder):
        os.makedirs(folder, exist_ok=True)
    failed = tell(failures)
    logging.info("%d results written: %s", len(wanted) - len(failed), printable(output))
    tell_kept(wanted.kept)
    if args.compare:
        failed += tell(batch.run_comparisons(job for job in jobs if job.source not in failed))
    if args.html:
        batch.write_page(jobs, page)
    return 1 if failed else 0


@contextlib.contextmanager
def standard_streams(args: argparse.Namespace) -> Iterator[None]:
    """Replace "-" in the inputs and the output by files for the time of the block."""
    with tempfile.TemporaryDirectory() as folder:
        if args.input == ["-"]:
            source = os.path.join(folder, "standard input")
            with open(source, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            args.input = [source + image_io.sniffed_ending(source)]
            os.rename(source, *args.input)
        if args.output != "-":
            yield
            return
        form = ENDING_FORMATS.get(os.path.splitext(args.input[0])[1].lower()) if args.format == AUTO else args.format
        args.output = os.path.join(folder, "standard output" + FORMATS[form or "png"])
        yield
        if os.path.exists(args.output):
            with open(args.output, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)


def tell(failures: Iterable[batch.Failure]) -> list[str]:
    """Print each failure, and return the files that failed."""
    sources = []
    for failure in failures:
        tqdm.write(f"inference.py: {printable(failure.source)}: {failure.reason}", file=sys.stderr)
        sources.append(failure.source)
    return sources


def tell_kept(kept: Mapping[State, int]) -> None:
    """Log how many results were kept."""
    if current := kept[State.CURRENT]:
        logging.info("%d results exist already, made with the same settings; --overwrite replaces them", current)
    if foreign := kept[State.FOREIGN]:
        logging.info(
            "%d results exist already but were not made by this program; they are kept, and --overwrite replaces them",
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
    if args.output == "-":
        cli.log_to(sys.stderr)
    paths = cli.find_paths(args)
    # On a cluster, only the workers use devices.
    strategy = contextlib.nullcontext() if args.cluster else devices.get_strategy(args.device, args.tpu).scope()
    with strategy:
        if not args.input:
            return compare(args, paths)
        with standard_streams(args):
            return enlarge(args, paths)


if __name__ == "__main__":
    sys.exit(main())
