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
        self.checkpoint = tf.train.Checkpoint(**model.state)
        _ = self.checkpoint.save_counter  # a variable, which all workers must create together
        self.manager = tf.train.CheckpointManager(self.checkpoint, folder, KEPT, checkpoint_name="step")

    @property
    def step(self) -> int:
        """How many steps the stage has taken."""
        return int(keras.ops.convert_to_numpy(self.model.g_optimizer.iterations))

    def found(self) -> list[str]:
        """Return the checkpoints in the folder, the newest first."""
        paths = [path.removesuffix(".index") for path in tf.io.gfile.glob(os.path.join(self.folder, "step-*.index"))]
        return sorted((path for path in paths if re.search(r"step-\d+$", path)), key=_number, reverse=True)

    def restore(self) -> int:
        """Restore the newest sound checkpoint, if there is any, and return the step.

        Raises:
            UserError: there are checkpoints, but none is sound.
        """
        paths = self.found()
        for path in paths:
            try:
                self.checkpoint.restore(path).assert_existing_objects_matched().assert_consumed()
            except (tf.errors.OpError, AssertionError, IndexError, RuntimeError, ValueError) as error:
                logging.warning("%s: damaged, left aside (%s)", path, reason(error))
            else:
                logging.info("going on from step %d: %s", self.step, path)
                return self.step
        if paths:
            raise UserError(f"{self.folder}: no checkpoint there is sound; start over with --fresh")
        return 0

    def save(self) -> None:
        """Write a checkpoint of this step, and remove the oldest of more than three.

        Raises:
            DivergenceError: a weight is not finite; nothing is written.
            UserError: the checkpoint cannot be written; the ones before it stay.
        """
        variables = [variable for network in self.model.networks for variable in network.variables]
        if not all(np.isfinite(keras.ops.convert_to_numpy(variable)).all() for variable in variables):
            raise DivergenceError(self.step, "a weight is not finite")
        if not self.writes:
            return
        try:
            self.manager.save(checkpoint_number=self.step)
        except (tf.errors.OpError, OSError) as error:
            for path in tf.io.gfile.glob(os.path.join(self.folder, f"step-{self.step}*")):
                tf.io.gfile.rmtree(path) if tf.io.gfile.isdir(path) else tf.io.gfile.remove(path)
            raise UserError(
                f"{self.folder}: the checkpoint of step {self.step} cannot be written ({reason(error)}); "
                f"make room or choose another --outputs. {self.last_good()}"
            ) from error

    def last_good(self) -> str:
        """Say which checkpoint the next run will go on from."""
        paths = self.found()
        return f"The last good checkpoint is {paths[0]}" if paths else "There is no checkpoint yet"


def _number(path: str) -> int:
    return int(path.rpartition("-")[2])


class DivergenceError(Exception):
    """Training has produced a NaN or an infinity."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"step {step}: {what}")
