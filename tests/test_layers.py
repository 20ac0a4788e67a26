import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch import layers

INPUTS = np.random.default_rng(0).normal(2, 3, (4, 8, 12, 5)).astype("float32")
PAIRS = {
    "batch normalization": (keras.layers.BatchNormalization, layers.FusedBatchNormalization),
    "convolution": (
        lambda: keras.layers.Conv2D(3, 9, padding="same"),
        lambda: layers.PackedConv2D(3, 9, padding="same"),
    ),
}


def both(name):
    """Keras' layer and ours, with the same random weights."""
    layers = [make() for make in PAIRS[name]]
    for layer in layers:
        layer.build(INPUTS.shape)
        rng = np.random.default_rng(1)
        layer.set_weights([rng.uniform(0.5, 2, weights.shape) for weights in layer.get_weights()])
    return layers


def results(layer, training):
    """Outputs, gradients and weights after a call."""
    inputs = tf.constant(INPUTS)
    arguments = {"training": training} if isinstance(layer, keras.layers.BatchNormalization) else {}
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, **arguments)
        loss = tf.reduce_sum(outputs**3)
    gradients = tape.gradient(loss, [inputs, *(variable.value for variable in layer.trainable_variables)])
    return [outputs.numpy(), *(gradient.numpy() for gradient in gradients), *layer.get_weights()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_a_layer_computes_what_that_of_keras_computes(name, training):
    reference, fast = both(name)
    for expected, found in zip(results(reference, training), results(fast, training), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", PAIRS)
def test_a_layer_keeps_the_precision_of_its_policy(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        reference, fast = both(name)
    finally:
        keras.config.set_dtype_policy("float32")
    assert fast(tf.constant(INPUTS)).dtype == reference(tf.constant(INPUTS)).dtype == tf.bfloat16
    assert [weights.dtype for weights in fast.weights] == [weights.dtype for weights in reference.weights]


def test_several_replicas_share_batch_statistics():
    assert layers.choose(2, on_cpu=True)["norm"]().synchronized
    assert layers.choose(2, on_cpu=False)["norm"]().synchronized


def test_accelerators_get_the_layers_of_keras():
    assert set(layers.choose(1, on_cpu=False).values()) == {
        keras.layers.BatchNormalization,
        keras.layers.Conv2D,
    }
