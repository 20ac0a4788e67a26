"""Upscale many files. Files are read and written while others are computed."""

import collections
import itertools
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pyimagesearch import remote
from pyimagesearch.data.image_io import ImageError, LoadedImage, check_size, read_image, write_image
from pyimagesearch.errors import UserError
from pyimagesearch.files import fault, printable, reason, save_figure, written_whole
from pyimagesearch.inference import comparison
from pyimagesearch.inference.comparison import View, before_and_after, view
from pyimagesearch.inference.jobs import Job, Jobs
from pyimagesearch.inference.sizes import NATURAL, OutputSize
from pyimagesearch.inference.upscaling import OUT_OF_MEMORY, Upscaler, upscale_image
from pyimagesearch.inference.video_formats import NO_PYAV, VideoSettings, is_animated, is_available


class Failure(NamedTuple):
    """A file that could not be upscaled, and the reason in one line."""

    source: str
    reason: str


Done = Callable[[Job], None]
"""A function that is called with each job after its result has been written."""

Progress = Callable[[float], None]
"""A function that is called with the number of LR pixels computed since the last call."""

_BAR = "{percentage:3.0f}%|{bar}| {n:.1f} of {total} files [{elapsed}<{remaining}]"


def run(
    jobs: Jobs,
    upscale: Upscaler,
    size: OutputSize = NATURAL,
    compare: bool = False,
    done: Done = lambda job: None,
    video_settings: VideoSettings | None = None,
) -> Iterator[Failure]:
    """Upscale the sources of jobs.

    Args:
        jobs: the jobs, such as `jobs.Plan`.
        upscale: the upscaler.
        size: the size of the results.
        compare: whether to write an image of before and after beside each result.
        done: is called with each job after its result has been written.
        video_settings: the encoding of videos. None: the defaults of `VideoSettings`.

    Yields:
        The files that cannot be read, upscaled or written. Errors do not stop the other files.
    """
    for is_video, group in itertools.groupby(jobs, lambda job: job.is_video):
        if not is_video:
            yield from _upscale_images(group, jobs.__len__, upscale, size, compare, done)
            continue
        for job in group:
            yield from _upscale_video(job, upscale, size, done, video_settings)


def make(
    job: Job,
    upscale: Upscaler,
    size: OutputSize,
    compare: bool,
    done: Done,
    video_settings: VideoSettings | None,
    progress: Progress,
) -> Iterator[Failure]:
    """Upscale the source of one job, with the result of `run`.

    The arguments are those of `run`, and `progress`; see `Progress`.

    Yields:
        The file, if it cannot be read, computed or written.
    """
    if job.is_video:
        yield from _upscale_video(job, upscale, size, done, video_settings, progress)
        return
    try:
        before = _read_first_frame(job.source)
        after = _compute(job, before, upscale, size, progress)
    except Exception as error:  # an error of one file must not stop the others
        yield Failure(job.source, why(error))
        return
    try:
        _write(job, before, after, compare, done)
    except Exception as error:  # as above
        yield Failure(job.source, _why_not_written(job.target, error))


def run_comparisons(jobs: Iterable[Job]) -> Iterator[Failure]:
    """Write the image of before and after beside each existing result, unless a newer one exists.

    Yields:
        The files that cannot be read or written. Errors do not stop the other files.
    """
    for job in jobs:
        if job.is_video or _is_newer(job.comparison, job.target):
            continue
        file = job.source
        try:
            before = _read(file)
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
    jobs: Iterator[Job], count: Callable[[], int], upscale: Upscaler, size: OutputSize, compare: bool, done: Done
) -> Iterator[Failure]:
    """Upscale an image while the next one is read and the last one is written. Only these three are in memory."""
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
        tqdm(total=count(), bar_format=_BAR, disable=None) as progress,
    ):

        def tell(pixels: float) -> None:
            progress.update(pixels / math.prod(before.pixels.shape[:2]))

        writing = None
        for number, (job, reading) in enumerate(_read_ahead(jobs, reader)):
            progress.n, progress.total = number, count()
            try:
                before = reading.result()
                after = _compute(job, before, upscale, size, tell)
            except Exception as error:  # an error of one file must not stop the others
                yield Failure(job.source, why(error))
            else:
                yield from _finish(writing)
                writing = job, writer.submit(_write, job, before, after, compare, done)
        yield from _finish(writing)


