"""Upscale many files. Files are read and written while others are computed."""

import collections
import contextlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pyimagesearch.data.image_io import ImageError, LoadedImage, check_size, read_image, read_size, write_image
from pyimagesearch.errors import UserError
from pyimagesearch.files import fault, printable, reason, save_figure, written_whole
from pyimagesearch.inference import comparison
from pyimagesearch.inference.comparison import View, before_and_after, view
from pyimagesearch.inference.jobs import Job
from pyimagesearch.inference.upscaling import OUT_OF_MEMORY, Upscaler, upscale_image
from pyimagesearch.inference.video_formats import NO_PYAV, VideoSettings, is_animated, is_available


class Failure(NamedTuple):
    """A file that could not be upscaled, and the reason in one line."""

    source: str
    reason: str


Done = Callable[[Job], None]
"""Is called with each job whose result has just been written."""


def run(
    jobs: Sequence[Job],
    upscale: Upscaler,
    form: str,
    outscale: float | None = None,
    compare: bool = False,
    done: Done = lambda job: None,
    video_settings: VideoSettings | None = None,
) -> Iterator[Failure]:
    """Do jobs, the images first.

    Args:
        jobs: from `jobs.plan`.
        upscale: computes the results.
        form: one of `image_io.FORMATS`.
        outscale: the scaling factor of the results; by default that of the generator.
        compare: whether to write an image of before and after beside each result.
        done: see `Done`.
        video_settings: how videos are encoded, if not as by default.

    Yields:
        The files that cannot be read, computed or written. The other files are still processed.
    """
    yield from _upscale_images([job for job in jobs if not job.is_video], upscale, form, outscale, compare, done)
    for job in jobs:
        if job.is_video:
            yield from _upscale_video(job, upscale, outscale, done, video_settings)


def run_comparisons(jobs: Sequence[Job]) -> Iterator[Failure]:
    """Write the image of before and after beside each existing result, unless a newer one exists.

    Yields:
        The files that cannot be read or written. The other files are still processed.
    """
    for job in jobs:
        if job.is_video or _is_newer(job.comparison, job.target):
            continue
        file = job.source
        try:
            before = read_image(file)
            file = job.target
            after = read_image(file, limited=False)
        except Exception as error:  # an error of one file must not stop the others
            yield Failure(file, why(error))
            continue
        try:
            save_figure(before_and_after(before, after), job.comparison)
        except Exception as error:  # as above
            yield Failure(job.source, _why_not_written(job.comparison, error))


def _is_newer(path: str, other: str) -> bool:
    return os.path.exists(path) and os.stat(path).st_mtime_ns >= os.stat(other).st_mtime_ns


def _upscale_images(
    jobs: Sequence[Job], upscale: Upscaler, form: str, outscale: float | None, compare: bool, done: Done
) -> Iterator[Failure]:
    """Read the next image and write the last one while one is computed. No other images are in memory."""
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
        tqdm(total=sum(map(_pixels, jobs)), unit=" pixels", unit_scale=True, disable=None) as progress,
    ):
        reading = collections.deque([reader.submit(read_image, job.source) for job in jobs[:1]])
        writing = None
        for number, job in enumerate(jobs):
            reading.extend(reader.submit(read_image, job.source) for job in jobs[number + 1 : number + 2])
            try:
                before = reading.popleft().result()
                check_size([(outscale or upscale.scale) * side for side in before.pixels.shape[:2]], form)
                if is_animated(job.source):
                    logging.info("%s: is animated; its first frame is upscaled", printable(job.source))
                after = upscale_image(before, upscale, outscale, progress.update)
            except Exception as error:  # an error of one file must not stop the others
                yield Failure(job.source, why(error))
            else:
                yield from _finish(writing)
                writing = job, writer.submit(_write, job, before, after, form, compare, done)
        yield from _finish(writing)


def _pixels(job: Job) -> int:
    with contextlib.suppress(Exception):  # is told when it is read
        return math.prod(read_size(job.source))
    return 0


def why(error: Exception) -> str:
    """Return why nothing could be made of a file, in one line."""
    if isinstance(error, OUT_OF_MEMORY):
        return "too large for the memory of this machine"
    return str(error) if isinstance(error, ImageError | UserError) else fault(error)


def _why_not_written(target: str, error: Exception) -> str:
    """Return why a result could not be written, in one line."""
    if isinstance(error, (ImageError, OSError, tf.errors.OpError, *OUT_OF_MEMORY)):
        return f"{printable(target)} cannot be written: {reason(error)}"
    return why(error)


def _write(job: Job, before: LoadedImage, after: LoadedImage, form: str, compare: bool, done: Done) -> None:
    with written_whole(job.target) as aside:
        write_image(aside, after, form)
    done(job)
    if compare:
        save_figure(before_and_after(before, after), job.comparison)


def _finish(writing: tuple[Job, Future] | None) -> Iterator[Failure]:
    if writing:
        job, future = writing
        try:
            future.result()
        except Exception as error:  # as above
            yield Failure(job.source, _why_not_written(job.target, error))


def _upscale_video(
    job: Job, upscale: Upscaler, outscale: float | None, done: Done, settings: VideoSettings | None
) -> Iterator[Failure]:
    if not is_available():
        yield Failure(job.source, NO_PYAV)
        return
    from pyimagesearch.inference.video import upscale_video  # which needs PyAV

    def one(frame: np.ndarray) -> np.ndarray:
        return upscale_image(LoadedImage(frame), upscale, outscale).pixels

    try:
        with tqdm(desc=job.source, unit=" frames", disable=None) as bar:

            def tell(frames: int, total: int) -> None:
                bar.total = total
                bar.update(frames)

            upscale_video(job.source, job.target, one, tell, settings)
        done(job)
    except UserError as error:
        yield Failure(job.source, str(error).removeprefix(f"{job.source}: "))
    except OUT_OF_MEMORY as error:
        yield Failure(job.source, why(error))
    except Exception as error:  # as above
        yield Failure(job.source, _why_not_written(job.target, error))


def write_page(jobs: Sequence[Job], path: str) -> None:
    """Write the page of `comparison.write_page` for the images whose results exist."""
    done = [job for job in jobs if not job.is_video and os.path.exists(job.target)]
    comparison.write_page(path, _views(done, os.path.dirname(path)))


def _views(jobs: Sequence[Job], folder: str) -> Iterator[View]:
    for job in jobs:
        try:
            before, after = read_image(job.source), read_image(job.target, limited=False)
            yield view(os.path.relpath(job.target, folder), before, after)
        except Exception as error:  # as above
            said = printable(job.source), printable(job.target), why(error)
            logging.warning("%s or %s: %s; not on the page", *said)
