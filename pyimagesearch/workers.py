"""Many tasks on the workers of a Ray cluster. Lost workers are replaced, and their tasks run again.

Ray is optional: it is imported only when a cluster is used.
"""

import collections
import contextlib
import dataclasses
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import ModuleType
from typing import Any, NamedTuple

import tensorflow as tf
from tqdm import tqdm

from pyimagesearch import cli, devices
from pyimagesearch.errors import UserError

LOCAL = "auto"
"""The address for which Ray is started on this machine."""

CORES = 8
"""How many CPU cores a worker uses by default."""

KILLS = 3
"""A task whose worker ends so many times is given up."""

_OVERLAP = 3  # tasks that a worker reads, computes and writes at the same time
_LOOK = 1  # seconds between looks at the nodes
_PATIENCE = 5  # seconds to wait for the end of processes
_PACE = 30  # seconds between lines on the progress
_STARTS_IN = 120  # seconds between warnings that no worker has started


class Outcome(NamedTuple):
    """The end of a task.

    Attributes:
        task: the task.
        value: what the worker has returned, or None if the task was given up.
        attempts: how many workers had the task.
        given_up: whether the worker ended `KILLS` times.
    """

    task: Any
    value: Any
    attempts: int
    given_up: bool = False


@dataclasses.dataclass
class _Attempt:
    """A task, how many workers have lost it, and how many of those have ended although their node has not."""

    task: Any
    losses: int = 0
    kills: int = 0


@dataclasses.dataclass(eq=False)
class _Worker:
    """A worker, the reference of its start until it has started, and its attempts by their references."""

    node: str
    actor: Any
    starting: Any
    overlap: int
    attempts: dict[Any, _Attempt] = dataclasses.field(default_factory=dict)

    @property
    def is_alone_with_a_suspect(self) -> bool:
        """Whether the worker has a task that may have ended another worker. Then it gets no other task."""
        return any(attempt.kills for attempt in self.attempts.values())


