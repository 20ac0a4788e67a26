"""From the kind of device and TF_CONFIG to a `tf.distribute` strategy, and what the hardware computes well."""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from pyimagesearch.errors import UserError

WORKER_TIMEOUT = 300
"""Seconds that a worker waits for the others to start."""


class Cluster(NamedTuple):
    """The workers of a training on several machines: their addresses, HOST:PORT, and which of them this is."""

    addresses: list[str]
    index: int


def find_cluster() -> Cluster | None:
    """Return the workers that TF_CONFIG names, or None where it names at most one.

    Raises:
        UserError: TF_CONFIG cannot be understood.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        chiefs, workers = list(jobs.get("chief", [])), list(jobs["worker"])
        own = dict(enumerate({"chief": chiefs, "worker": workers}[task["type"]]))[task["index"]]
        cluster = Cluster(chiefs + workers, (chiefs + workers).index(own))
        for address in cluster.addresses:
            _, port = _host_and_port(address)
            if not 0 < port < 65536:
                raise ValueError(f"there is no port {port}")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(
            'TF_CONFIG: not as it should be; example: {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}} ({type(error).__name__}: {error})'
        ) from error
    return cluster if len(cluster.addresses) > 1 else None


def get_strategy(
    device: str, tpu: str | None = None, cluster: Cluster | None = None, worker_timeout: float = WORKER_TIMEOUT
) -> tf.distribute.Strategy:
    """Return the strategy that uses the devices asked for.

    Args:
        device: "gpu" for every visible GPU, or the CPU where there is none; "tpu" for a TPU.
        tpu: the TPU's name, or "local" for the one of this machine.
        cluster: the machines whose GPUs are used together, if not of this machine alone.
        worker_timeout: seconds to wait for the other machines.

    Returns:
        A strategy; `num_replicas_in_sync` is the number of accelerators.

    Raises:
        UserError: no TPU answers, or another machine does not.
    """
    if device == "tpu":
        strategy = _tpu_strategy(tpu)
    elif cluster:
        strategy = _cluster_strategy(cluster, worker_timeout)
    else:
        strategy = _gpu_strategy()
    logging.info("number of accelerators: %d", strategy.num_replicas_in_sync)
    return strategy


def _gpu_strategy() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        logging.info("no GPU is visible: using the CPU")
    if len(gpus) < 2:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])


def _tpu_strategy(tpu: str | None) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, RuntimeError, ImportError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no TPU found{f' by the name of {tpu}' if tpu else ''}; give the name of yours, or use GPUs ({reason})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


# Waits for its standard input to close, or else says why it ends its parent.
_WATCH = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[1]))[0]:
    print(sys.argv[2], file=sys.stderr)
    os.kill(os.getppid(), signal.SIGKILL)
"""


def _cluster_strategy(cluster: Cluster, timeout: float) -> tf.distribute.Strategy:
    logging.info("worker %d of %d: waiting for the others", cluster.index, len(cluster.addresses))
    _meet(cluster, timeout)
    # If a worker goes just now, TensorFlow waits for it without end, and without letting Python run.
    message = f"TF_CONFIG: a worker of {', '.join(cluster.addresses)} went while they were connecting; start them again"
    with subprocess.Popen([sys.executable, "-c", _WATCH, str(timeout), message], stdin=subprocess.PIPE):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which the strategy has made without effect
    return strategy


def _meet(cluster: Cluster, timeout: float) -> None:
    """Wait until every other worker has begun to listen at its address."""
    own_host, own_port = _host_and_port(cluster.addresses[cluster.index])
    deadline = time.monotonic() + timeout
    absent = [address for number, address in enumerate(cluster.addresses) if number != cluster.index]
    try:
        listening = socket.create_server(("", own_port), backlog=len(cluster.addresses))
    except OSError as error:
        raise UserError(f"TF_CONFIG: cannot listen at {own_host}:{own_port} ({error.strerror})") from error
    with listening:
        while absent := _absent(absent):
            if time.monotonic() > deadline:
                raise UserError(
                    f"TF_CONFIG: no worker answers at {', '.join(absent)} within {timeout:g} s; "
                    "start train_srgan.py there, with its own index, or correct the address"
                )
            time.sleep(0.2)


def _absent(addresses: Sequence[str]) -> list[str]:
    return [address for address in addresses if not _answers(address)]


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError, UnicodeError), socket.create_connection(_host_and_port(address), timeout=2):
        return True
    return False


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@contextlib.contextmanager
def lost_workers_named(cluster: Cluster | None) -> Iterator[None]:
    """Turn TensorFlow's complaint about another worker that has gone into one that names it.

    Raises:
        UserError: the block lost the connection to another worker.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError) as error:
        if not cluster:
            raise
        others = [address for number, address in enumerate(cluster.addresses) if number != cluster.index]
        raise UserError(
            f"the worker at {' or '.join(_absent(others) or others)} has gone; "
            "start all workers again with the same commands, to go on from the last checkpoint"
        ) from error


def is_cpu() -> bool:
    """Return whether there is nothing to compute on but the CPU."""
    return not (tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def compiles_well(strategy: tf.distribute.Strategy) -> bool:
    """Return whether XLA makes training faster: on one GPU; on the CPU it makes it slower."""
    return strategy.num_replicas_in_sync == 1 and bool(tf.config.list_logical_devices("GPU"))


def choose_precision(precision: str, training: bool = False) -> str:
    """Return "float32", "bfloat16" or "float16" for one of these or "auto".

    "auto" is bfloat16 on hardware that computes fast in it, or else, for training, float16 on GPUs that do in that.
    """
    if precision != "auto":
        return precision
    capability = _compute_capability()
    if capability >= (8, 0) if capability else _computes_bfloat16():
        precision = "bfloat16"
    else:
        precision = "float16" if training and capability and capability >= (7, 0) else "float32"
    logging.info("precision: %s", precision)
    return precision


def _compute_capability() -> tuple[int, int] | None:
    """Return the least compute capability of all GPUs, if there are any."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return min((detail.get("compute_capability", (0, 0)) for detail in details), default=None)


def _computes_bfloat16() -> bool:
    """Return whether the TPU, or the CPU where there is none, computes fast in bfloat16."""
    if tf.config.list_logical_devices("TPU"):
        return True
    try:
        with open("/proc/cpuinfo") as file:
            features = set(file.read().split())
    except OSError:
        return False
    return bool(features & {"avx512_bf16", "amx_bf16"})