def _read_ahead(jobs: Iterable[Job], reader: ThreadPoolExecutor) -> Iterator[tuple[Job, Future]]:
    """Yield each job with its image, while the image of the next job is read."""
    reading: collections.deque[tuple[Job, Future]] = collections.deque()
    for job in jobs:
        reading.append((job, reader.submit(_read_first_frame, job.source)))
        if len(reading) > 1:
            yield reading.popleft()
    yield from reading


def _read(source: str) -> LoadedImage:
    with remote.fetched(source) as path:
        return read_image(path)


def _read_first_frame(source: str) -> LoadedImage:
    """Read an image, and log it if it has more frames."""
    with remote.fetched(source) as path:
        if is_animated(path):
            logging.info("%s: is animated; only its first frame is upscaled", printable(source))
        return read_image(path)


def _compute(job: Job, before: LoadedImage, upscale: Upscaler, size: OutputSize, progress: Progress) -> LoadedImage:
    check_size(size.of(*before.pixels.shape[:2], upscale.scale), job.form)
    return upscale_image(before, upscale, size, progress)


def why(error: Exception) -> str:
    """Return in one line why a file could not be upscaled."""
    if isinstance(error, OUT_OF_MEMORY):
        return "too large for the memory of this machine"
    return str(error) if isinstance(error, ImageError | UserError) else fault(error)


def _why_not_written(target: str, error: Exception) -> str:
    """Return in one line why a result could not be written."""
    if isinstance(error, (ImageError, OSError, tf.errors.OpError, *OUT_OF_MEMORY)):
        return f"{printable(target)} cannot be written: {reason(error)}"
    return why(error)


def _write(job: Job, before: LoadedImage, after: LoadedImage, compare: bool, done: Done) -> None:
    with remote.uploaded(job.target) as target, written_whole(target) as aside:
        write_image(aside, after, job.form)
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
    size: OutputSize,
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

            with remote.fetched(job.source) as source, remote.uploaded(job.target) as target:
                upscale_video(source, target, of_frames(upscale, size, progress), tell, settings)
        done(job)

    yield from video_failures(job, work)


def of_frames(
    upscale: Upscaler, size: OutputSize, progress: Progress | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that upscales the frames of videos, from uint8 RGB [h, w, 3] to uint8 RGB [S*h, S*w, 3]."""
    return lambda frame: upscale_image(LoadedImage(frame), upscale, size, progress).pixels


def video_failures(job: Job, work: Callable[[], None]) -> Iterator[Failure]:
    """Call a function that upscales a video, and yield the failure if there is one."""
    if not is_available():
        yield Failure(job.source, NO_PYAV)
        return
    try:
        work()
    except UserError as error:
        yield Failure(job.source, str(error).removeprefix(f"{job.source}: "))
    except OUT_OF_MEMORY as error:
        yield Failure(job.source, why(error))
    except Exception as error:  # as above
        yield Failure(job.source, _why_not_written(job.target, error))


def write_page(jobs: Iterable[Job], path: str) -> None:
    """Write the page of `comparison.write_page` for the images whose results exist."""
    done = [job for job in jobs if not job.is_video and os.path.exists(job.target)]
    comparison.write_page(path, _views(done, os.path.dirname(path)))


def _views(jobs: Sequence[Job], folder: str) -> Iterator[View]:
    for job in jobs:
        try:
            before, after = _read(job.source), read_image(job.target, limited=False)
            yield view(os.path.relpath(job.target, folder), before, after)
        except Exception as error:  # as above
            said = printable(job.source), printable(job.target), why(error)
            logging.warning("%s or %s: %s; not on the page", *said)
