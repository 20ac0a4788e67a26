import pathlib

from pyimagesearch import cli  # noqa: F401  before TensorFlow, whose start it quiets

# isort: split
import keras
import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch.tfrecords import Pair

# Two CPU devices, to be the replicas of a MirroredStrategy; TensorFlow takes this only before it first computes.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def same_random_numbers():
    keras.utils.set_random_seed(1)


@pytest.fixture(scope="session")
def two_replicas():
    """One strategy for all tests: the collective operations of a second one take over the keys of the first."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip("needs photographs and VGG weights that are not part of the project")
    return SHARED_DATA


@pytest.fixture
def make_pair():
    """Make pairs of noise in which every HR pixel equals the LR pixel that it belongs to."""

    def make(height=30, width=26, scale=4, name="noise", seed=0):
        lr = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        return Pair(name, lr, enlarged(lr, scale))

    return make


def enlarged(lr, scale=4):
    """Repeat the pixels of [..., h, w, 3]."""
    return np.repeat(np.repeat(lr, scale, axis=-3), scale, axis=-2)
