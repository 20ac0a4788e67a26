"""Trainings in separate processes that are stopped in all ways. They end with the same weights as without a stop."""

import csv
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tiny_training

import create_tfrecords
import train_srgan
from pyimagesearch import config
from pyimagesearch.training import builders

MODELS = ("pretrained_generator", "best_pretrained_generator", "generator", "best_generator")


@pytest.fixture(scope="module")
def records(made_once):
    def make(folder):
        assert create_tfrecords.main(["--sample", "--preset", "demo", "--records", str(folder)]) == 0

    return made_once("records", make)[0]


def arguments(records, outputs, *flags):
    command = ["--device", "gpu", "--preset", "demo", "--records", records, "--outputs", outputs]
    return [str(argument) for argument in (*command, "--vgg-weights", "random", *flags)]


def train_here(records, outputs, *flags, optimizer=builders.Adam):
    """Train in this process, which need not start TensorFlow; return the status.

    The weights can differ by rounding from those of a new process, because names of layers, which order sums, differ.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "demo", tiny_training.PRESET)
        patch.setattr(builders, "Adam", optimizer)
        return train_srgan.main(arguments(records, outputs, *flags))


class Training:
    """A training in a separate process."""

    def __init__(self, records, outputs, *flags, **environment):
        self.process = subprocess.Popen(
            [sys.executable, tiny_training.__file__, *arguments(records, outputs, *flags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.out = ""
        self.limit = threading.Timer(240, self.process.kill)
        self.limit.start()

    def until(self, pattern):
        """Read the output up to a line with `pattern`. Return False if the process ends before."""
        for line in self.process.stdout:
            self.out += line
            if re.search(pattern, line):
                return True
        return False

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def end(self):
        """Return its status and standard error."""
        out, err = self.process.communicate()
        self.limit.cancel()
        self.out += out
        return self.process.returncode, err


def weights(outputs, names=MODELS):
    return {name: keras.models.load_model(outputs / "models" / f"{name}.keras").get_weights() for name in names}


def history(outputs):
    with open(outputs / "history.csv") as file:
        return [
            {name: cell for name, cell in row.items() if name != "images_per_second"} for row in csv.DictReader(file)
        ]


def assert_same_weights(outputs, expected):
    for name, arrays in weights(expected).items():
        for one, other in zip(arrays, weights(outputs)[name], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def undisturbed(records, made_once, tmp_path_factory):
    def make(folder):
        assert Training(records, folder).end() == (0, "")

    outputs = tmp_path_factory.mktemp("undisturbed")
    return shutil.copytree(made_once("undisturbed", make)[0], outputs, dirs_exist_ok=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_training_stopped_by_a_signal_and_later_killed_ends_with_the_same_weights(
    records, undisturbed, tmp_path, number
):
    training = Training(records, tmp_path, "--checkpoint-every", 100)
    assert training.until("stage 1 .*epoch 1 of 6")
    training.kill(number)
    assert training.end() == (128 + number, "")
    said = rf"stopped by {number.name}\. The last good checkpoint is .*/pretrain/step-(\d+);"
    step = int(re.search(said, training.out)[1])

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    training = Training(records, tmp_path, TMPDIR=str(temporary))
    assert training.until("stage 2 .*epoch 3 of 6")
    training.kill()
    assert training.end()[0] == -signal.SIGKILL
    assert not list(temporary.iterdir())
    assert f"resuming from step {step}: " in training.out

    training = Training(records, tmp_path)
    assert training.end() == (0, "")
    assert "resuming from step" in training.out
    assert_same_weights(tmp_path, undisturbed)
    cut = ("pretrain", str(-(-step // 3)))  # of this epoch, the last steps alone are in the table
    rows = [
        [row for row in history(outputs) if (row["stage"], row["epoch"]) != cut] for outputs in (tmp_path, undisturbed)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 11


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_training_killed_in_both_stages_ends_with_the_same_weights(records, undisturbed, tmp_path, seed):
    rng = random.Random(seed)
    for stage in ("stage 1", "stage 2"):
        training = Training(records, tmp_path)
        assert training.until(f"{stage}.*epoch {rng.randint(2, 6)} of 6")
        time.sleep(rng.uniform(0, 0.3))
        training.kill()
        assert training.end()[0] == -signal.SIGKILL
    training = Training(records, tmp_path)
    assert training.end() == (0, "")
    assert "resuming from step" in training.out
    assert_same_weights(tmp_path, undisturbed)
    assert history(tmp_path) == history(undisturbed)


@pytest.mark.slow
def test_a_training_on_degraded_photographs_that_was_killed_ends_with_the_same_weights(records, tmp_path):
    flags = ("--degradation", "photo")
    assert Training(records, tmp_path / "undisturbed", *flags).end() == (0, "")
    training = Training(records, tmp_path / "killed", *flags)
    assert training.until("stage 2 .*epoch 3 of 6")
    training.kill()
    training.end()
    training = Training(records, tmp_path / "killed", *flags)
    assert training.end() == (0, "") and "resuming from step" in training.out
    assert_same_weights(tmp_path / "killed", tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_training_killed_while_it_writes_a_checkpoint_ends_with_the_same_weights(
    records, undisturbed, tmp_path, stage
):
    folder = tmp_path / "checkpoints" / stage
    caught = 0
    for step in (6, 12, 18):
        training = Training(records, tmp_path)
        while training.process.poll() is None and not list(folder.glob(f"step-{step}*")):
            pass
        training.kill()
        training.end()
        caught += not (folder / f"step-{step}.index").exists()
    assert caught  # a write that had begun and not ended
    assert Training(records, tmp_path).end() == (0, "")
    assert_same_weights(tmp_path, undisturbed)
    assert history(tmp_path) == history(undisturbed)


def test_a_finished_training_is_left_alone_and_other_settings_are_refused(records, undisturbed, capsys):
    before = weights(undisturbed), history(undisturbed)
    assert train_here(records, undisturbed) == 0
    assert "all 6 epochs of this stage are done; start over" in capsys.readouterr().out
    assert train_here(records, undisturbed, "--seed", 1, "--precision", "float32", "--no-bn") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "batch_norm True, now False" in err and "seed 42, now 1" in err and "start over" in err
    for name, arrays in weights(undisturbed).items():
        for one, other in zip(arrays, before[0][name], strict=True):
            np.testing.assert_array_equal(one, other)
    assert history(undisturbed) == before[1]


def test_a_training_that_diverges_stops_with_the_step_and_what_to_try(records, tmp_path, capsys):
    assert train_here(records, tmp_path, "--pretrain-lr", 1e30, "--precision", "float32") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(r"step \d+: .* is (nan|inf|not finite)\. There is no checkpoint yet\. Start over in another", err)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def cluster_of_two(ports):
    workers = [f"127.0.0.1:{port}" for port in ports]
    tasks = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}} for index in range(2)]
    return [json.dumps(task) for task in tasks]


def start_workers(records, outputs, ports, *flags, **environment):
    return [Training(records, outputs, *flags, TF_CONFIG=task, **environment) for task in cluster_of_two(ports)]


# So that a stage moves biases, which begin at zero, by about 1e-3.
SGD_FLAGS = ("--precision", "float32", "--pretrain-lr", 1e-6, "--finetune-lr", 1e-4)


@pytest.fixture(scope="module")
def trained_by_sgd(records, made_once):
    def make(folder):
        assert train_here(records, folder, *SGD_FLAGS, "--batch-size", 4, optimizer=tiny_training.SGD) == 0

    return made_once("trained_by_sgd", make)[0]


def assert_same_but_for_rounding(outputs, expected, names=MODELS):
    for name, arrays in weights(expected, names).items():
        for one, other in zip(arrays, weights(outputs, names)[name], strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_two_workers_train_as_one_with_the_double_batch_even_if_one_is_killed(
    records, trained_by_sgd, tmp_path, victim
):
    ports = free_ports(2)
    workers = start_workers(records, tmp_path, ports, *SGD_FLAGS, OPTIMIZER="SGD")
    survivor = workers[1 - victim]
    assert survivor.until("stage 1 .*epoch 3 of 6")
    workers[victim].kill()
    status, err = survivor.end()
    assert status == 2 and err.count("\n") == 1
    assert f"the worker at 127.0.0.1:{ports[victim]} has ended; start all workers again" in err
    workers[victim].end()

    workers = start_workers(records, tmp_path, ports, *SGD_FLAGS, OPTIMIZER="SGD")
    assert [worker.end() for worker in workers] == [(0, ""), (0, "")]
    for worker in workers:
        assert "number of accelerators: 2" in worker.out and "resuming from step 6" in worker.out
    fingerprints = [re.findall(r"weights [0-9a-f]{8}", worker.out) for worker in workers]
    assert fingerprints[0] == fingerprints[1] and len(set(fingerprints[0])) == 2
    assert_same_but_for_rounding(tmp_path, trained_by_sgd)


@pytest.mark.slow
def test_several_workers_end_together_at_a_signal_to_one_and_resume_together(records, tmp_path):
    ports = free_ports(2)
    workers = start_workers(records, tmp_path, ports)
    assert workers[0].until("stage 1 .*epoch 2 of 6")
    workers[1].kill(signal.SIGTERM)
    assert [worker.end() for worker in workers] == [(128 + signal.SIGTERM, "")] * 2
    steps = [re.search(r"last good checkpoint is .*/step-(\d+);", worker.out)[1] for worker in workers]
    assert steps[0] == steps[1]
    workers = start_workers(records, tmp_path, ports)
    assert [worker.end() for worker in workers] == [(0, "")] * 2
    assert f"resuming from step {steps[0]}:" in workers[1].out


@pytest.mark.slow
def test_workers_with_different_settings_are_refused(records, tmp_path):
    tasks = cluster_of_two(free_ports(2))
    workers = [Training(records, tmp_path, "--seed", seed, TF_CONFIG=task) for seed, task in enumerate(tasks)]
    for status, err in [worker.end() for worker in workers]:
        said = "TF_CONFIG: the workers have different settings or records; give all of them the same\n"
        assert status == 2 and err.endswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_start_is_refused_before_anything_is_removed_if_it_cannot_work(records, undisturbed, capsys):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    assert train_here(records, undisturbed, "--fresh", "--init-generator", "nowhere.keras") == 2
    assert "nowhere.keras: no such model" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


def test_the_second_stage_can_start_from_a_given_generator(records, trained_by_sgd, tmp_path, capsys):
    given = trained_by_sgd / "models" / "pretrained_generator.keras"
    flags = (*SGD_FLAGS, "--batch-size", 4, "--init-generator", given)
    assert train_here(records, tmp_path, *flags, optimizer=tiny_training.SGD) == 0
    assert "stage 1" not in capsys.readouterr().out
    assert_same_but_for_rounding(tmp_path, trained_by_sgd, ["generator", "best_generator"])
