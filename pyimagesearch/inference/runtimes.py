"""Runtimes that compute a network: TensorFlow, or OpenVINO, which is faster on CPUs."""

import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import devices
from pyimagesearch.errors import UserError

Network = Callable[[np.ndarray], np.ndarray]
"""A function from [1, h, w, C] to [1, h', w', C'], with the dtypes of the network."""


def choose_runtime(runtime: str) -> str:
    """Resolve the runtime "auto".

    Args:
        runtime: "tensorflow", "openvino" or "auto", which is OpenVINO on CPUs if it is installed.

    Returns:
        "tensorflow" or "openvino".

    Raises:
        UserError: OpenVINO was chosen but is not installed.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and not installed:
        raise UserError("the runtime openvino is not installed; run pip install -r requirements-openvino.txt")
    if runtime != "auto":
        return runtime
    return "openvino" if installed and devices.is_cpu() else "tensorflow"


def describe(runtime: str, precision: str) -> str:
    """Return a description of the runtime, the precision and the device."""
    gpus = tf.config.get_visible_devices("GPU") if runtime == "tensorflow" else []
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "a GPU") for gpu in gpus[:1]]
    return f"{runtime}, {precision}, {names[0] if names else f'{os.cpu_count()} CPU cores'}"


def use_threads(count: int) -> None:
    """Compute with so many threads in this process. It must be called before anything is computed.

    Args:
        count: the number of threads. Results do not depend on it.
    """
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)
    cv2.setNumThreads(count)
    if importlib.util.find_spec("openvino"):
        # Pinned threads of several processes would share the first cores.
        _core().set_property("CPU", {"INFERENCE_NUM_THREADS": count, "ENABLE_CPU_PINNING": False})


_thread = threading.local()


def count_devices(runtime: str) -> int:
    """Return the number of devices: all GPUs of the current strategy, otherwise 1."""
    return len(_mirrored_devices()) if runtime == "tensorflow" else 1


def threads(devices: int) -> ThreadPoolExecutor:
    """Return a pool with one thread for each device. Each thread computes networks on its own device."""
    numbers = iter(range(devices))
    return ThreadPoolExecutor(devices, initializer=lambda: setattr(_thread, "device", next(numbers)))


def _mirrored_devices() -> list[str | None]:
    """Return the devices of the current strategy. None means that TensorFlow chooses the device."""
    strategy = tf.distribute.get_strategy()
    return list(strategy.extended.worker_devices) if isinstance(strategy, tf.distribute.MirroredStrategy) else [None]


def compile_network(network: keras.Model, runtime: str, precision: str) -> Network:
    """Return a network as a function of images or features of any size, which several threads can call in parallel.

    Args:
        network: a model from [B, h, w, C].
        runtime: "tensorflow", on the current strategy, or "openvino", on the CPU.
        precision: "float32" or "bfloat16", for OpenVINO. TensorFlow uses the dtype policies of the layers.
    """
    return _openvino(network, precision) if runtime == "openvino" else _tensorflow(network)


def _tensorflow(network: keras.Model) -> Network:
    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return _on_tpu(network)
    on_devices = [_on_device(network, device) for device in _mirrored_devices()]
    return lambda x: on_devices[getattr(_thread, "device", 0)](x)


def _on_device(network: keras.Model, device: str | None) -> Network:
    """Compile a network for images of any size, on one device."""
    any_size = tf.TensorSpec((None, None, None, network.input.shape[-1]), network.input.dtype)

    @tf.function(input_signature=[any_size], autograph=False)
    def compute(x: tf.Tensor) -> tf.Tensor:
        with tf.device(device):
            return network(x)

    compiled = compute.get_concrete_function()  # the strategy is set in this thread only
    return lambda x: compiled(tf.constant(x)).numpy()


def _on_tpu(network: keras.Model) -> Network:
    """Compile a network for each size of images. All TPU cores compute the same."""
    strategy = tf.distribute.get_strategy()

    @tf.function(autograph=False)
    def compute(x: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(network, args=(x,)))[0]

    return lambda x: compute(tf.constant(x)).numpy()


def _import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which sends usage data and starts a process for each message."""
    sys.modules["openvino_telemetry"] = None  # as if it were not installed
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    """Return the core of OpenVINO. It is created once, because its deletion removes the stack of signal handlers."""
    return _import_openvino().Core()


def _openvino(network: keras.Model, precision: str) -> Network:
    signature = [tf.TensorSpec((1, None, None, network.input.shape[-1]), tf.float32)]
    function = tf.function(lambda x: network(x, training=False), input_signature=signature, autograph=False)
    # The network may be deleted before the model, so the model has weights of its own.
    model = _import_openvino().convert_model(function, share_weights=False)
    hint: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
    compiled = _core().compile_model(model, "CPU", hint)

    def compute(x: np.ndarray) -> np.ndarray:
        try:
            return compiled(x, share_inputs=True, share_outputs=True)[0]  # valid until the next call
        except RuntimeError as error:
            if "Failed to allocate" in str(error):
                raise MemoryError("OpenVINO cannot allocate memory") from error
            raise

    return compute
