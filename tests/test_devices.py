import logging

import pytest

from pyimagesearch.devices import get_strategy
from pyimagesearch.errors import UserError


def test_without_a_gpu_the_cpu_is_used_and_said_so(caplog):
    caplog.set_level(logging.INFO)
    assert get_strategy("gpu").num_replicas_in_sync == 1
    assert "CPU" in caplog.text and "number of accelerators: 1" in caplog.text


@pytest.mark.parametrize(("name", "flag"), [(None, "--device tpu: "), ("local", "--tpu local: ")])
def test_without_a_tpu_the_flag_is_named(name, flag):
    with pytest.raises(UserError, match=f"^{flag}no TPU found.*--device gpu"):
        get_strategy("tpu", name)
