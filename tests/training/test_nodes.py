"""A training on the two nodes of a real Ray cluster on this machine, started by one command."""

import os
import re
import signal
import sys
import time

import pytest
from test_resume import MODELS, Training, records  # noqa: F401  a fixture

from pyimagesearch.training import nodes

ray = pytest.importorskip("ray", reason="needs Ray, which is not installed")
psutil = pytest.importorskip("psutil", reason="needs psutil, which is not installed")


@pytest.fixture(scope="module")
def address():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def trainings(outputs):
    """Return the running processes that write to a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if str(outputs) in command and "--cluster" in command and process.pid != os.getpid():
            found.append(process)
    return found


REPORT = """
import json, os, sys
config = json.loads(os.environ["TF_CONFIG"])
print("worker", config["task"]["index"], "of", len(set(config["cluster"]["worker"])))
print("an error", file=sys.stderr)
sys.exit(3 * config["task"]["index"])
"""


def test_each_node_runs_the_command_as_one_worker_of_the_training(address, capsys):
    ray.cloudpickle.register_pickle_by_value(nodes)
    assert nodes.train(address, [sys.executable, "-c", REPORT]) == 3
    assert capsys.readouterr() == ("worker 0 of 2\n", "an error\n")


@pytest.mark.slow
def test_one_command_trains_on_all_nodes(records, address, tmp_path):  # noqa: F811
    training = Training(records, tmp_path, "--cluster", address, "--pretrain-epochs", 1, "--finetune-epochs", 1)
    assert training.end() == (0, "")
    assert "a worker on each of 2 nodes: " in training.out and training.out.count("number of accelerators: 2") == 1
    assert {path.stem for path in (tmp_path / "models").glob("*.keras")} >= {"pretrained_generator", "generator"}


@pytest.mark.slow
def test_a_signal_stops_all_nodes_after_a_checkpoint_and_the_command_resumes(records, address, tmp_path):  # noqa: F811
    training = Training(records, tmp_path, "--cluster", address)
    assert training.until("stage 1 .*epoch 2 of 6"), training.end()
    training.kill(signal.SIGTERM)
    status, err = training.end()
    assert (status, err) == (128 + signal.SIGTERM, "")
    step = re.search(r"last good checkpoint is .*/step-(\d+);", training.out)[1]

    training = Training(records, tmp_path, "--cluster", address)
    assert training.end() == (0, "")
    assert f"resuming from step {step}:" in training.out and not trainings(tmp_path)
    assert {path.stem for path in (tmp_path / "models").glob("*.keras")} == set(MODELS)


@pytest.mark.slow
def test_a_worker_that_ends_is_named_and_none_stays(records, address, tmp_path):  # noqa: F811
    training = Training(records, tmp_path, "--cluster", address)
    assert training.until("stage 1 .*epoch 2 of 6"), training.end()
    victim = max(trainings(tmp_path), key=lambda process: process.create_time())
    victim.kill()
    status, err = training.end()
    assert status and re.search(r"the worker at \S+:\d+ has ended; start all workers again", err)
    assert not trainings(tmp_path)


@pytest.mark.slow
def test_if_the_command_is_killed_the_workers_end(records, address, tmp_path):  # noqa: F811
    training = Training(records, tmp_path, "--cluster", address)
    assert training.until("stage 1 .*epoch 2 of 6"), training.end()
    training.kill()
    training.end()
    deadline = time.monotonic() + 60
    while trainings(tmp_path) and time.monotonic() < deadline:
        time.sleep(1)
    assert not trainings(tmp_path)


@pytest.mark.slow
def test_settings_are_checked_on_the_nodes_and_told_once(records, address, tmp_path):  # noqa: F811
    training = Training(records, tmp_path, "--cluster", address, "--init-generator", "nowhere.keras")
    status, err = training.end()
    assert status == 2 and err.count("nowhere.keras: no such model") == err.count("\n") == 1
