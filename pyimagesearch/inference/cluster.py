"""Upscale many files on the workers of a Ray cluster, with the results of `batch` on one machine."""

import collections
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from pyimagesearch import files
from pyimagesearch.inference import bands, batch, runtimes
from pyimagesearch.inference.batch import Done, Failure
from pyimagesearch.inference.jobs import Job, Jobs
from pyimagesearch.inference.sizes import OutputSize
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.inference.video_formats import VideoSettings
from pyimagesearch.workers import KILLS, Outcome, Pool, Progress, connected

Load = Callable[[], Upscaler]
"""Loads the generator on a worker."""


class Task(NamedTuple):
    """A file, or a part: a segment of a video or a band of a large image. `_BEGIN` is the step before the parts."""

    job: Job
    part: int | None = None


_BEGIN = -1
_MANY = 100  # files: so many need all workers


class _Made(NamedTuple):
    """What became of a task.

    Attributes:
        is_written: whether the result of the job is written.
        failures: what failed.
        pixels: the number of pixels computed.
        parts: the number of parts that can be made.
        messages: log lines with their levels.
    """

    is_written: bool
    failures: list[Failure]
    pixels: int
    parts: int
    messages: list[tuple[int, str]]


def run(
    address: str,
    jobs: Jobs,
    load: Load,
    size: OutputSize,
    compare: bool,
    done: Done,
    video_settings: VideoSettings | None = None,
    cores: int | None = None,
) -> Iterator[Failure]:
    """Do jobs as `batch.run` does, on a cluster.

    All nodes must have the folders of the inputs and results at the same paths, and the same version of this program.

    Args:
        address: see `workers.connected`.
        jobs: the jobs, such as `jobs.Plan`; at least one.
        load: loads the generator. It is called once by each worker.
        size: see `batch.run`.
        compare: see `batch.run`.
        done: is called in this process with each job whose result has been written.
        video_settings: see `batch.run`.
        cores: how many CPU cores a worker has, if it has no GPU; by default `workers.CORES`.

    Yields:
        The files that cannot be read, computed or written, and those whose worker was ended several times.

    Raises:
        UserError: see `workers.connected` and `workers.Pool.run`.
    """
    most = None if len(jobs) > _MANY or any(map(_has_parts, jobs)) else len(jobs)
    agenda, progress = _Agenda(jobs), Progress(jobs)
    with connected(address) as ray, contextlib.closing(progress):
        pool = Pool(ray, Worker, os.getcwd(), load, size, compare, video_settings, cores=cores)
        for outcome in pool.run(agenda, most):
            is_complete = agenda.is_complete_after(outcome)
            progress.tell(outcome.value.pixels if outcome.value else 0, files=int(is_complete))
            if is_complete or not outcome.given_up:
                yield from _finish(outcome, done)


