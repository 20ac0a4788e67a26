"""The loop that runs the training steps, the same under every strategy."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def fit(
    model: keras.Model,
    dataset: tf.data.Dataset,
    epochs: int,
    steps_per_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Train with `model.train_step` under the current strategy, with a progress bar for each epoch.

    Args:
        model: a compiled model with a `train_step` that returns each replica's share of its losses.
        dataset: endless batches for all replicas together.
        epochs: how many epochs.
        steps_per_epoch: how many steps each has.
        callbacks: Keras callbacks; their logs are the epoch's mean losses so far.

    Returns:
        The history: each epoch's mean losses.
    """
    step = _distributed_step(model)
    batches = iter(tf.distribute.get_strategy().experimental_distribute_dataset(dataset))
    callbacks = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=True,
        model=model,
        epochs=epochs,
        steps=steps_per_epoch,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    callbacks.on_train_begin()
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        means = {}
        for index in range(steps_per_epoch):
            callbacks.on_train_batch_begin(index)
            losses = step(next(batches))
            for name, loss in losses.items():
                means.setdefault(name, keras.metrics.Mean(name=name)).update_state(loss)
            logs = {name: float(mean.result()) for name, mean in means.items()}
            callbacks.on_train_batch_end(index, logs)
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()
    return model.history


def _distributed_step(model: keras.Model) -> Callable[[Any], dict[str, tf.Tensor]]:
    strategy = tf.distribute.get_strategy()

    @tf.function
    def step(batch: Any) -> dict[str, tf.Tensor]:
        shares = strategy.run(model.train_step, args=(batch,))
        return {name: strategy.reduce("sum", share, axis=None) for name, share in shares.items()}

    return step
