"""Optimizers and learning rate schedules that Keras does not have."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from pyimagesearch.averages import average_momentum

Rate = float | keras.optimizers.schedules.LearningRateSchedule
"""A learning rate or a learning rate schedule."""

_GRAM_STEPS = 3  # iterations of Muon from one computation of a Gram matrix to the next


class _EarlyAverages(keras.optimizers.Optimizer):
    """An optimizer whose averaged weights are useful from the first steps.

    In the averages of Keras, the weights of the first step keep a fraction of `momentum ** t`: a third after 1,000
    steps with a momentum of 0.999. Here the momentum is at most t / (10 + t) at step t, as in
    `tf.train.ExponentialMovingAverage`.
    """

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[keras.Variable]) -> None:
        momentum = average_momentum(self)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)


class Adam(_EarlyAverages, keras.optimizers.Adam):
    """Adam of Keras. With `use_ema`, the averaged weights are useful from the first steps."""


class ConvolutionMuon(_EarlyAverages, keras.optimizers.Muon):
    """Muon for convolutions: the momentum of each kernel is orthogonalized before it is applied.

    A kernel [k, k, C, F] is used as the matrix [k * k * C, F]. Its step is scaled by 0.2 * sqrt(max(k * k * C, F)), so
    that learning rates are of the same size as those of Adam (Liu et al., arXiv 2502.16982). All other weights are
    updated by Adam with the same learning rate: biases, PReLU slopes, batch normalization, and kernels with RGB as
    input or output.
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

    def zeropower_via_newtonschulz5(self, x: keras.KerasTensor, steps: int) -> keras.KerasTensor:
        """Move the singular values of a matrix towards 1 with the Newton-Schulz iteration of `keras.optimizers.Muon`.

        An iteration multiplies X by a polynomial P of the Gram matrix X^T X, and the Gram matrix becomes P X^T X P. So
        only products of small matrices are needed in between. The rounding errors of its small eigenvalues grow
        twelvefold with each iteration, so after `_GRAM_STEPS` iterations it is computed from X again.

        Args:
            x: the matrix, [n, m].
            steps: the number of iterations.
        """
        if x.shape[0] < x.shape[1]:
            return ops.transpose(self.zeropower_via_newtonschulz5(ops.transpose(x), steps))
        x = x / (ops.norm(x) + 1e-7)
        identity = ops.eye(x.shape[1], dtype=x.dtype)
        for first in range(0, steps, _GRAM_STEPS):
            gram, product = ops.transpose(x) @ x, identity  # [m, m]
            for _ in range(first, min(first + _GRAM_STEPS, steps)):
                polynomial = self.muon_a * identity + self.muon_b * gram + self.muon_c * gram @ gram
                product, gram = product @ polynomial, polynomial @ gram @ polynomial
            x = x @ product
        return x


class LossScaling(keras.optimizers.LossScaleOptimizer):
    """An optimizer with loss scaling for float16, so that small gradients are not rounded to 0.

    If a gradient on any replica is not finite, the step changes no weight and halves the scale. After 2,000 steps with
    finite gradients, the scale is doubled. See Micikevicius et al., arXiv 1710.03740.
    """

    @property
    def iterations(self) -> keras.Variable:
        """The number of steps, including steps that changed no weight. `inner_optimizer` does not count those."""
        return self._iterations

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Apply gradients.

        Args:
            grads: the gradients of a loss that was scaled by `scale_loss`.
            trainable_variables: the variables to update.
        """
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in grads])
        spoilt = tf.distribute.get_replica_context().all_reduce("sum", 1.0 - tf.cast(finite, tf.float32))
        grads = [tf.where(spoilt > 0, tf.constant(float("nan"), gradient.dtype), gradient) for gradient in grads]
        super().apply(grads, trainable_variables)
        self._iterations.assign_add(1)


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from nearly 0 to its value.

    Args:
        rate: the learning rate, or its schedule.
        steps: the number of steps until `rate` is reached.
    """

    def __init__(self, rate: Rate, steps: int) -> None:
        super().__init__()
        self.rate = rate
        self.steps = steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """Return the learning rate of a step, a scalar."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        return rate * ops.minimum((ops.cast(step, "float32") + 1) / self.steps, 1.0)
