"""Averages over the steps of training: of weights how fast they follow, of batch statistics the averages themselves."""

import keras
import tensorflow as tf
from keras import ops


def average_momentum(optimizer: keras.optimizers.Optimizer) -> keras.KerasTensor:
    """Return the momentum of an optimizer's averages at its present step t: `ema_momentum`, at most t / (10 + t)."""
    step = ops.cast(optimizer.iterations, "float32")
    return ops.minimum(step / (10 + step), optimizer.ema_momentum)


class StatisticsAverages:
    """Averages of a network's statistics of batch normalization, for the averaged weights that an optimizer keeps.

    The statistics of the last step belong to the last weights. Averages of both belong together.
    """

    def __init__(self, network: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Take a network and the optimizer of its weights; without averages of them, there are none here."""
        self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        self.statistics = network.non_trainable_variables if self.optimizer.use_ema else []
        self.averages = [
            keras.Variable(ops.convert_to_tensor(value), trainable=False, aggregation="only_first_replica")
            for value in self.statistics
        ]

    @property
    def state(self) -> list[tf.Variable]:
        """What a checkpoint must hold."""
        return [average.value for average in self.averages]

    def update(self) -> None:
        """Average the present statistics, with the momentum of the weights; to be called before these are updated."""
        momentum = average_momentum(self.optimizer)
        for statistic, average in zip(self.statistics, self.averages, strict=True):
            average.assign(average + (1 - momentum) * (statistic - average))