@contextlib.contextmanager
def connected(address: str) -> Iterator[ModuleType]:
    """Start Ray on this machine, or connect to a cluster. Yield the module `ray`.

    On this machine, Ray listens on the loopback address only. All processes that were started have ended after the
    block, and after Ctrl-C. A dashboard is not started, and usage statistics are not sent.

    Args:
        address: `LOCAL`, or the address of a cluster: HOST:PORT on a node of it, or ray://HOST:PORT.

    Raises:
        UserError: Ray is not installed, or no cluster answers at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray then uses 127.0.0.1, as it does on Windows
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed; install it with pip install -r requirements-cluster.txt") from error
    ray._private.worker._worker_logs_enabled = False  # or lost workers are told in the middle of standard output
    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")  # the workers need the memory of the GPUs
    with _local(ray) if address == LOCAL else _remote(ray, address):
        yield ray


@contextlib.contextmanager
def _local(ray: ModuleType) -> Iterator[None]:
    import psutil  # Ray has it

    others = set(psutil.Process().children())

    def end() -> None:
        while family := [child for child in psutil.Process().children(recursive=True) if child not in others]:
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, _PATIENCE)

    with cli.at_stop(end):
        try:
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            yield
        finally:
            ray.shutdown()
            end()


@contextlib.contextmanager
def _remote(ray: ModuleType, address: str) -> Iterator[None]:
    problem = f"{address}: no Ray cluster answers; start one with ray start, or correct the address"
    if not devices.answers(address.removeprefix("ray://")):
        raise UserError(problem)  # Ray would try for minutes
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(problem) from error
    try:
        yield
    finally:
        ray.shutdown()


class Pool:
    """Workers on all nodes: one for each GPU of nodes with GPUs, otherwise one for each group of cores.

    A worker is an object with two methods. `start()` is called once and returns how it computes; all workers must
    return the same. `run(task, attempt)` does a task; `attempt` counts from 0. It is called from several threads.
    """

    def __init__(
        self,
        ray: ModuleType,
        worker: Callable[..., Any],
        *arguments: Any,
        cores: int | None = None,
        with_gpus: bool = True,
    ) -> None:
        """Prepare the pool.

        Args:
            ray: from `connected`.
            worker: the class of the workers. It is called with the arguments and with the number of cores that the
                worker may use, or None if it has a GPU.
            *arguments: the first arguments of `worker`.
            cores: how many cores a worker has, at most all of its node; by default `CORES`.
            with_gpus: whether GPUs are used, if there are any.
        """
        self._with_gpus = with_gpus
        self._ray, self._class, self._arguments = ray, ray.remote(worker), arguments
        self._cores = cores or CORES
        self._workers: dict[tuple[str, int], _Worker] = {}
        self._owners: dict[Any, tuple[str, int]] = {}
        self._lost: collections.deque[_Attempt] = collections.deque()
        self._suspects: collections.deque[_Attempt] = collections.deque()
        self._source: Iterator[Any] = iter(())
        self._method: str | None = None
        self._failed_starts = 0
        self._looked = self._worked = time.monotonic() - _LOOK

    def run(self, tasks: Iterable[Any], most: int | None = None) -> Iterator[Outcome]:
        """Do tasks, and yield the end of each. Only as many tasks are taken from the iterable as workers can hold.

        An iterator may end and later have more tasks. It is asked again after each outcome.

        A task whose worker has ended runs again. It then has a worker for itself, so that each further end is its
        own fault. The end of a whole node is nobody's fault.

        Args:
            tasks: what `run` of the workers takes.
            most: the largest number of workers. None: as many as there is place for.

        Raises:
            UserError: `start` of a worker raises it; the workers compute in different ways; they end when they start.
        """
        self._source = map(_Attempt, tasks)
        with cli.at_stop(self.end):
            try:
                while self._has_work():
                    self._start_workers(most)
                    self._hand_out()
                    yield from self._collect()
            finally:
                self.end()

    def end(self) -> None:
        """End all workers, and wait until they have ended."""
        for worker in self._workers.values():
            self._ray.kill(worker.actor)
        if self._owners:
            self._ray.wait(list(self._owners), num_returns=len(self._owners), timeout=_PATIENCE)
        self._workers.clear()
        self._owners.clear()

    def _has_work(self) -> bool:
        return self._is_waiting() or any(worker.attempts for worker in self._workers.values())

    def _is_waiting(self) -> bool:
        """Return whether there are tasks that no worker has."""
        if not (self._lost or self._suspects):
            self._lost.extend(itertools.islice(self._source, 1))
        return bool(self._lost or self._suspects)

    def _start_workers(self, most: int | None) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK or not self._is_waiting():
            return
        self._looked = now
        for slot, resources in itertools.islice(self._slots(), most):
            if slot not in self._workers:
                self._start(slot, resources)
        if any(not worker.starting for worker in self._workers.values()):
            self._worked = now
        elif now - self._worked > _STARTS_IN:
            self._worked = now
            logging.warning("no worker has started yet; the cluster has no free cores or GPUs, or starts slowly")

    def _slots(self) -> Iterator[tuple[tuple[str, int], dict[str, int]]]:
        """Yield the places for workers, each a node and a number, and the resources that a worker takes there."""
        nodes = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        with_gpus = self._with_gpus and any(resources.get("GPU", 0) >= 1 for resources in nodes.values())
        for node, resources in nodes.items():
            gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
            group = min(self._cores, cores)
            taken = {"num_gpus": 1, "num_cpus": 1} if with_gpus else {"num_cpus": group}
            for number in range(gpus if with_gpus else cores // max(1, group)):
                yield (node, number), taken

    def _start(self, slot: tuple[str, int], resources: dict[str, int]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        cores = None if "num_gpus" in resources else resources["num_cpus"]
        overlap = min(_OVERLAP, cores or _OVERLAP)
        place = NodeAffinitySchedulingStrategy(slot[0], soft=False)
        options = self._class.options(**resources, max_concurrency=overlap, scheduling_strategy=place)
        actor = options.remote(*self._arguments, cores)
        starting = actor.start.remote()
        self._owners[starting] = slot
        self._workers[slot] = _Worker(slot[0], actor, starting, overlap)

    def _hand_out(self) -> None:
        """Give tasks to workers that have started. For each suspect, a worker gets no more tasks until it is idle."""
        emptied = 0
        for slot, worker in self._workers.items():
            if worker.starting or worker.is_alone_with_a_suspect:
                continue
            if self._suspects and not worker.attempts:
                self._give(slot, worker, self._suspects.popleft())
            elif emptied < len(self._suspects):
                emptied += 1
            else:
                while len(worker.attempts) <= worker.overlap and (attempt := self._next()):
                    self._give(slot, worker, attempt)

    def _next(self) -> _Attempt | None:
        return self._lost.popleft() if self._lost else next(self._source, None)

    def _give(self, slot: tuple[str, int], worker: _Worker, attempt: _Attempt) -> None:
        reference = worker.actor.run.remote(attempt.task, attempt.losses)
        worker.attempts[reference] = attempt
        self._owners[reference] = slot

    def _collect(self) -> Iterator[Outcome]:
        """Wait until something has ended, and yield the tasks that have."""
        if not self._owners:
            time.sleep(_LOOK)
            return
        references = list(self._owners)
        if self._ray.wait(references, timeout=_LOOK)[0]:
            for reference in self._ray.wait(references, num_returns=len(references), timeout=0)[0]:
                if reference in self._owners:  # not that of a worker which is already known to have ended
                    yield from self._take(reference)

    def _take(self, reference: Any) -> Iterator[Outcome]:
        slot = self._owners[reference]
        worker = self._workers[slot]
        try:
            value = self._value(reference)
        except self._ray.exceptions.RayError:
            yield from self._lose(slot)
            return
        del self._owners[reference]
        if reference in worker.attempts:
            attempt = worker.attempts.pop(reference)
            yield Outcome(attempt.task, value, attempt.losses + 1)
        else:
            self._welcome(worker, value)

    def _value(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference, timeout=_PATIENCE)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def _welcome(self, worker: _Worker, method: str) -> None:
        """Note that a worker has started."""
        worker.starting = None
        self._failed_starts = 0
        if not self._method:
            logging.info("workers started: %s", method)
            self._method = method
        if method != self._method:
            raise UserError(
                f"the nodes compute in different ways, which would give different results: {self._method}; {method}; "
                "choose the runtime and the precision"
            )

    def _lose(self, slot: tuple[str, int]) -> Iterator[Outcome]:
        """Remove a worker that has ended. Its tasks that have not ended will run again."""
        worker = self._workers.pop(slot)
        self._ray.kill(worker.actor)  # it may be alive, on a node that does not answer
        is_fault = any(node["Alive"] for node in self._ray.nodes() if node["NodeID"] == worker.node)
        self._owners.pop(worker.starting, None)
        if worker.starting and is_fault:
            self._failed_starts += 1
            if self._failed_starts >= KILLS:
                raise UserError("workers end when they start, perhaps for lack of memory; use fewer, with more cores")
        for reference, attempt in worker.attempts.items():
            del self._owners[reference]
            try:
                yield Outcome(attempt.task, self._value(reference), attempt.losses + 1)
            except self._ray.exceptions.RayError:
                yield from self._repeat(attempt, is_fault)

    def _repeat(self, attempt: _Attempt, is_fault: bool) -> Iterator[Outcome]:
        attempt.losses += 1
        attempt.kills += is_fault
        if attempt.kills >= KILLS:
            yield Outcome(attempt.task, None, attempt.losses, given_up=True)
        else:
            (self._suspects if attempt.kills else self._lost).append(attempt)


class Progress:
    """Shows how many files are done, the megapixels a second and the time left: a bar, or a line now and then."""

    def __init__(self, files: Sized) -> None:
        """Begin.

        Args:
            files: what has the number of files as its length. The length can change.
        """
        self._bar = tqdm(total=len(files), unit=" files", disable=None)
        self._files, self._done, self._pixels = files, 0, 0
        self._began = self._told = time.monotonic()

    def tell(self, pixels: int, files: int = 1) -> None:
        """Count what was done.

        Args:
            pixels: how many pixels were computed.
            files: how many files are complete.
        """
        self._done += files
        self._pixels += pixels
        now = time.monotonic()
        rate = f"{self._pixels / 1e6 / max(now - self._began, 1e-3):.3g} megapixels/s"
        total = self._bar.total = len(self._files)
        self._bar.set_postfix_str(rate, refresh=False)
        self._bar.update(files)
        if self._bar.disable and self._done and now - self._told >= _PACE:
            self._told = now
            left = tqdm.format_interval((now - self._began) / self._done * (total - self._done))
            logging.info("%d of %d files, %s, about %s left", self._done, total, rate, left)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
