"""The training loop, which is the same for every distribution strategy."""

import contextlib
import itertools
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.errors import StoppedError, UserError
from pyimagesearch.training.checkpoints import Checkpoints, DivergenceError

STEPS_IN_FLIGHT = 10
"""The number of steps after which losses are copied to the host. A copy in each step would slow accelerators."""

Step = Callable[[Any], dict[str, tf.Tensor]]
LoadBatches = Callable[..., tf.data.Dataset]
Phases = Sequence[tuple[int, LoadBatches]]
"""The parts of a stage: (first step, function that loads the batches)."""


def fit(
    model: keras.Model,
    phases: Phases,
    epochs: int,
    steps_per_epoch: int,
    checkpoints: Checkpoints,
    checkpoint_every: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    jit_compile: bool = False,
) -> None:
    """Train a stage under the current strategy, from the newest checkpoint to the last epoch.

    Args:
        model: a compiled `SRGANPretraining` or `SRGANTraining`.
        phases: the parts of the stage. The first one begins at step 0. Each function returns an endless dataset of the
            batches of one replica. Its arguments are `first_batch`, `worker` and `workers` of `load_dataset`.
        epochs: the number of epochs of the whole stage.
        steps_per_epoch: the number of steps in each epoch.
        checkpoints: the checkpoints to restore and to write.
        checkpoint_every: number of epochs from one checkpoint to the next. A checkpoint is also written at the end of
            the stage.
        callbacks: Keras callbacks. Their logs are the mean losses of the epoch so far.
        jit_compile: whether to compile the step with XLA.

    Raises:
        StoppedError: SIGINT or SIGTERM was received. A checkpoint has been written.
        tf.errors.OpError: a batch cannot be read. A checkpoint has been written.
        UserError: a loss or a weight became NaN or infinite, or a checkpoint cannot be written.
    """
    complaint = "the workers found different checkpoints; give all of them the same output folder"
    first_step = agree(checkpoints.restore(), complaint)
    if first_step >= epochs * steps_per_epoch:
        logging.info("all %d epochs of this stage are done; start over to train again", epochs)
        return
    callbacks = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs, steps=steps_per_epoch)
    step = _distributed_step(model, jit_compile)
    batches = _batches(phases, first_step)
    callbacks.on_train_begin({"step": first_step})
    try:
        with _signals_noted() as signals:
            for epoch in range(first_step // steps_per_epoch, epochs):
                callbacks.on_epoch_begin(epoch)
                first_index = max(0, first_step - epoch * steps_per_epoch)
                logs = _run_epoch(step, batches, range(first_index, steps_per_epoch), callbacks, checkpoints, signals)
                callbacks.on_epoch_end(epoch, logs)
                if (epoch + 1) % checkpoint_every == 0 or epoch + 1 == epochs:
                    checkpoints.save()
                _stop_if_agreed(signals, checkpoints)
    except DivergenceError as error:
        raise UserError(
            f"{error}. {checkpoints.last_good()}. Start over in another folder with a lower learning rate or in "
            "float32; an initial generator makes the first stage unnecessary"
        ) from error
    finally:
        callbacks.on_train_end()


def _run_epoch(
    step: Step,
    batches: Iterator[Any],
    indices: range,
    callbacks: keras.callbacks.CallbackList,
    checkpoints: Checkpoints,
    signals: list[int],
) -> dict[str, float]:
    """Return the mean losses of the steps of an epoch. After the last step, the caller checks for signals."""
    in_flight, read, logs = [], [], {}
    for index in indices:
        callbacks.on_train_batch_begin(index)
        in_flight.append(step(_next_batch(batches, checkpoints)))
        is_last = index == indices[-1]
        together = len(in_flight) == STEPS_IN_FLIGHT
        if together or is_last:
            read += _read(in_flight, checkpoints.step)
            in_flight.clear()
            logs = {name: float(np.mean([losses[name] for losses in read])) for name in read[0]}
        callbacks.on_train_batch_end(index, logs)
        if not is_last and (together or _is_one_worker()):
            _stop_if_agreed(signals, checkpoints)
    return logs


def _next_batch(batches: Iterator[Any], checkpoints: Checkpoints) -> Any:
    try:
        return next(batches)
    except tf.errors.OpError:
        checkpoints.save()
        raise


def _read(in_flight: Sequence[dict[str, tf.Tensor]], last_step: int) -> list[dict[str, float]]:
    values = [{name: float(loss) for name, loss in losses.items()} for losses in in_flight]
    for number, losses in enumerate(values, start=last_step - len(values) + 1):
        for name, value in losses.items():
            if not np.isfinite(value):
                raise DivergenceError(number, f"{name} is {value}")
    return values


def _distributed_step(model: keras.Model, jit_compile: bool) -> Step:
    strategy = tf.distribute.get_strategy()
    train_step = tf.function(model.train_step, autograph=False, jit_compile=True) if jit_compile else model.train_step

    @tf.function(autograph=False)
    def step(batch: Any) -> dict[str, tf.Tensor]:
        shares = strategy.run(train_step, args=(batch,))
        return {name: strategy.reduce("sum", share, axis=None) for name, share in shares.items()}

    return step


def _batches(phases: Phases, first_step: int) -> Iterator[Any]:
    ends = [first for first, _ in phases[1:]] + [sys.maxsize]
    for (first, load_batches), end in zip(phases, ends, strict=True):
        if first_step < end:
            first = max(first, first_step)
            yield from itertools.islice(_distributed_batches(load_batches, first), end - first)


def _distributed_batches(load_batches: LoadBatches, first_step: int) -> Iterator[Any]:
    def load(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        first_batch = first_step * context.num_replicas_in_sync // workers
        return load_batches(first_batch=first_batch, worker=context.input_pipeline_id, workers=workers)

    return iter(tf.distribute.get_strategy().distribute_datasets_from_function(load))


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Yield the list of received signals. The first signal is only noted; a second one has its usual effect."""
    noted = []

    def note(number: int, frame: object) -> None:
        noted.append(number)
        restore()

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    handlers = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        restore()


@tf.function(autograph=False)
def _total(value: tf.Tensor) -> tf.Tensor:
    """Return the sum of a value over all workers."""
    strategy = tf.distribute.get_strategy()
    return strategy.reduce("sum", strategy.run(tf.identity, args=(value,)), axis=None)


def _is_one_worker() -> bool:
    return not isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)


def _stop_if_agreed(signals: Sequence[int], checkpoints: Checkpoints) -> None:
    """Save and stop if any worker has received a signal. All workers must call this at the same step."""
    if signals if _is_one_worker() else int(_total(tf.constant(len(signals), tf.int64))):
        checkpoints.save()
        raise StoppedError(signals[0] if signals else signal.SIGTERM, checkpoints.last_good())


def agree(number: int, complaint: str) -> int:
    """Check that all workers of the current strategy have the same number, and return it.

    Args:
        number: a number of at most 31 bits.
        complaint: the text of the error.

    Raises:
        UserError: another worker has another number.
    """
    if not _is_one_worker():
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        differs = int(_total(tf.constant(number, tf.int64))) != number * replicas
        if int(_total(tf.constant(int(differs), tf.int64))):  # all workers stop
            raise UserError(complaint)
    return number
