"""Checkpoints of a stage: whole or absent, the newest sound one restored."""

import logging
import os
import re

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.errors import UserError
from pyimagesearch.files import reason

KEPT = 3

# Nothing that tells about the checkpoint itself.
_PASSING_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnauthenticatedError,
    tf.errors.UnavailableError,
)


class Checkpoints:
    """What a stage must remember to go on exactly: its networks and the states of its optimizers.

    The step is the number of updates of the generator. The stream of data and everything drawn at random are functions
    of the seed and the step, and need no place of their own.
    """

    def __init__(self, folder: str, model: keras.Model, writes: bool = True) -> None:
        """Keep checkpoints in `folder`.

        Args:
            folder: a folder or `gs://` address, of this stage alone.
            model: a compiled `SRGANPretraining` or `SRGANTraining`.
            writes: whether `save` writes; of several workers, one does.
        """
        self.folder = folder
        self.model = model
        self.writes = writes
        self.kept_step = None
        self.checkpoint = tf.train.Checkpoint(**model.state)
        _ = self.checkpoint.save_counter  # a variable, which all workers must create together
        self.manager = self._manage()

    def _manage(self) -> tf.train.CheckpointManager:
        def manager() -> tf.train.CheckpointManager:
            return tf.train.CheckpointManager(self.checkpoint, self.folder, KEPT, checkpoint_name="step")

        try:
            return manager()
        except ValueError:  # its list of checkpoints is damaged; `found` needs none
            tf.io.gfile.remove(os.path.join(self.folder, "checkpoint"))
            return manager()

    @property
    def step(self) -> int:
        """How many steps the stage has taken."""
        return int(keras.ops.convert_to_numpy(self.model.g_optimizer.iterations))

    def found(self) -> list[str]:
        """Return the checkpoints in the folder, the newest first."""
        return find_checkpoints(self.folder)

    def restore(self) -> int:
        """Restore the newest sound checkpoint, if there is any, and return the step.

        Raises:
            UserError: there are checkpoints, but none is sound.
        """
        paths = self.found()
        for path in paths:
            try:
                self.checkpoint.restore(path).assert_existing_objects_matched().assert_consumed()
            except _PASSING_ERRORS:
                raise
            except (tf.errors.OpError, AssertionError, IndexError, RuntimeError, ValueError) as error:
                logging.warning("%s: damaged, left aside (%s)", path, reason(error))
            else:
                logging.info("going on from step %d: %s", self.step, path)
                self.kept_step = self.step
                return self.step
        if paths:
            raise UserError(f"{self.folder}: no checkpoint there is sound; remove that folder to begin the stage again")
        return 0

    def save(self) -> None:
        """Write a checkpoint of this step, and remove the oldest of more than three.

        Raises:
            DivergenceError: a weight is not finite; nothing is written.
            UserError: the checkpoint cannot be written; the ones before it stay.
        """
        if self.kept_step == self.step:
            return
        variables = [variable for network in self.model.networks for variable in network.variables]
        if not all(np.isfinite(keras.ops.convert_to_numpy(variable)).all() for variable in variables):
            raise DivergenceError(self.step, "a weight is not finite")
        if self.writes:
            try:
                self.manager.save(checkpoint_number=self.step)
            except (tf.errors.OpError, OSError) as error:
                _remove(self.folder, self.step)
                raise UserError(
                    f"{self.folder}: the checkpoint of step {self.step} cannot be written ({reason(error)}); "
                    f"make room or choose another folder of outputs. {self.last_good()}"
                ) from error
            for path in self.found()[KEPT:]:
                _remove(self.folder, _number(path))
        self.kept_step = self.step

    def last_good(self) -> str:
        """Say which checkpoint the next run will go on from."""
        paths = self.found()
        return f"The last good checkpoint is {paths[0]}" if paths else "There is no checkpoint yet"


def find_checkpoints(folder: str) -> list[str]:
    """Return the checkpoints in a folder, the newest first."""
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    found = [
        os.path.join(folder, name.removesuffix(".index")) for name in names if re.fullmatch(r"step-\d+\.index", name)
    ]
    return sorted(found, key=_number, reverse=True)


def _number(path: str) -> int:
    return int(path.rpartition("-")[2])


def _remove(folder: str, step: int) -> None:
    """Remove what there is of a checkpoint, whole or not."""
    for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []:
        if re.match(rf"step-{step}(\.|_temp)", name):
            path = os.path.join(folder, name)
            tf.io.gfile.rmtree(path) if tf.io.gfile.isdir(path) else tf.io.gfile.remove(path)


class DivergenceError(Exception):
    """Training has produced a NaN or an infinity."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"step {step}: {what}")
