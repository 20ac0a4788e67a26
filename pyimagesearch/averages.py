"""Exponential moving averages over training: their momentum, and the averages of batch normalization statistics."""

import keras
import tensorflow as tf
from keras import ops


def average_momentum(optimizer: keras.optimizers.Optimizer) -> keras.KerasTensor:
    """Return the momentum of an optimizer's averages at its step t: at most `ema_momentum` and at most t / (10 + t).

    Args:
        optimizer: an optimizer with `ema_momentum`.

    Returns:
        A float32 scalar in 0..1.
    """
    step = ops.cast(optimizer.iterations, "float32")
    return ops.minimum(step / (10 + step), optimizer.ema_momentum)


class StatisticsAverages:
    """Averages of the batch normalization statistics of a network, for use with the averaged weights of its optimizer.

    The moving statistics of a network belong to its latest weights. For averaged weights, the statistics must be
    averaged with the same momentum.
    """

    def __init__(self, network: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Create the averages.

        Args:
            network: the network.
            optimizer: the optimizer of its weights. Without `use_ema`, no statistics are averaged.
        """
        self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        self.statistics = network.non_trainable_variables if self.optimizer.use_ema else []
        self.averages = [
            keras.Variable(ops.convert_to_tensor(value), trainable=False, aggregation="only_first_replica")
            for value in self.statistics
        ]

    @property
    def state(self) -> list[tf.Variable]:
        """The variables that a checkpoint contains."""
        return [average.value for average in self.averages]

    def update(self) -> None:
        """Update the averages with the momentum of the weights. Call this before the weights are updated."""
        momentum = average_momentum(self.optimizer)
        for statistic, average in zip(self.statistics, self.averages, strict=True):
            average.assign(average + (1 - momentum) * (statistic - average))
