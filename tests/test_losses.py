import math

import pytest
import tensorflow as tf

from pyimagesearch.losses import Losses


@pytest.mark.parametrize("replicas", [1, 2])
def test_mse_is_the_mean_over_all_elements_divided_by_the_replicas(replicas):
    real, pred = tf.zeros((2, 1, 1, 3)), tf.reshape(tf.constant([1.0, 2, 3, 4, 5, 6]), (2, 1, 1, 3))
    loss = Losses(replicas).mse_loss(real, pred)
    assert loss.shape == () and float(loss) == pytest.approx((1 + 4 + 9 + 16 + 25 + 36) / 6 / replicas)


@pytest.mark.parametrize("replicas", [1, 2])
def test_bce_takes_logits(replicas):
    real, pred = tf.constant([[1.0], [0.0]]), tf.constant([[2.0], [-1.0]])
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    loss = Losses(replicas).bce_loss(real, pred)
    assert loss.shape == () and float(loss) == pytest.approx(by_hand / replicas)


def test_a_confident_discriminator_still_teaches():
    logits = tf.Variable([[-40.0]])
    with tf.GradientTape() as tape:
        loss = Losses(1).bce_loss(tf.ones((1, 1)), logits)
    assert float(tape.gradient(loss, logits)[0, 0]) == pytest.approx(-1)
