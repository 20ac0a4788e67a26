import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch.errors import StoppedError, UserError
from pyimagesearch.training import loop
from pyimagesearch.training.checkpoints import Checkpoints


class Counter(keras.Model):
    """Its loss is the step, from 1; its only weight is the sum of all that it has been fed."""

    def __init__(self, infinite_at=None, heavy_at=None):
        super().__init__()
        self.total = self.add_weight(shape=(), initializer="zeros", aggregation="mean")
        self.g_optimizer = keras.optimizers.SGD(0.0)
        self.g_optimizer.build([self.total])
        self.infinite_at = infinite_at
        self.heavy_at = heavy_at

    @property
    def networks(self):
        return [self]

    @property
    def state(self):
        return {"total": self.total.value, "g_optimizer": self.g_optimizer}

    def train_step(self, data):
        self.g_optimizer.iterations.assign_add(1)
        step = tf.cast(self.g_optimizer.iterations.value, tf.float32)
        self.total.assign_add(tf.reduce_mean(data) if self.heavy_at is None else step / (self.heavy_at - step))
        return {"loss": step if self.infinite_at is None else step / (self.infinite_at - step)}


def number_batches(first_batch, worker, workers):
    """The batch's number, three times."""
    return tf.data.Dataset.range(first_batch, 10**6).map(lambda number: tf.fill((3,), tf.cast(number, tf.float32)))


def fit(model, folder, epochs=2, steps=3, **options):
    phases = options.pop("phases", [(0, number_batches)])
    loop.fit(model, phases, epochs, steps, Checkpoints(str(folder), model), **options)
    return float(model.total.numpy())


def on_batch_end(act):
    return [keras.callbacks.LambdaCallback(on_train_batch_end=act)]


def test_each_epoch_reports_the_mean_of_its_steps(tmp_path):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])))
    fit(Counter(), tmp_path, callbacks=[callback])
    assert seen == [(0, 2), (1, 5)]


def test_callbacks_are_called_at_every_step_with_the_latest_means(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "STEPS_IN_FLIGHT", 2)
    seen = []
    fit(Counter(), tmp_path, 1, 5, callbacks=on_batch_end(lambda step, logs: seen.append((step, logs.get("loss")))))
    assert seen == [(0, None), (1, 1.5), (2, 1.5), (3, 2.5), (4, 3)]


@pytest.mark.parametrize("stop_at", [1, 3, 4])  # within an epoch, at the end of the first, within the second
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_from_which_the_stream_resumes(tmp_path, stop_at, number):
    def act(step, logs):
        if int(model.g_optimizer.iterations.numpy()) == stop_at:
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    model = Counter()
    with pytest.raises(StoppedError, match=f"step-{stop_at}") as stopped:
        fit(model, tmp_path, callbacks=on_batch_end(act))
    assert stopped.value.signal == number
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert float(model.total.numpy()) == sum(range(stop_at))
    assert fit(Counter(), tmp_path) == sum(range(6))


def test_a_signal_at_the_end_of_an_epoch_waits_for_its_callbacks(tmp_path):
    ended = []

    def act(step, logs):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ended.append(epoch))
    with pytest.raises(StoppedError):
        fit(Counter(), tmp_path, callbacks=[*on_batch_end(act), look])
    assert ended == [0]


def test_a_signal_during_the_last_epochs_callbacks_is_not_lost(tmp_path):
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(StoppedError, match="step-3"):
        fit(Counter(), tmp_path, epochs=1, callbacks=[look])


def test_checkpoints_come_every_few_epochs_and_at_the_end(tmp_path):
    model = Counter()
    fit(model, tmp_path, epochs=5, checkpoint_every=2)
    assert [os.path.basename(path) for path in Checkpoints(str(tmp_path), model).found()] == [
        "step-15",
        "step-12",
        "step-6",
    ]


def test_a_finished_stage_is_unchanged_and_a_longer_one_resumes(tmp_path):
    fit(Counter(), tmp_path)
    seen = []
    assert fit(Counter(), tmp_path, callbacks=on_batch_end(lambda step, logs: seen.append(step))) == sum(range(6))
    assert seen == []
    assert fit(Counter(), tmp_path, epochs=3) == sum(range(9))


def test_an_infinite_loss_stops_the_run_with_the_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"step 5: loss is inf\..*step-3\. Start over in another folder"):
        fit(Counter(infinite_at=5), tmp_path)
    assert [path.name for path in tmp_path.glob("*.index")] == ["step-3.index"]


def test_an_infinite_weight_is_not_saved(tmp_path):
    with pytest.raises(UserError, match=r"step 6: a weight is not finite\..*step-3"):
        fit(Counter(heavy_at=6), tmp_path)
    assert [path.name for path in tmp_path.glob("*.index")] == ["step-3.index"]


def test_a_vanished_shard_costs_no_step(tmp_path):
    def batches(first_batch, worker, workers):
        whole = number_batches(first_batch, worker, workers).take(4)
        return whole.concatenate(tf.data.TFRecordDataset("gone").map(lambda record: tf.zeros((3,))))

    model = Counter()
    with pytest.raises(tf.errors.NotFoundError, match="gone"):
        loop.fit(model, [(0, batches)], 2, 3, Checkpoints(str(tmp_path), model))
    assert fit(Counter(), tmp_path) == sum(range(6))
    assert {path.name for path in tmp_path.glob("*.index")} == {"step-3.index", "step-4.index", "step-6.index"}


def test_two_replicas_get_batches_of_their_own(tmp_path, two_replicas):
    with two_replicas.scope():
        model = Counter()
        fit(model, tmp_path, 1, 3)
    np.testing.assert_allclose(model.total.numpy(), np.mean(range(6)) * 3)


def ones(first_batch, worker, workers):
    return tf.data.Dataset.from_tensors(tf.ones((5,))).repeat()


def test_each_phase_brings_batches_of_its_own_from_its_first_step_on(tmp_path):
    phases = [(0, number_batches), (2, ones), (5, number_batches)]
    assert fit(Counter(), tmp_path / "whole", phases=phases) == 0 + 1 + 1 + 1 + 1 + 5
    for epochs in (1, 2):  # the second run resumes within the second phase
        total = fit(Counter(), tmp_path / "parts", epochs=epochs, phases=phases)
    assert total == 0 + 1 + 1 + 1 + 1 + 5
