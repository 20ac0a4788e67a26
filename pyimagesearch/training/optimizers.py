"""Optimizers and learning-rate schedules that Keras does not have."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from pyimagesearch.averages import average_momentum

Rate = float | keras.optimizers.schedules.LearningRateSchedule
"""A learning rate, or what gives it by the step."""


class _EarlyAverages(keras.optimizers.Optimizer):
    """Averages of the weights that are of use from the first steps on.

    Keras's keep a part `momentum ** t` of the weights of the first step, a third after 1,000 steps at 0.999. Here the
    momentum is at most t / (10 + t) at step t, as in `tf.train.ExponentialMovingAverage`.
    """

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[keras.Variable]) -> None:
        momentum = average_momentum(self)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)


class Adam(_EarlyAverages, keras.optimizers.Adam):
    """Keras's Adam; if `use_ema`, with averages that are of use early."""


class ConvolutionMuon(_EarlyAverages, keras.optimizers.Muon):
    """Muon for convolutions: the momentum of each kernel is orthogonalized before it is applied.

    A kernel [k, k, C, F] counts as the matrix [k * k * C, F]. Its step is scaled by 0.2 * sqrt(max(k * k * C, F)), so
    that the learning rates of Adam fit (Liu et al., arXiv 2502.16982). Adam updates all other weights, at the same
    rate: biases, PReLU slopes, batch normalization, and the kernels from and to RGB.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return len(variable.shape) != 4 or 3 in variable.shape[2:]

    def _muon_update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, lr: keras.KerasTensor, m: keras.Variable
    ) -> None:
        self.assign(m, self.momentum * m + gradient)
        matrix = ops.reshape(gradient + self.momentum * m, (-1, variable.shape[-1]))  # Nesterov, [k * k * C, F]
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, ops.reshape(update, variable.shape))


class LossScaling(keras.optimizers.LossScaleOptimizer):
    """An optimizer for float16: losses are scaled, so that small gradients are not rounded to 0.

    A step with gradients that are not finite, on any replica, halves the scale and changes no weight. After 2,000 steps
    without, the scale doubles.
    """

    @property
    def iterations(self) -> keras.Variable:
        """The number of steps, those that changed no weight included; `inner_optimizer` counts the others."""
        return self._iterations

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Apply gradients of a loss from `scale_loss`."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in grads])
        spoilt = tf.distribute.get_replica_context().all_reduce("sum", 1.0 - tf.cast(finite, tf.float32))
        grads = [tf.where(spoilt > 0, tf.constant(float("nan"), gradient.dtype), gradient) for gradient in grads]
        super().apply(grads, trainable_variables)
        self._iterations.assign_add(1)


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is reached in so many steps, along a line from nearly 0."""

    def __init__(self, rate: Rate, steps: int) -> None:
        super().__init__()
        self.rate = rate
        self.steps = steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """Return the learning rate of a step, a scalar."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        return rate * ops.minimum((ops.cast(step, "float32") + 1) / self.steps, 1.0)
