import json
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from pyimagesearch import devices
from pyimagesearch.devices import Cluster, find_cluster, get_strategy
from pyimagesearch.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def test_without_a_gpu_the_cpu_is_used_and_said_so(caplog):
    caplog.set_level(logging.INFO)
    assert get_strategy("gpu").num_replicas_in_sync == 1
    assert "CPU" in caplog.text and "number of accelerators: 1" in caplog.text


@pytest.mark.parametrize(("name", "said"), [(None, "no TPU found;"), ("local", "no TPU found with the name local;")])
def test_a_missing_tpu_is_named(name, said):
    with pytest.raises(UserError, match=f"^{said} .* or use GPUs"):
        get_strategy("tpu", name)


def set_tf_config(monkeypatch, cluster, kind="worker", index=0):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "place"),
    [
        ({"worker": ["a:1", "b:2"]}, "worker", 1, 1),
        ({"chief": ["a:1"], "worker": ["b:2"]}, "chief", 0, 0),
        ({"chief": ["a:1"], "worker": ["b:2"]}, "worker", 0, 1),
    ],
)
def test_tf_config_names_the_workers(monkeypatch, cluster, kind, index, place):
    set_tf_config(monkeypatch, cluster, kind, index)
    assert find_cluster() == Cluster(["a:1", "b:2"], place)


def set_slurm(monkeypatch, **variables):
    """Set what srun sets for each task of a step, and see that TF_CONFIG is as before after the test."""
    monkeypatch.setenv("TF_CONFIG", "")
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))


@pytest.mark.parametrize(
    ("nodes", "tasks", "addresses"),
    [
        ("gpu[01-02]", "1(x2)", ["gpu01:20042", "gpu02:20042"]),
        ("gpu[01,03]", "1(x2)", ["gpu01:20042", "gpu03:20042"]),
        ("a,b", "2,1", ["a:20042", "a:20043", "b:20042"]),
    ],
)
def test_the_tasks_of_slurm_are_the_workers(monkeypatch, nodes, tasks, addresses):
    step = {"STEP_NODELIST": nodes, "STEP_TASKS_PER_NODE": tasks, "STEP_NUM_TASKS": len(addresses)}
    set_slurm(monkeypatch, **step, JOB_ID=30042, PROCID=1)
    assert find_cluster() == Cluster(addresses, 1)
    assert json.loads(os.environ["TF_CONFIG"])["task"] == {"type": "worker", "index": 1}


def test_tf_config_wins_over_slurm_and_one_task_is_no_cluster(monkeypatch):
    step = {"STEP_NODELIST": "a", "STEP_TASKS_PER_NODE": "1", "STEP_NUM_TASKS": 1, "PROCID": 0}
    set_slurm(monkeypatch, **step)
    assert find_cluster() is None
    set_slurm(monkeypatch, **step | {"STEP_TASKS_PER_NODE": "2", "STEP_NUM_TASKS": 2})
    set_tf_config(monkeypatch, {"worker": ["a:1", "b:2"]})
    assert find_cluster() == Cluster(["a:1", "b:2"], 0)


@pytest.mark.slow
def test_two_tasks_of_slurm_become_two_replicas(tmp_path):
    base = next(port for port in range(20_100, 30_000, 7) if not devices.answers(f"localhost:{port}"))
    step = {"STEP_NODELIST": "localhost", "STEP_TASKS_PER_NODE": "2", "STEP_NUM_TASKS": "2", "JOB_ID": str(base)}
    code = "from pyimagesearch import cli, devices\n"
    code += "cluster = devices.find_cluster()\n"
    code += "print('replicas', devices.get_strategy('gpu', cluster=cluster, worker_timeout=60).num_replicas_in_sync)"
    tasks = []
    for index in range(2):
        environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        environment |= {f"SLURM_{name}": value for name, value in step.items()} | {"SLURM_PROCID": str(index)}
        command = [sys.executable, "-c", code]
        tasks.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True))
    assert ["replicas 2\n" in task.communicate(timeout=120)[0] for task in tasks] == [True, True]


