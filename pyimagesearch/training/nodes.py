"""Train on the nodes of a Ray cluster: the same command runs on each node, as one worker of the training."""

import contextlib
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import IO, Any

from pyimagesearch.errors import UserError
from pyimagesearch.workers import connected

_STARTS_IN = 120  # seconds until all nodes must have started a process
_LOOK = 1  # seconds between looks at the output of the workers


def train(address: str, command: Sequence[str]) -> int:
    """Run a command on each node, with TF_CONFIG, and show what it writes. SIGTERM and Ctrl-C are passed on.

    Of the standard output, that of the first worker is shown; of the standard error, the lines of all workers, each
    line once.

    Args:
        address: see `workers.connected`.
        command: the program and its arguments. All nodes have it, and its files, at the same paths.

    Returns:
        The exit status of the first worker that failed, or 0.

    Raises:
        UserError: see `workers.connected`, or a node has no free cores and GPUs.
    """
    with connected(address) as ray:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        workers = [_start(ray, node) for node in nodes]
        try:
            addresses = ray.get([worker.address.remote() for worker in workers], timeout=_STARTS_IN)
        except ray.exceptions.GetTimeoutError as error:
            raise UserError(f"{address}: a node has no free cores and GPUs; end what else runs there") from error
        logging.info("a worker on each of %d nodes: %s", len(nodes), ", ".join(addresses))
        for index, worker in enumerate(workers):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            worker.start.remote(command, {"TF_CONFIG": json.dumps(task)})
        with _signals_passed_to(workers):
            return _follow(ray, dict(zip(addresses, workers, strict=True)))


def _start(ray: ModuleType, node: dict[str, Any]) -> Any:
    """Start a process that has all cores and GPUs of a node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    resources = {"num_cpus": node["Resources"].get("CPU", 0), "num_gpus": node["Resources"].get("GPU", 0)}
    options = ray.remote(_Worker).options(**resources, scheduling_strategy=place)
    return options.remote(node["NodeManagerAddress"], os.getcwd())


@contextlib.contextmanager
def _signals_passed_to(workers: Sequence[Any]) -> Iterator[None]:
    """Send signals to the first worker. All workers then stop after a checkpoint."""

    def send(number: int, frame: object) -> None:
        workers[0].send.remote(signal.SIGTERM if number == signal.SIGINT else number)

    handlers = {number: signal.signal(number, send) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _follow(ray: ModuleType, workers: dict[str, Any]) -> int:
    """Print what the workers write until all have ended, and return an exit status."""
    statuses: list[int] = []
    said: dict[str, None] = {}
    (first, *_), running = workers, dict(workers)
    while running:
        for address, worker in list(running.items()):
            try:
                out, err, status = ray.get(worker.look.remote(_LOOK / len(running)))
            except ray.exceptions.RayError:
                out, err, status = [], [f"{address}: the worker or its node has ended\n"], 1
            sys.stdout.writelines(out if address == first else [])
            sys.stdout.flush()
            sys.stderr.writelines(line for line in dict.fromkeys(err) if line not in said)
            said.update(dict.fromkeys(err))
            if status is not None:
                statuses.append(128 - status if status < 0 else status)  # below 0 is a signal
                del running[address]
    return next((status for status in statuses if status), 0)


class _Worker:
    """The process on a node that starts the training and collects its output."""

    def __init__(self, host: str, folder: str) -> None:
        os.chdir(folder)
        self._host = host
        self._lines: dict[str, queue.SimpleQueue[str]] = {"stdout": queue.SimpleQueue(), "stderr": queue.SimpleQueue()}

    def address(self) -> str:
        """Return an address of the node, HOST:PORT, with a free port."""
        with socket.create_server(("", 0)) as free:
            return f"{self._host}:{free.getsockname()[1]}"

    def start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start the command."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "backslashreplace"}
        inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # set by Ray
        self._process = subprocess.Popen(command, env=inherited | environment, **pipes)
        self._readers = [
            threading.Thread(target=self._read, args=(getattr(self._process, name), lines), daemon=True)
            for name, lines in self._lines.items()
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
        for line in stream:
            lines.put(line)

    def look(self, seconds: float) -> tuple[list[str], list[str], int | None]:
        """Wait for the end, but only so long. Return new lines of both streams, and the exit status or None."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        status = self._process.poll()
        if status is not None:
            for reader in self._readers:
                reader.join()
        out, err = ([lines.get() for _ in range(lines.qsize())] for lines in self._lines.values())
        return out, err, status

    def send(self, number: int) -> None:
        """Send a signal to the command."""
        self._process.send_signal(number)
