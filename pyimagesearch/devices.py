"""Choose a `tf.distribute` strategy for the device and TF_CONFIG, and the precision for the hardware."""

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

_SLURM_PORTS = 20_000  # the first port of the workers of a job of Slurm, which adds a part of its number

WORKER_TIMEOUT = 300
"""The seconds that a worker waits for the other workers to start."""


class Cluster(NamedTuple):
    """The workers of a training on several machines.

    Attributes:
        addresses: the addresses of all workers, HOST:PORT.
        index: the index of this worker in `addresses`.
    """

    addresses: list[str]
    index: int


def find_cluster() -> Cluster | None:
    """Return the workers in TF_CONFIG, or None if there are fewer than two.

    Without TF_CONFIG, the tasks of a step of Slurm are the workers, and TF_CONFIG is set accordingly.

    Raises:
        UserError: TF_CONFIG is invalid.
    """
    if not os.environ.get("TF_CONFIG") and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        os.environ["TF_CONFIG"] = _slurm_config()
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
            'TF_CONFIG: invalid; example: {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}} ({type(error).__name__}: {error})'
        ) from error
    return cluster if len(cluster.addresses) > 1 else None


def _slurm_config() -> str:
    """Return TF_CONFIG for the tasks that srun has started. Jobs on the same machine have different ports."""
    port = _SLURM_PORTS + int(os.environ.get("SLURM_JOB_ID", 0)) % 10_000
    tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    )  # Slurm itself gives each task its GPUs; the numbers only keep the resolver from asking nvidia-smi
    cluster = resolver.cluster_spec().as_dict()
    kind, index = resolver.get_task_info()
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def get_strategy(
    device: str, tpu: str | None = None, cluster: Cluster | None = None, worker_timeout: float = WORKER_TIMEOUT
) -> tf.distribute.Strategy:
    """Return the distribution strategy for the chosen devices.

    Args:
        device: "gpu" for all visible GPUs, or the CPU if there are none; "gpu:N" for GPU number N, counted from 0;
            "cpu"; "tpu" for a TPU.
        tpu: the name of the TPU, or "local" for the TPU of this machine.
        cluster: the workers, if there are several machines.
        worker_timeout: seconds to wait for the other workers.

    Returns:
        A strategy. Its `num_replicas_in_sync` is the number of accelerators.

    Raises:
        UserError: the GPU does not exist, or the TPU or another worker does not answer.
    """
    if device not in ("gpu", "tpu"):
        _hide_gpus(device)
    if device == "tpu":
        strategy = _tpu_strategy(tpu)
    elif cluster:
        strategy = _cluster_strategy(cluster, worker_timeout)
    else:
        strategy = _gpu_strategy()
    logging.info("number of accelerators: %d", strategy.num_replicas_in_sync)
    return strategy


def _hide_gpus(device: str) -> None:
    """Hide all GPUs from TensorFlow, or for "gpu:N" all except one."""
    gpus = tf.config.list_physical_devices("GPU")
    _, _, number = device.partition(":")
    if number and int(number) >= len(gpus):
        raise UserError(f"{device}: no such GPU; this machine has {len(gpus)}")
    tf.config.set_visible_devices(gpus[int(number) : int(number) + 1] if number else [], "GPU")


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
            f"no TPU found{f' with the name {tpu}' if tpu else ''}; give the name of your TPU, or use GPUs ({reason})"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


# A program that waits until its standard input is closed. After the timeout, it ends its parent process with a message.
_WATCH = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[1]))[0]:
    print(sys.argv[2], file=sys.stderr)
    os.kill(os.getppid(), signal.SIGKILL)
"""


def _cluster_strategy(cluster: Cluster, timeout: float) -> tf.distribute.Strategy:
    logging.info("worker %d of %d: waiting for the others", cluster.index, len(cluster.addresses))
    _meet(cluster, timeout)
    # If a worker ends during the connection, TensorFlow waits forever and blocks Python. A watch process ends it.
    message = (
        f"TF_CONFIG: a worker of {', '.join(cluster.addresses)} ended during the connection; start all workers again"
    )
    with subprocess.Popen([sys.executable, "-c", _WATCH, str(timeout), message], stdin=subprocess.PIPE):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the strategy disables this signal
    return strategy


def _meet(cluster: Cluster, timeout: float) -> None:
    """Wait until every other worker listens at its address."""
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
                    "start train_srgan.py there with the index of that worker, or correct the address"
                )
            time.sleep(0.2)


def _absent(addresses: Sequence[str]) -> list[str]:
    return [address for address in addresses if not answers(address)]


def answers(address: str) -> bool:
    """Return whether a program listens at an address, HOST:PORT."""
    with contextlib.suppress(OSError, UnicodeError, ValueError):
        socket.create_connection(_host_and_port(address), timeout=2).close()
        return True
    return False


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@contextlib.contextmanager
def lost_workers_named(cluster: Cluster | None) -> Iterator[None]:
    """Turn TensorFlow's error for a lost worker into an error that names the worker.

    Args:
        cluster: the workers, or None for a training on one machine.

    Raises:
        UserError: the connection to another worker was lost in the block.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError) as error:
        if not cluster:
            raise
        others = [address for number, address in enumerate(cluster.addresses) if number != cluster.index]
        raise UserError(
            f"the worker at {' or '.join(_absent(others) or others)} has ended; "
            "start all workers again with the same commands to resume from the last checkpoint"
        ) from error


def is_cpu() -> bool:
    """Return whether there is neither a GPU nor a TPU."""
    return not (tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def compiles_well(strategy: tf.distribute.Strategy) -> bool:
    """Return whether XLA makes training faster. This is so on one GPU; on the CPU training becomes slower.

    Args:
        strategy: the strategy of the training.
    """
    return strategy.num_replicas_in_sync == 1 and bool(tf.config.list_logical_devices("GPU"))


def choose_precision(precision: str, training: bool = False) -> str:
    """Return the precision of the computation.

    Args:
        precision: "float32", "bfloat16", "float16" or "auto". "auto" is bfloat16 on hardware where that is fast. For
            training it is float16 on GPUs where only that is fast.
        training: whether the precision is for training.

    Returns:
        "float32", "bfloat16" or "float16".
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
    """Return the smallest compute capability of all GPUs, or None without GPUs."""
    gpus = tf.config.get_visible_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return min((detail.get("compute_capability", (0, 0)) for detail in details), default=None)


def _computes_bfloat16() -> bool:
    """Return whether bfloat16 is fast on the TPU, or without a TPU on the CPU."""
    if tf.config.list_logical_devices("TPU"):
        return True
    try:
        with open("/proc/cpuinfo") as file:
            features = set(file.read().split())
    except OSError:
        return False
    return bool(features & {"avx512_bf16", "amx_bf16"})
