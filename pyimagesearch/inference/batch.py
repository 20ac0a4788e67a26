"""Upscale many files: plan the result of each input, then read and write files while others are computed."""

import collections
import contextlib
import glob
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pyimagesearch.data.image_io import (
    ENDING_FORMATS,
    FORMATS,
    IMAGE_ENDINGS,
    ImageError,
    LoadedImage,
    check_size,
    read_image,
    read_size,
    write_image,
)
from pyimagesearch.errors import UserError
from pyimagesearch.files import fault, find_files, fitting_name, kinds, printable, reason, save_figure, written_whole
from pyimagesearch.inference import comparison
from pyimagesearch.inference.comparison import View, before_and_after, view
from pyimagesearch.inference.upscaling import OUT_OF_MEMORY, Upscaler, upscale_image
from pyimagesearch.inference.video_formats import (
    RESULT_ENDINGS,
    VIDEO_ENDINGS,
    VideoSettings,
    is_animated,
    is_available,
)

ENDINGS = tuple(dict.fromkeys(IMAGE_ENDINGS + (".apng",) + VIDEO_ENDINGS))
"""What the names of files end with that are taken from folders."""

_NO_PYAV = "videos are read by PyAV, which is not installed; install it with pip install -r requirements-video.txt"


class Job(NamedTuple):
    """A file to be upscaled, and where the result goes; an animated image can be upscaled as a video."""

    source: str
    target: str

    @property
    def is_video(self) -> bool:
        """Whether the result is a video, and not an image."""
        return self.target.lower().endswith(RESULT_ENDINGS)

    @property
    def comparison(self) -> str:
        """The path of the image of before and after."""
        folder, name = os.path.split(self.target)
        return os.path.join(folder, fitting_name(f"{os.path.splitext(name)[0]} compared.png"))


class Failure(NamedTuple):
    """A file that could not be upscaled, and the reason in one line."""

    source: str
    reason: str


def plan(
    inputs: Sequence[str],
    output: str,
    form: str,
    compare: bool = False,
    animated: bool = False,
    video_ending: str = VideoSettings().ending,
) -> list[Job]:
    """Return the jobs that inputs ask for.

    Args:
        inputs: files, folders, whose subfolders are mirrored below `output`, and patterns such as `scans/*.tif`.
        output: the folder of the results; what folders and patterns have in it is no input. Or, for a single input,
            the file that is the result.
        form: one of `image_io.FORMATS`.
        compare: whether comparisons will be written, too.
        animated: whether animated images become videos.
        video_ending: what the names of the results of videos end with.

    Raises:
        UserError: there is no such input, or nothing in it, or a result would take the place of an input or of another,
            or all are videos and what reads them is not installed.
    """
    if "://" in output:
        raise UserError(f"{output}: results are written to this machine only; give a folder on it")
    found: dict[tuple[str, str], Job] = {}
    for source, name in (pair for path in inputs for pair in _find(path, output)):
        if (key := (os.path.realpath(source), name)) not in found:
            is_video = source.lower().endswith(VIDEO_ENDINGS) or (animated and is_animated(source))
            found[key] = Job(source, os.path.splitext(name)[0] + (video_ending if is_video else FORMATS[form]))
    short = collections.Counter(job.target for job in found.values())
    jobs = [
        job._replace(target=_place(output, _full_name(name, job.target) if short[job.target] > 1 else job.target))
        for (_, name), job in found.items()
    ]
    if is_file_name(output):
        jobs = [_only_job(inputs, jobs, output)]
    _check(jobs, compare)
    return jobs


def _full_name(name: str, target: str) -> str:
    """Return the name of a result that keeps its source's ending: those of a.jpg and a.png differ."""
    return name + os.path.splitext(target)[1]


def _place(output: str, target: str) -> str:
    folder, name = os.path.split(printable(target))
    return os.path.join(output, folder, fitting_name(name))


def is_file_name(output: str) -> bool:
    """Return whether the place of the results names a file, not a folder."""
    return not os.path.isdir(output) and os.path.splitext(output)[1].lower() in (*ENDING_FORMATS, *RESULT_ENDINGS)


