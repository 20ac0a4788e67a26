"""Optimizers and learning-rate schedules that Keras does not have."""

import keras
from keras import ops

Rate = float | keras.optimizers.schedules.LearningRateSchedule
"""A learning rate, or what gives it by the step."""


class ConvolutionMuon(keras.optimizers.Muon):
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
