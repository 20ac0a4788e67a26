"""Trainings that are stopped in every way, as processes of their own, and end as if nothing had happened."""

import csv
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

TINY = pathlib.Path(__file__).parent / "tiny_training.py"
MODELS = ("pretrained_generator", "best_pretrained_generator", "generator", "best_generator")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    import create_tfrecords

    folder = tmp_path_factory.mktemp("records") / "tfrecord"
    assert create_tfrecords.main(["--sample", "--preset", "demo", "--records", str(folder)]) == 0
    return folder


class Training:
    """A training in a process of its own."""

    def __init__(self, records, outputs, *flags, **environment):
        command = [TINY, "--device", "gpu", "--preset", "demo", "--records", records, "--outputs", outputs]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command), "--vgg-weights", "random", *map(str, flags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.out = ""
        self.limit = threading.Timer(240, self.process.kill)
        self.limit.start()

    def until(self, pattern):
        """Read what it says up to a line with `pattern`; False if it ends before."""
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


def weights(outputs):
    return {name: keras.models.load_model(outputs / "models" / f"{name}.keras").get_weights() for name in MODELS}


def history(outputs):
    with open(outputs / "history.csv") as file:
        return [
            {name: cell for name, cell in row.items() if name != "images_per_second"} for row in csv.DictReader(file)
        ]


def assert_same(outputs, expected):
    for name, arrays in weights(expected).items():
        for one, other in zip(arrays, weights(outputs)[name], strict=True):
            np.testing.assert_array_equal(one, other)
    assert history(outputs) == history(expected)


@pytest.fixture(scope="module")
def undisturbed(records, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("undisturbed")
    assert Training(records, outputs).end() == (0, "")
    return outputs


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
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
    assert "going on from step" in training.out
    assert_same(tmp_path, undisturbed)


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
    assert_same(tmp_path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_a_training_in_good_order(records, undisturbed, tmp_path, number):
    training = Training(records, tmp_path, "--checkpoint-every", 100)
    assert training.until("stage 1 .*epoch 1 of 6")
    training.kill(number)
    assert training.end() == (128 + number, "")
    step = re.search(rf"stopped by {number.name}\. The last good checkpoint is .*/pretrain/step-(\d+);", training.out)[
        1
    ]
    training = Training(records, tmp_path)
    assert training.end() == (0, "")
    assert f"going on from step {step}: " in training.out
    for name, arrays in weights(undisturbed).items():
        for one, other in zip(arrays, weights(tmp_path)[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_finished_training_is_left_alone_and_other_settings_are_refused(records, undisturbed):
    before = history(undisturbed)
    again = Training(records, undisturbed)
    assert again.end() == (0, "") and "all of its 6 epochs are done; --fresh starts over" in again.out
    status, err = Training(records, undisturbed, "--seed", 1, "--precision", "float32", "--no-bn").end()
    assert status == 2 and err.count("\n") == 1
    assert "batch_norm True, now False" in err and "seed 42, now 1" in err and "--fresh" in err
    assert history(undisturbed) == before


def test_a_training_that_diverges_stops_with_the_step_and_what_to_try(records, tmp_path):
    training = Training(records, tmp_path, "--pretrain-lr", 1e30, "--precision", "float32")
    status, err = training.end()
    assert status == 2 and err.count("\n") == 1
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


def start_workers(records, outputs, ports, *flags):
    return [Training(records, outputs, *flags, TF_CONFIG=task) for task in cluster_of_two(ports)]


def weights_that_count(outputs):
    """All but biases before batch normalization, which takes them away again: they drift by rounding errors alone."""
    for name in MODELS:
        generator = keras.models.load_model(outputs / "models" / f"{name}.keras")
        for layer, after in zip(generator.layers, [*generator.layers[1:], None], strict=True):
            if isinstance(layer, keras.layers.BatchNormalization):
                yield from (layer.gamma, layer.beta, layer.moving_variance)
            elif isinstance(after, keras.layers.BatchNormalization):
                yield layer.kernel
            else:
                yield from layer.weights


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_two_workers_train_as_one_with_the_double_batch_even_if_one_is_killed(records, tmp_path, victim):
    flags = ("--precision", "float32")
    ports, outputs = free_ports(2), tmp_path / "two"
    workers = start_workers(records, outputs, ports, *flags)
    survivor = workers[1 - victim]
    assert survivor.until("stage 1 .*epoch 3 of 6")
    workers[victim].kill()
    status, err = survivor.end()
    assert status == 2 and err.count("\n") == 1
    assert f"the worker at 127.0.0.1:{ports[victim]} has gone; start all workers again" in err
    workers[victim].end()

    workers = start_workers(records, outputs, ports, *flags)
    assert [worker.end() for worker in workers] == [(0, ""), (0, "")]
    for worker in workers:
        assert "number of accelerators: 2" in worker.out and "going on from step 6" in worker.out
    fingerprints = [re.findall(r"weights [0-9a-f]{8}", worker.out) for worker in workers]
    assert fingerprints[0] == fingerprints[1] and len(set(fingerprints[0])) == 2

    one = Training(records, tmp_path / "one", *flags, "--batch-size", 4)
    assert one.end() == (0, "")
    both = zip(weights_that_count(outputs), weights_that_count(tmp_path / "one"), strict=True)
    for two_workers, one_worker in both:
        np.testing.assert_allclose(two_workers.numpy(), one_worker.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_several_workers_end_together_at_a_signal_to_one_and_go_on_together(records, tmp_path):
    ports = free_ports(2)
    workers = start_workers(records, tmp_path, ports)
    assert workers[0].until("stage 1 .*epoch 2 of 6")
    workers[1].kill(signal.SIGTERM)
    assert [worker.end() for worker in workers] == [(128 + signal.SIGTERM, "")] * 2
    steps = [re.search(r"last good checkpoint is .*/step-(\d+);", worker.out)[1] for worker in workers]
    assert steps[0] == steps[1]
    workers = start_workers(records, tmp_path, ports)
    assert [worker.end() for worker in workers] == [(0, "")] * 2
    assert f"going on from step {steps[0]}:" in workers[1].out


@pytest.mark.slow
def test_workers_that_were_told_different_things_are_refused(records, tmp_path):
    tasks = cluster_of_two(free_ports(2))
    workers = [Training(records, tmp_path, "--seed", seed, TF_CONFIG=task) for seed, task in enumerate(tasks)]
    for status, err in [worker.end() for worker in workers]:
        assert status == 2 and err.endswith("TF_CONFIG: the workers have other flags or records; give all the same\n")
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_start_is_refused_before_anything_is_removed_if_it_cannot_work(records, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    status, err = Training(records, undisturbed, "--fresh", "--init-generator", "nowhere.keras").end()
    assert status == 2 and "nowhere.keras: no such model" in err
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


def test_the_second_stage_can_start_from_a_given_generator(records, undisturbed, tmp_path):
    given = undisturbed / "models" / "pretrained_generator.keras"
    training = Training(records, tmp_path, "--init-generator", given)
    assert training.end() == (0, "") and "stage 1" not in training.out
    found, expected = (
        keras.models.load_model(outputs / "models" / "generator.keras").get_weights()
        for outputs in (tmp_path, undisturbed)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=5e-4)  # sums are ordered by layers' numbers
