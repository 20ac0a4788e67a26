import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch.training.optimizers import Adam, ConvolutionMuon, LossScaling, WarmUp


def muon(variables, **options):
    optimizer = ConvolutionMuon(1e-2, weight_decay=None, adam_weight_decay=None, **options)
    optimizer.build(variables)
    return optimizer


def weights(*shape, value=0.0):
    return keras.Variable(np.full(shape, value, "float32"))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (1, 1, 8, 32)])
def test_a_kernel_moves_by_its_gradient_made_orthogonal(shape):
    kernel, gradient = weights(*shape), noise(*shape)
    muon([kernel]).apply([gradient])
    rows, columns = np.prod(shape[:3]), shape[3]
    step = kernel.numpy().reshape(rows, columns) / (-1e-2 * 0.2 * np.sqrt(max(rows, columns)))
    left, _, right = np.linalg.svd(gradient.reshape(rows, columns), full_matrices=False)
    values = np.diag(left.T @ step @ right.T)
    assert values.min() > 0.6 and values.max() < 1.3  # close to 1 after five iterations
    np.testing.assert_allclose(left @ (left.T @ step @ right.T) @ right, step, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (30, 1)])
@pytest.mark.parametrize("rank", [1, 12])
def test_the_iteration_is_that_of_keras(shape, rank):
    matrix = noise(shape[0], rank) @ noise(rank, shape[1], seed=1)
    mine, theirs = (
        kind(1e-2, weight_decay=None).zeropower_via_newtonschulz5(tf.constant(matrix), 5)
        for kind in (ConvolutionMuon, keras.optimizers.Muon)
    )
    np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_the_second_step_has_momentum_and_looks_ahead():
    kernel, first, second = weights(3, 3, 4, 6), noise(3, 3, 4, 6), noise(3, 3, 4, 6, seed=1)
    optimizer = muon([kernel])
    optimizer.apply([first])
    before = kernel.numpy()
    optimizer.apply([second])
    other = weights(3, 3, 4, 6)
    muon([other], momentum=0.0).apply([second + 0.95 * (second + 0.95 * first)])
    np.testing.assert_allclose(kernel.numpy() - before, other.numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (1, 1, 5), (9, 9, 3, 4), (9, 9, 4, 3)])
def test_everything_else_is_adams(shape):
    mine, adams = weights(*shape, value=1.0), weights(*shape, value=1.0)
    optimizer, adam = muon([mine]), keras.optimizers.Adam(1e-2)
    for seed in range(3):
        optimizer.apply([noise(*shape, seed=seed)])
        adam.apply([noise(*shape, seed=seed)], [adams])
    np.testing.assert_allclose(mine.numpy(), adams.numpy(), rtol=1e-5)


@pytest.mark.parametrize("make", [Adam, ConvolutionMuon])
def test_averages_forget_the_first_weights_early_and_have_their_momentum_later(make):
    kernel = weights(3, 3, 4, 6)
    optimizer = make(1e-2, use_ema=True, ema_momentum=0.15)
    optimizer.build([kernel])
    steps = []
    for seed in range(4):
        optimizer.apply([noise(3, 3, 4, 6, seed=seed)])
        steps.append(kernel.numpy())
    expected = steps[0]
    for momentum, step in zip((1 / 11, 0.15, 0.15), steps[1:], strict=True):
        expected = momentum * expected + (1 - momentum) * step
    optimizer.finalize_variable_values([kernel])
    np.testing.assert_allclose(kernel.numpy(), expected, atol=1e-6)


def scaled(scale, **options):
    """Return a kernel and an optimizer that scales its loss by so much."""
    kernel = weights(2, 2, value=1.0)
    optimizer = LossScaling(Adam(0.1, use_ema=True, ema_momentum=0.5), initial_scale=scale, **options)
    optimizer.build([kernel])
    return kernel, optimizer


def values(optimizer):
    """All that an optimizer keeps of its weights."""
    return [variable.numpy() for variable in optimizer.inner_optimizer.variables if variable.shape == (2, 2)]


def test_scaled_gradients_make_the_step_of_those_that_are_not():
    kernel, optimizer = scaled(2.0**10)
    optimizer.apply([noise(2, 2) * 2.0**10])
    plain = weights(2, 2, value=1.0)
    Adam(0.1).apply([noise(2, 2)], [plain])
    np.testing.assert_array_equal(kernel.numpy(), plain.numpy())
    assert float(optimizer.scale_loss(3.0)) == 3 * 2**10


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_step_with_gradients_that_are_not_finite_halves_the_scale_and_changes_nothing_but_counts(bad):
    kernel, optimizer = scaled(16.0)
    optimizer.apply([noise(2, 2)])
    before = [kernel.numpy(), *values(optimizer)]
    optimizer.apply([np.array([[1, bad], [0, 1]], "float32")])
    for one, other in zip(before, [kernel.numpy(), *values(optimizer)], strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(optimizer.dynamic_scale) == 8
    assert int(optimizer.iterations) == 2 and int(optimizer.inner_optimizer.iterations) == 1


def test_the_scale_doubles_after_a_while_without_overflow():
    _, optimizer = scaled(16.0, dynamic_growth_steps=3)
    for gradient in (1, 1, np.inf, 1, 1, 1):
        optimizer.apply([np.full((2, 2), gradient, "float32")])
    assert float(optimizer.dynamic_scale) == 16


def test_all_replicas_leave_out_the_step_that_one_of_them_must(two_replicas):
    def step(bad):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply([tf.fill((2, 2), tf.where(replica == bad, np.inf, 2.0))])

    with two_replicas.scope():
        kernel, optimizer = scaled(16.0)
        run = tf.function(lambda bad: two_replicas.run(step, args=(bad,)))
        for bad in (0, 1):
            run(tf.constant(bad))
            np.testing.assert_array_equal(kernel.numpy(), np.ones((2, 2)))
        assert optimizer.dynamic_scale.numpy() == 4 and optimizer.iterations.numpy() == 2
        run(tf.constant(2))
        np.testing.assert_allclose(kernel.numpy(), np.full((2, 2), 0.9), rtol=1e-5)


@pytest.mark.parametrize("rate", [0.5, keras.optimizers.schedules.PiecewiseConstantDecay([6], [0.5, 0.1])])
def test_a_rate_is_reached_along_a_line(rate):
    schedule = WarmUp(rate, 4)
    assert [float(schedule(step)) for step in range(5)] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])
    assert float(schedule(7)) == pytest.approx(0.5 if rate == 0.5 else 0.1)