def choose_format(output: str, form: str | None) -> str:
    """Return the format of the results: `form` if given, or the name of the only result, or PNG.

    Raises:
        UserError: those two disagree.
    """
    named = ENDING_FORMATS.get(os.path.splitext(output)[1].lower()) if is_file_name(output) else None
    if named and form and named != form:
        raise UserError(
            f"{output}: its name is one of {named}, not of the format {form}; give the name or the format alone"
        )
    return named or form or "png"


def _only_job(inputs: Sequence[str], jobs: Sequence[Job], output: str) -> Job:
    """Return the job whose result is the file `output`."""
    if len(jobs) > 1 or os.path.isdir(inputs[0]):
        raise UserError(f"{output}: names one file, but the input is not one file; give a folder")
    (job,) = jobs
    if job.is_video != output.lower().endswith(RESULT_ENDINGS):
        kind = ", ".join(RESULT_ENDINGS if job.is_video else ENDING_FORMATS)
        raise UserError(f"{output}: the result of {job.source} cannot have that name; end it with {kind}")
    return job._replace(target=output)


def _check(jobs: Sequence[Job], compare: bool) -> None:
    if all(job.is_video for job in jobs) and not is_available():
        raise UserError(f"{printable(jobs[0].source)}: {_NO_PYAV}")
    sources, targets = {os.path.realpath(job.source) for job in jobs}, {}
    for job in jobs:
        for target in (job.target, job.comparison) if compare else (job.target,):
            if os.path.realpath(target) in sources:
                raise UserError(f"{target}: an input and a result at once; choose another folder for results")
            if (other := targets.setdefault(os.path.realpath(target), job.source)) != job.source:
                raise UserError(f"{job.source} and {other}: both would become {target}; give their folder as the input")


def _find(path: str, output: str) -> list[tuple[str, str]]:
    """Return the files that an input means, and for each its path below the folder of the results."""
    if os.path.isdir(path):
        return [(file, os.path.relpath(file, path)) for file in _below(path, output)]
    files = [path] if os.path.exists(path) else _matching(path, output)
    return [(file, os.path.basename(file)) for file in files]


def _matching(pattern: str, output: str) -> list[str]:
    """Return the images and videos that a pattern means, except results of before, if there are others."""
    literal, parts = "", list(pathlib.PurePath(pattern).parts)
    while parts and os.path.exists(os.path.join(literal, parts[0])):  # a folder called "[2020]" is that folder
        literal = os.path.join(literal, parts.pop(0))
    files = glob.glob(os.path.join(glob.escape(literal), *parts), recursive=True)
    files = sorted(filter(os.path.isfile, files))
    if not files:
        raise UserError(f"{pattern}: no such file or folder")
    readable = [file for file in files if file.lower().endswith(ENDINGS)]
    _tell_unread(pattern, [file for file in files if not file.lower().endswith(ENDINGS)])
    if not readable:
        raise UserError(f"{pattern}: nothing of it ends with {', '.join(ENDINGS)}")
    return [file for file in readable if not _lies_in(file, output)] or readable


def _below(folder: str, output: str) -> list[str]:
    """Return the images and videos of a folder, except results of before."""
    if os.path.realpath(folder) == os.path.realpath(output):
        raise UserError(f"{output}: an input and the results at once; give another folder")
    files, others = ([file for file in files if not _lies_in(file, output)] for files in find_files(folder, ENDINGS))
    if not files:
        raise UserError(f"{folder}: nothing in it ends with {', '.join(ENDINGS)}")
    _tell_unread(folder, others)
    return files


def _tell_unread(place: str, files: Sequence[str]) -> None:
    if files:
        logging.info("%s: left out what is of no kind read: %s", printable(place), kinds(files))


def _lies_in(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


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
        jobs: from `plan`.
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
                check_size([(outscale or upscale.scale) * side for side in before.pixels.shape[:2]], form)
                if is_animated(job.source):
                    logging.info("%s: is animated; its first frame is upscaled", printable(job.source))
                after = upscale_image(before, upscale, outscale, progress.update)
            except Exception as error:  # an error of one file must not stop the others
                yield Failure(job.source, _why(error))
            else:
                yield from _finish(writing)
                writing = job, writer.submit(_write, job, before, after, form, compare, done)
        yield from _finish(writing)


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
    job: Job, upscale: Upscaler, outscale: float | None, done: Done, settings: VideoSettings | None
) -> Iterator[Failure]:
    if not is_available():
        yield Failure(job.source, _NO_PYAV)
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
