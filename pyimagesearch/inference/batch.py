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

Progress = Callable[[int], None]
"""Is called with the number of LR pixels that were computed since the last call."""


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


def make(
    job: Job,
    upscale: Upscaler,
    form: str,
    outscale: float | None,
    compare: bool,
    done: Done,
    video_settings: VideoSettings | None,
    progress: Progress,
) -> Iterator[Failure]:
    """Do one job, with the same result as `run`. The arguments are those of `run`, and `progress`; see `Progress`.

    Yields:
        The file, if it cannot be read, computed or written.
    """
    if job.is_video:
        yield from _upscale_video(job, upscale, outscale, done, video_settings, progress)
        return
    try:
        before = read_image(job.source)
        after = _compute(job, before, upscale, form, outscale, progress)
    except Exception as error:  # an error of one file must not stop the others
        yield Failure(job.source, _why(error))
        return
    try:
        _write(job, before, after, form, compare, done)
    except Exception as error:  # as above
        yield Failure(job.source, _why_not_written(job.target, error))


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
            yield Failure(file, _why(error))
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
                after = _compute(job, before, upscale, form, outscale, progress.update)
            except Exception as error:  # an error of one file must not stop the others
                yield Failure(job.source, _why(error))
            else:
                yield from _finish(writing)
                writing = job, writer.submit(_write, job, before, after, form, compare, done)
        yield from _finish(writing)


def _compute(
    job: Job, before: LoadedImage, upscale: Upscaler, form: str, outscale: float | None, progress: Progress
) -> LoadedImage:
    check_size([(outscale or upscale.scale) * side for side in before.pixels.shape[:2]], form)
    if is_animated(job.source):
        logging.info("%s: is animated; its first frame is upscaled", printable(job.source))
    return upscale_image(before, upscale, outscale, progress)


def _pixels(job: Job) -> int:
    with contextlib.suppress(Exception):  # is told when it is read
        return math.prod(read_size(job.source))
    return 0


def _why(error: Exception) -> str:
    """Return why nothing could be made of a file, in one line."""
    if isinstance(error, OUT_OF_MEMORY):
        return "too large for the memory of this machine"
    return str(error) if isinstance(error, ImageError | UserError) else fault(error)


def _why_not_written(target: str, error: Exception) -> str:
    """Return why a result could not be written, in one line."""
    if isinstance(error, (ImageError, OSError, tf.errors.OpError, *OUT_OF_MEMORY)):
        return f"{printable(target)} cannot be written: {reason(error)}"
    return _why(error)


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
    job: Job,
    upscale: Upscaler,
    outscale: float | None,
    done: Done,
    settings: VideoSettings | None,
    progress: Progress | None = None,
) -> Iterator[Failure]:
    def work() -> None:
        from pyimagesearch.inference.video import upscale_video  # which needs PyAV

        with tqdm(desc=job.source, unit=" frames", disable=None) as bar:

            def tell(frames: int, total: int) -> None:
                bar.total = total
                bar.update(frames)

            upscale_video(job.source, job.target, of_frames(upscale, outscale, progress), tell, settings)
        done(job)

    yield from video_failures(job, work)


def of_frames(
    upscale: Upscaler, outscale: float | None, progress: Progress | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that upscales the frames of videos, from uint8 RGB [h, w, 3] to uint8 RGB [S*h, S*w, 3]."""
    return lambda frame: upscale_image(LoadedImage(frame), upscale, outscale, progress).pixels


def video_failures(job: Job, work: Callable[[], None]) -> Iterator[Failure]:
    """Do some work on a video, and yield the failure if it does not succeed."""
    if not is_available():
        yield Failure(job.source, NO_PYAV)
        return
    try:
        work()
    except UserError as error:
        yield Failure(job.source, str(error).removeprefix(f"{job.source}: "))
    except OUT_OF_MEMORY as error:
        yield Failure(job.source, _why(error))
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
            said = printable(job.source), printable(job.target), _why(error)
            logging.warning("%s or %s: %s; not on the page", *said)
