"""Checkpoints of a stage. A checkpoint is complete or absent, and the newest undamaged one is restored."""

import logging
import os
import re

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.errors import UserError
from pyimagesearch.files import reason

KEPT = 3

# Temporary errors, which do not mean that the checkpoint is damaged.
_PASSING_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnauthenticatedError,
    tf.errors.UnavailableError,
)


class Checkpoints:
    """Saves and restores the state of a stage: its networks and its optimizers.

    The step is the number of updates of the generator. The order of the data and all random numbers are functions of
    the seed and the step. Therefore a checkpoint does not contain them.
    """

    def __init__(self, folder: str, model: keras.Model, writes: bool = True) -> None:
        """Create the manager of a folder of checkpoints.

        Args:
            folder: a folder or `gs://` address, for this stage only.
            model: a compiled `SRGANPretraining` or `SRGANTraining`.
            writes: whether `save` writes. It is true for one of several workers.
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
        except ValueError:  # the list of checkpoints is damaged; `found` does not need it
            tf.io.gfile.remove(os.path.join(self.folder, "checkpoint"))
            return manager()

    @property
    def step(self) -> int:
        """The number of steps that the stage has taken."""
        return int(keras.ops.convert_to_numpy(self.model.g_optimizer.iterations))

    def found(self) -> list[str]:
        """Return the paths of the checkpoints in the folder, the newest first."""
        return find_checkpoints(self.folder)

    def restore(self) -> int:
        """Restore the newest undamaged checkpoint, if there are checkpoints.

        Returns:
            The step: 0 without a checkpoint.

        Raises:
            UserError: all checkpoints are damaged.
        """
        paths = self.found()
        for path in paths:
            try:
                self.checkpoint.restore(path).assert_existing_objects_matched().assert_consumed()
            except _PASSING_ERRORS:
                raise
            except (tf.errors.OpError, AssertionError, IndexError, RuntimeError, ValueError) as error:
                logging.warning("%s: damaged, skipped (%s)", path, reason(error))
            else:
                logging.info("resuming from step %d: %s", self.step, path)
                self.kept_step = self.step
                return self.step
        if paths:
            raise UserError(f"{self.folder}: all checkpoints are damaged; remove this folder to start the stage again")
        return 0

    def save(self) -> None:
        """Write a checkpoint of the current step, and remove all but the newest three checkpoints.

        Raises:
            DivergenceError: a weight is not finite. No checkpoint is written.
            UserError: the checkpoint cannot be written. Earlier checkpoints are kept.
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
                    f"free disk space or choose another output folder. {self.last_good()}"
                ) from error
            for path in self.found()[KEPT:]:
                _remove(self.folder, _number(path))
        self.kept_step = self.step

    def last_good(self) -> str:
        """Return a sentence that names the checkpoint from which the next run resumes."""
        paths = self.found()
        return f"The last good checkpoint is {paths[0]}" if paths else "There is no checkpoint yet"


def find_checkpoints(folder: str) -> list[str]:
    """Return the paths of the checkpoints in a folder, the newest first.

    Args:
        folder: a folder or `gs://` address. It need not exist.
    """
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    found = [
        os.path.join(folder, name.removesuffix(".index")) for name in names if re.fullmatch(r"step-\d+\.index", name)
    ]
    return sorted(found, key=_number, reverse=True)


def _number(path: str) -> int:
    return int(path.rpartition("-")[2])


def _remove(folder: str, step: int) -> None:
    """Remove all files of a checkpoint, which may be incomplete."""
    for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []:
        if re.match(rf"step-{step}(\.|_temp)", name):
            path = os.path.join(folder, name)
            tf.io.gfile.rmtree(path) if tf.io.gfile.isdir(path) else tf.io.gfile.remove(path)


class DivergenceError(Exception):
    """A loss or a weight has become NaN or infinite.

    Args:
        step: the step of the stage.
        what: the name of the value.
    """

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"step {step}: {what}")
