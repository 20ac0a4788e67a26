"""Upscale many files on the workers of a Ray cluster, with the results of `batch` on one machine."""

import collections
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pyimagesearch import files
from pyimagesearch.cluster import KILLS, Outcome, Pool, Progress, connected
from pyimagesearch.inference import batch, runtimes
from pyimagesearch.inference.batch import Done, Failure
from pyimagesearch.inference.jobs import Job
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.inference.video_formats import VideoSettings

Load = Callable[[], Upscaler]
"""Loads the generator on a worker."""


class _Made(NamedTuple):
    """What became of a job: whether its result is written, what failed, the pixels computed, and the log lines."""

    is_written: bool
    failures: list[Failure]
    pixels: int
    messages: list[tuple[int, str]]


def run(
    address: str,
    jobs: Sequence[Job],
    load: Load,
    form: str,
    outscale: float | None,
    compare: bool,
    done: Done,
    video_settings: VideoSettings | None = None,
    cores: int | None = None,
) -> Iterator[Failure]:
    """Do jobs as `batch.run` does, on a cluster.

    All nodes must have the folders of the inputs and results at the same paths, and the same version of this program.

    Args:
        address: see `cluster.connected`.
        jobs: from `jobs.plan`.
        load: loads the generator. It is called once by each worker.
        form: see `batch.run`.
        outscale: see `batch.run`.
        compare: see `batch.run`.
        done: is called in this process with each job whose result has been written.
        video_settings: see `batch.run`.
        cores: how many CPU cores a worker has, if it has no GPU; by default `cluster.CORES`.

    Yields:
        The files that cannot be read, computed or written, and those whose worker was ended several times.

    Raises:
        UserError: see `cluster.connected` and `cluster.Pool.run`.
    """
    if not jobs:
        return
    open_files: dict[Job, contextlib.ExitStack] = {}
    progress = Progress(len(jobs))
    ordered = sorted(jobs, key=lambda job: job.is_video)
    with connected(address) as ray, contextlib.closing(progress):
        how = form, outscale, compare, video_settings
        pool = Pool(ray, Worker, os.getcwd(), load, *how, cores=cores)
        for outcome in pool.run(_opened(ordered, open_files), len(jobs)):
            open_files.pop(outcome.task).close()
            progress.tell(outcome.value.pixels if outcome.value else 0)
            yield from _finish(outcome, done)


def _opened(jobs: Sequence[Job], open_files: dict[Job, contextlib.ExitStack]) -> Iterator[Job]:
    """Yield jobs. Until a job is closed, its unfinished files are removed if the program ends."""
    for job in jobs:
        stack = open_files[job] = contextlib.ExitStack()
        for path in _unfinished(job, KILLS):
            stack.enter_context(files.noted_unfinished(path))
        yield job


def _unfinished(job: Job, attempts: int) -> list[str]:
    targets = (job.target, job.comparison)
    return [files.unfinished_path(path, attempt) for path in targets for attempt in range(attempts)]


def _finish(outcome: Outcome, done: Done) -> Iterator[Failure]:
    """Log what the worker has logged, note the result, and remove what lost workers have left."""
    job, made, attempts, given_up = outcome
    if attempts > 1:
        for path in _unfinished(job, attempts):
            files.remove(path)
    if given_up:
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
        form: str,
        outscale: float | None,
        compare: bool,
        video_settings: VideoSettings | None,
        cores: int | None,
    ) -> None:
        """Prepare the process.

        Args:
            folder: the folder that relative paths start from.
            load: loads the generator.
            form: see `batch.run`.
            outscale: see `batch.run`.
            compare: see `batch.run`.
            video_settings: see `batch.run`.
            cores: how many cores to use. None: all.
        """
        self._load = load
        self._how = form, outscale, compare
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

    def run(self, job: Job, attempt: int) -> _Made:
        """Do a job. While one is computed, others can be read and written."""
        written: list[Job] = []
        pixels: list[int] = []
        with files.attempt(attempt):
            how = *self._how, written.append, self._video_settings, pixels.append
            failures = list(batch.make(job, self._upscale, *how))
        messages = [self._messages.popleft() for _ in range(len(self._messages))]
        return _Made(bool(written), failures, sum(pixels), messages)


class _OneAtATime:
    """An upscaler that several threads can call; it computes for one of them at a time."""

    def __init__(self, upscale: Upscaler) -> None:
        self._upscale = upscale
        self._computing = threading.Lock()
        self.scale = upscale.scale

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