class _Agenda:
    """The tasks. A file with parts is begun, then the parts are made, then it is put together."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = iter(jobs)
        self._ready: collections.deque[Task] = collections.deque()
        self._left: collections.Counter[Job] = collections.Counter()  # parts
        self._given_up: set[Job] = set()
        self._open: dict[Job, contextlib.ExitStack] = {}

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Task:
        if self._ready:
            return self._ready.popleft()
        job = next(self._jobs)
        stack = self._open[job] = contextlib.ExitStack()
        for path in (*_unfinished(job, KILLS), bands.folder_of(job.target)):  # removed if the program ends
            stack.enter_context(files.noted_unfinished(path))
        return Task(job, _BEGIN if _has_parts(job) else None)

    def is_complete_after(self, outcome: Outcome) -> bool:
        """Add the tasks that follow a task, and return whether there is none."""
        job, part = outcome.task
        if part == _BEGIN and outcome.value and not outcome.value.failures:
            self._left[job] = parts = outcome.value.parts
            self._ready.extend([Task(job, number) for number in range(parts)] or [Task(job)])
            return False
        if part not in (None, _BEGIN) and job not in self._given_up:
            self._left[job] -= 1
            if not outcome.given_up and not self._left[job]:
                self._ready.appendleft(Task(job))
            if not outcome.given_up:
                return False
            self._given_up.add(job)
            self._ready = collections.deque(task for task in self._ready if task.job != job)
        elif job in self._given_up:
            return False
        self._open.pop(job).close()
        self._left.pop(job, None)
        return True


def _has_parts(job: Job) -> bool:
    """Return whether several workers make the result. They store its parts in a folder beside it."""
    is_local = files.is_local(job.source) and files.is_local(job.target)
    return is_local and (job.is_video or bands.is_large(job.source))


def _unfinished(job: Job, attempts: int) -> list[str]:
    """Return the paths of unfinished files. Uploaded files have none."""
    targets = (job.target, job.comparison) if files.is_local(job.target) else ()
    return [files.unfinished_path(path, attempt) for path in targets for attempt in range(attempts)]


def _finish(outcome: Outcome, done: Done) -> Iterator[Failure]:
    """Log what the worker has logged, note the result, and remove what lost workers have left."""
    (job, _), made, attempts, given_up = outcome
    if attempts > 1:
        for path in _unfinished(job, attempts):
            files.remove(path)
    if given_up:
        bands.remove(job.target)
        yield Failure(job.source, f"its worker was ended {KILLS} times, perhaps for lack of memory; it is left out")
        return
    for level, message in made.messages:
        logging.log(level, "%s", message)
    if made.is_written:
        done(job)
    yield from made.failures


class Worker:
    """Upscales files, in a process of its own on a node."""

    def __init__(
        self,
        folder: str,
        load: Load,
        size: OutputSize,
        compare: bool,
        video_settings: VideoSettings | None,
        cores: int | None,
    ) -> None:
        """Prepare the process.

        Args:
            folder: the folder that relative paths start from.
            load: loads the generator.
            size: see `batch.run`.
            compare: see `batch.run`.
            video_settings: see `batch.run`.
            cores: how many cores to use. None: all.
        """
        self._load = load
        self._size, self._compare = size, compare
        self._makers: dict[int, Any] = {}  # a `SegmentMaker` of each thread
        self._video_settings = video_settings
        self._messages: collections.deque[tuple[int, str]] = collections.deque()
        with contextlib.suppress(OSError):  # absolute paths do not need it
            os.chdir(folder)
        if cores:
            runtimes.use_threads(cores)
        logging.basicConfig(handlers=[_Collector(self._messages)], level=logging.INFO, force=True)

    def start(self) -> str:
        """Load the generator, and return how it is computed.

        Raises:
            UserError: it cannot be loaded.
        """
        upscaler = self._load()
        self._upscale = _OneAtATime(upscaler)
        self._messages.clear()
        return upscaler.method

    def run(self, task: Task, attempt: int) -> _Made:
        """Do a task. While one is computed, others can be read and written."""
        written: list[Job] = []
        pixels: list[int] = []
        failures: list[Failure] = []
        parts = 0
        with files.attempt(attempt):
            if task.part is None:
                how = self._size, self._compare, written.append, self._video_settings, pixels.append
                failures += batch.make(task.job, bands.Joined(task.job.target, self._upscale), *how)
                bands.remove(task.job.target)
            elif task.part == _BEGIN:
                parts, failures = self._begin(task.job)
            elif task.job.is_video:
                self._make_segment(task, pixels.append)
            else:
                self._make_band(task, pixels.append)
        messages = [self._messages.popleft() for _ in range(len(self._messages))]
        return _Made(bool(written), failures, sum(pixels), parts, [] if task.part is not None else messages)

    def _begin(self, job: Job) -> tuple[int, list[Failure]]:
        """Prepare the parts of a file. Return how many there are, and what failed."""
        if not job.is_video:
            try:
                return bands.begin(job.source, job.target, self._upscale), []
            except Exception as error:  # as in `batch`
                return 0, [Failure(job.source, batch.why(error))]
        count = 0

        def work() -> None:
            nonlocal count
            from pyimagesearch.inference.video import begin_segments  # which needs PyAV

            upscale = batch.of_frames(self._upscale, self._size)
            count = begin_segments(job.source, job.target, upscale, self._video_settings)

        failures = list(batch.video_failures(job, work))
        return count, failures

    def _make_band(self, task: Task, progress: Callable[[float], None]) -> None:
        """Make a band. If that fails, the image is computed as a whole when it is put together."""
        with contextlib.suppress(Exception):
            bands.make(task.part, *task.job, self._upscale, progress)

    def _make_segment(self, task: Task, progress: Callable[[int], None]) -> None:
        """Make a segment. If that fails, it is made again when the video is put together, which tells what is wrong."""
        from pyimagesearch.inference.video import SegmentMaker  # which needs PyAV

        (source, target), number = task
        with contextlib.suppress(Exception):
            maker = self._makers.pop(threading.get_ident(), None)
            if maker is None or maker.source != source or maker.position > number:
                maker = SegmentMaker(source)
            maker.make(number, target, batch.of_frames(self._upscale, self._size, progress))
            self._makers[threading.get_ident()] = maker


class _OneAtATime:
    """An upscaler that several threads can call; it computes for one of them at a time."""

    def __init__(self, upscale: Upscaler) -> None:
        self._upscale = upscale
        self._computing = threading.Lock()
        self.scale = upscale.scale
        self.count_bands, self.join_bands = upscale.count_bands, upscale.join_bands

    def compute_band(self, lr: np.ndarray, number: int, progress: Callable[[float], None]) -> np.ndarray:
        with self._computing:
            return self._upscale.compute_band(lr, number, progress)

    def __call__(self, lr: np.ndarray, progress: Callable[[int], None] | None = None) -> np.ndarray:
        with self._computing:
            return self._upscale(lr, progress)


class _Collector(logging.Handler):
    """Collects the log lines of this program, except those on the progress of a file."""

    def __init__(self, messages: collections.deque[tuple[int, str]]) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if record.name == "root" and not getattr(record, "is_progress", False):
            self._messages.append((record.levelno, record.getMessage()))
