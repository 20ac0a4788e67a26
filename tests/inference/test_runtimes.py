import importlib.util
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import random_image, randomize

from pyimagesearch.errors import UserError
from pyimagesearch.inference import runtimes
from pyimagesearch.inference.generators import split
from pyimagesearch.srgan import SRGAN

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


@needs_openvino
@pytest.mark.parametrize("size", [(1, 1), (12, 17), (9, 5)])
def test_openvino_computes_what_tensorflow_computes(size):
    generator = SRGAN.generator(4, 8, 2)
    randomize(generator)
    lr = random_image(*size)[None].astype("float32")
    trunk, head, _, _ = split(generator)
    expected = head(trunk(lr)).numpy()
    for runtime in ("tensorflow", "openvino"):
        one, two = (runtimes.compile_network(network, runtime, "float32") for network in (trunk, head))
        np.testing.assert_allclose(two(one(lr)), expected, atol=0.1)
    assert expected.std() > 5


def test_tensorflow_compiles_once_for_all_sizes():
    traced = []

    class Traced(keras.layers.Layer):
        def call(self, x):
            traced.append(x.shape)
            return x

    image = keras.Input((None, None, 3))
    network = keras.Model(image, Traced()(image))
    traced.clear()
    compute = runtimes.compile_network(network, "tensorflow", "float32")
    for size in ((1, 1), (4, 9), (7, 3)):
        np.testing.assert_array_equal(compute(random_image(*size)[None].astype("float32"))[0], random_image(*size))
    assert traced == [(None, None, None, 3)]


@needs_openvino
def test_openvino_in_16_bits_is_near():
    generator = SRGAN.generator(4, 8, 2)
    lr = random_image(12, 17)[None].astype("float32")
    sr = runtimes.compile_network(generator, "openvino", "bfloat16")(lr)
    assert np.abs(sr - generator(lr)).mean() < 1


@needs_openvino
def test_openvino_sends_no_usage_data():
    runtimes.compile_network(SRGAN.generator(4, 4, 1), "openvino", "float32")
    assert "openvino" in sys.modules
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


SIGNALLED = """
import gc, os, signal
import numpy as np
from pyimagesearch.inference.runtimes import compile_network
from pyimagesearch.srgan import SRGAN

for _ in range(3):
    networks = [compile_network(SRGAN.generator(4, 4, 0), "openvino", "float32") for _ in range(2)]
    for network in networks:
        network(np.zeros((1, 8, 8, 3), np.float32))
    del networks, network
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted in good order")
"""


@needs_openvino
def test_signals_still_reach_a_process_that_has_used_openvino():
    root = pathlib.Path(runtimes.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, cwd=root, timeout=120)
    assert (done.returncode, done.stdout) == (0, "interrupted in good order\n")


SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
from pyimagesearch.inference.runtimes import compile_network
from pyimagesearch.srgan import SRGAN

compute = compile_network(SRGAN.generator(4, 64, 1), "openvino", "float32")
compute(np.zeros((1, 8, 8, 3), np.float32))
(used,) = (int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 10**8, used + 3 * 10**8))
try:
    compute(np.zeros((1, 900, 900, 3), np.float32))
except MemoryError as error:
    print("MemoryError:", error)
"""


@needs_openvino
def test_openvino_without_memory_is_understood():
    root = pathlib.Path(runtimes.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, cwd=root)
    assert "MemoryError: OpenVINO cannot allocate" in done.stdout


@needs_openvino
def test_openvino_is_chosen_on_cpus():
    assert runtimes.choose_runtime("auto") == "openvino"
    assert runtimes.choose_runtime("tensorflow") == "tensorflow"


def test_without_openvino_tensorflow_computes(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert runtimes.choose_runtime("auto") == "tensorflow"
    with pytest.raises(UserError, match="the runtime openvino is not installed"):
        runtimes.choose_runtime("openvino")


THREADS = """
from pyimagesearch.inference import runtimes
runtimes.use_threads(1)
core = runtimes._core()
print(core.get_property("CPU", "INFERENCE_NUM_THREADS"), core.get_property("CPU", "ENABLE_CPU_PINNING"))
"""


@needs_openvino
def test_processes_with_few_threads_do_not_all_compute_on_the_first_cores():
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.split() == ["1", "False"]