def test_one_worker_or_none_is_no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert find_cluster() is None
    set_tf_config(monkeypatch, {"worker": ["a:1"]})
    assert find_cluster() is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1", "b:2"]}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:99999"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_tf_config_that_makes_no_sense_is_refused_with_an_example(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="^TF_CONFIG: invalid; example: {"):
        find_cluster()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def test_workers_that_start_one_after_the_other_meet():
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    met = []

    def start(index):
        devices._meet(Cluster(addresses, index), timeout=20)
        met.append(index)
        with socket.create_server(("", int(addresses[index].rpartition(":")[2]))):  # as TensorFlow's server does
            time.sleep(2)

    threads = [threading.Thread(target=start, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    assert sorted(met) == [0, 1, 2]


@pytest.mark.parametrize("host", ["127.0.0.1", "no..host"])
def test_a_worker_that_never_comes_is_named(host):
    here, there = f"127.0.0.1:{free_port()}", f"{host}:{free_port()}"
    with pytest.raises(UserError, match=f"^TF_CONFIG: no worker answers at {there} within 0.5 s; "):
        get_strategy("gpu", cluster=Cluster([here, there], 0), worker_timeout=0.5)


def test_a_worker_that_goes_while_they_connect_ends_the_other_with_a_message(monkeypatch):
    """The other one listens until the first has met it, and then is gone."""
    here, there = free_port(), free_port()
    set_tf_config(monkeypatch, {"worker": [f"127.0.0.1:{here}", f"127.0.0.1:{there}"]})
    start = "from pyimagesearch import cli, devices\n"
    start += "devices.get_strategy('gpu', cluster=devices.find_cluster(), worker_timeout=2)"
    with socket.create_server(("", there)) as listening:
        process = subprocess.Popen([sys.executable, "-c", start], stderr=subprocess.PIPE, text=True, cwd=ROOT)
        listening.accept()[0].close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert f"a worker of 127.0.0.1:{here}, 127.0.0.1:{there} ended during the connection" in err


def test_an_address_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        cluster = Cluster([f"127.0.0.1:{port}", "127.0.0.1:1"], 0)
        with pytest.raises(UserError, match=f"^TF_CONFIG: cannot listen at 127.0.0.1:{port} "):
            get_strategy("gpu", cluster=cluster, worker_timeout=0.5)


def test_the_worker_that_has_gone_is_named():
    port = free_port()
    with socket.create_server(("", 0)) as living:
        cluster = Cluster([f"127.0.0.1:{number}" for number in (1, port, living.getsockname()[1])], 0)
        gone = pytest.raises(UserError, match=f"^the worker at 127.0.0.1:{port} has ended; ")
        with gone, devices.lost_workers_named(cluster):
            raise tf.errors.UnavailableError(None, None, "Graph execution error:\n\nConnection reset by peer")


def test_without_other_workers_such_an_error_is_what_it_is():
    with pytest.raises(tf.errors.UnavailableError), devices.lost_workers_named(None):
        raise tf.errors.UnavailableError(None, None, "gs:// is away")


def test_precision_follows_the_flag_and_else_the_hardware(caplog):
    caplog.set_level(logging.INFO)
    assert devices.choose_precision("float32") == "float32"
    assert devices.choose_precision("bfloat16") == "bfloat16"
    with open("/proc/cpuinfo") as file:
        fast = "avx512_bf16" in (text := file.read()) or "amx_bf16" in text
    assert devices.choose_precision("auto") == ("bfloat16" if fast else "float32")
    assert "precision: " in caplog.text


@pytest.mark.parametrize(
    ("capabilities", "trained", "inferred"),
    [
        ([(8, 0)], "bfloat16", "bfloat16"),
        ([(9, 0), (8, 6)], "bfloat16", "bfloat16"),
        ([(7, 5)], "float16", "float32"),  # a T4
        ([(8, 0), (7, 0)], "float16", "float32"),
        ([(6, 1)], "float32", "float32"),
        ([None], "float32", "float32"),
    ],
)
def test_precision_follows_the_oldest_gpu(monkeypatch, capabilities, trained, inferred):
    details = [{"compute_capability": capability} if capability else {} for capability in capabilities]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: details if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: gpu)
    assert devices.choose_precision("auto", training=True) == trained
    assert devices.choose_precision("auto") == inferred


def gpus_seen_with(device, monkeypatch):
    """Return the GPUs that stay visible on a machine with three GPUs."""
    visible = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU 0", "GPU 1", "GPU 2"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpus, kind: visible.extend(gpus))
    devices.get_strategy(device)
    return visible


def test_one_gpu_or_none_can_be_chosen(monkeypatch):
    assert gpus_seen_with("gpu:1", monkeypatch) == ["GPU 1"]
    assert gpus_seen_with("cpu", monkeypatch) == []
    with pytest.raises(UserError, match="^gpu:3: no such GPU; this machine has 3$"):
        gpus_seen_with("gpu:3", monkeypatch)
