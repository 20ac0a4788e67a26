import importlib.util

import numpy as np
import pytest
from conftest import picture, randomize

from pyimagesearch import runtimes
from pyimagesearch.errors import UserError
from pyimagesearch.generators import split
from pyimagesearch.srgan import SRGAN

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


@needs_openvino
@pytest.mark.parametrize("size", [(1, 1), (12, 17), (9, 5)])
def test_openvino_computes_what_tensorflow_computes(size):
    generator = SRGAN.generator(4, 8, 2)
    randomize(generator)
    lr = picture(*size)[None].astype("float32")
    trunk, head, _, _ = split(generator)
    expected = head(trunk(lr)).numpy()
    for runtime in ("tensorflow", "openvino"):
        one, two = (runtimes.compile_network(network, runtime, "float32") for network in (trunk, head))
        np.testing.assert_allclose(two(one(lr)), expected, atol=0.1)
    assert expected.std() > 5


@needs_openvino
def test_openvino_in_16_bits_is_near():
    generator = SRGAN.generator(4, 8, 2)
    lr = picture(12, 17)[None].astype("float32")
    sr = runtimes.compile_network(generator, "openvino", "bfloat16")(lr)
    assert np.abs(sr - generator(lr)).mean() < 1


@needs_openvino
def test_openvino_is_chosen_on_cpus():
    assert runtimes.choose_runtime("auto") == "openvino"
    assert runtimes.choose_runtime("tensorflow") == "tensorflow"


def test_without_openvino_tensorflow_computes(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert runtimes.choose_runtime("auto") == "tensorflow"
    with pytest.raises(UserError, match="--runtime openvino: it is not installed"):
        runtimes.choose_runtime("openvino")
