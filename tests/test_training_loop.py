import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import training_loop


class Counter(keras.Model):
    """Its loss is the number of the step, from 1."""

    def __init__(self):
        super().__init__()
        self.steps = self.add_weight(shape=(), trainable=False, initializer="zeros")

    def train_step(self, data):
        self.steps.assign_add(tf.reduce_mean(data))
        return {"loss": self.steps + 0.0}


def test_each_epoch_reports_the_mean_of_its_steps():
    dataset = tf.data.Dataset.from_tensors(tf.ones((2,))).repeat()
    history = training_loop.fit(Counter(), dataset, epochs=2, steps_per_epoch=3)
    np.testing.assert_allclose(history.history["loss"], [2, 5])


def test_each_epoch_shows_all_losses(capsys):
    dataset = tf.data.Dataset.from_tensors(tf.ones((2,))).repeat()
    training_loop.fit(Counter(), dataset, epochs=2, steps_per_epoch=3)
    out = capsys.readouterr().out
    assert "Epoch 2/2" in out and "loss: 2.0" in out and "loss: 5.0" in out


def test_callbacks_are_told_of_every_step():
    seen = []
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: seen.append((step, logs["loss"])))
    dataset = tf.data.Dataset.from_tensors(tf.ones((2,))).repeat()
    training_loop.fit(Counter(), dataset, epochs=1, steps_per_epoch=3, callbacks=[callback])
    assert seen == [(0, 1), (1, 1.5), (2, 2)]
