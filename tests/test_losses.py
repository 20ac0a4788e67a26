import math

import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch.losses import Losses
from pyimagesearch.metrics import grid


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


def noise(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).uniform(0, 255, shape), tf.float32)


@pytest.mark.parametrize("replicas", [1, 2])
def test_pairs_are_compared_position_by_position(replicas):
    real, fake = (
        tf.reshape(tf.constant([3.0, 0, -5, 1]), (1, 2, 2, 1)),
        tf.reshape(tf.constant([1.0, 0, -3, 0]), (1, 2, 2, 1)),
    )
    by_hand = sum(math.log(1 + math.exp(difference)) for difference in (-2, 0, 2, -1)) / 4
    assert float(Losses(replicas).relativistic_loss(real, fake)) == pytest.approx(by_hand / replicas)


def test_features_are_compared_by_their_directions():
    real, pred = noise(2, 3, 3, 8), noise(2, 3, 3, 8, seed=1)
    directions = [features / np.linalg.norm(features, axis=-1, keepdims=True) for features in (real, pred)]
    expected = np.sum((directions[0] - directions[1]) ** 2, axis=-1).mean()
    assert float(Losses(1).unit_loss(real, 5 * pred)) == pytest.approx(expected, rel=1e-4)
    assert float(Losses(2).unit_loss(real, pred)) == pytest.approx(expected / 2, rel=1e-4)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_results_and_photographs_are_reduced_as_low_resolution_images_are_made(scale):
    hr, sr = noise(2, 12 * scale, 9 * scale, 3), noise(2, 12 * scale, 9 * scale, 3, seed=1)
    lr, reduced = (tf.image.resize(images, (12, 9), "bicubic", antialias=True) for images in (hr, sr))
    expected = np.abs(lr - reduced)[:, 2:-2, 2:-2].mean()
    assert float(Losses(1).reduced_loss(hr, sr, scale)) == pytest.approx(expected, rel=1e-5)
    assert float(Losses(2).reduced_loss(hr, sr, scale)) == pytest.approx(expected / 2, rel=1e-5)


def test_a_grid_is_distinguished_from_detail_everywhere():
    smooth = tf.image.resize(noise(1, 8, 8, 3), (64, 64), "bicubic")
    pattern = np.zeros((64, 64, 1), "float32")
    pattern[::4, ::4] = 8
    losses = Losses(1)
    grain = float(losses.grid_loss(smooth, smooth + 0.1 * noise(1, 64, 64, 3, seed=1), 4))
    assert grain < 0.1 < 5 * grain + 0.1 < float(losses.grid_loss(smooth, smooth + pattern, 4))
    assert float(losses.grid_loss(tf.zeros((1, 64, 64, 3)), tf.zeros((1, 64, 64, 3)), 4)) == 0


def test_a_checkerboard_is_distinguished_from_texture():
    hr = 128 + 20 * noise(1, 64, 64, 3) / 255
    checkerboard = 4 * (-1.0) ** np.add.outer(np.arange(64), np.arange(64))[..., None]
    assert grid((hr + checkerboard)[0].numpy()) < 1.5  # all positions have the same energy
    texture = float(Losses(1).grid_loss(hr, 128 + 20 * noise(1, 64, 64, 3, seed=1) / 255, 4))
    assert float(Losses(1).grid_loss(hr, hr + checkerboard, 4)) > 5 * texture


def test_the_gradient_of_the_grid_loss_takes_a_grid_away():
    image = noise(1, 64, 64, 3).numpy()
    image[:, ::4, ::4] += 40
    sr = tf.Variable(image)
    before = grid(image[0])
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = Losses(1).grid_loss(image, sr, 4)
        gradient = tape.gradient(loss, sr)
        sr.assign_sub(2 * gradient / tf.reduce_max(tf.abs(gradient)))
    assert grid(sr.numpy()[0]) < before - 0.1
