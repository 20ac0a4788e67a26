import logging
import os
import pathlib
import pickle
import shutil
import signal
import tempfile

# Keras reads this variable when it is imported. The folder has no settings or weights of the user.
os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="keras-home-")

from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import filelock
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.python.data.ops import multi_device_iterator_ops

from pyimagesearch.data import tfrecords
from pyimagesearch.data.pairs import Pair
from pyimagesearch.srgan import SRGAN

# Two CPU devices as replicas of a MirroredStrategy. They must be configured before the first computation.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# Background jobs of a shell ignore this signal, and so would the processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = pathlib.Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items):
    """Begin with the longest tests, so that the workers of pytest-xdist end at about the same time."""
    items.sort(key=lambda item: "training" not in item.path.parts)


def pytest_unconfigure():
    shutil.rmtree(os.environ["KERAS_HOME"])


@pytest.fixture(autouse=True)
def same_random_numbers():
    keras.utils.set_random_seed(1)


@pytest.fixture(autouse=True)
def nothing_left_by_commands():
    yield
    keras.config.set_dtype_policy("float32")
    logging.basicConfig(handlers=[logging.NullHandler()], level=logging.WARNING, force=True)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Return a function that lets `make` fill a folder once for all workers of pytest-xdist.

    It returns the folder, which tests must not change, and what `make` has returned.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made_once(name, make):
        folder, returned = root / name, root / f"{name}.pickle"
        with filelock.FileLock(root / f"{name}.lock"):
            if not returned.exists():
                folder.mkdir()
                returned.write_bytes(pickle.dumps(make(folder)))
        return folder, pickle.loads(returned.read_bytes())

    return made_once


@pytest.fixture(scope="session")
def two_replicas():
    """One strategy for all tests: a second one would reuse the keys of its collective operations.

    TensorFlow tunes the iterators of replicas, so that their end would take up to a minute; see `dataset_options`.
    """
    create = multi_device_iterator_ops._create_device_dataset
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            multi_device_iterator_ops,
            "_create_device_dataset",
            lambda *args: create(*args).with_options(tfrecords.dataset_options()),
        )
        yield tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Return the path of a tiny generator with random weights."""
    path = tmp_path_factory.mktemp("model") / "generator.keras"
    generator = SRGAN.generator(4, 4, 1)
    randomize(generator)
    generator.save(path)
    return path


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip("needs photographs and VGG weights that are not part of the project")
    return SHARED_DATA


@pytest.fixture
def iterated(monkeypatch):
    """Return a list that gets each dataset of which an iterator is made."""
    datasets, make_iterator = [], tf.data.Dataset.__iter__

    def note(dataset):
        datasets.append(dataset)
        return make_iterator(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", note)
    return datasets


@pytest.fixture
def clone(tmp_path):
    """Return a copy of the project with links to its files and its own outputs."""
    for path in ROOT.iterdir():
        if path.name not in ("outputs", ".git"):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.fixture
def make_pair():
    """Make pairs of noise in which HR is LR with repeated pixels."""

    def make(height=30, width=26, scale=4, name="noise", seed=0):
        lr = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        return Pair(name, lr, enlarged(lr, scale))

    return make


def enlarged(lr, scale=4):
    """Repeat the pixels of [..., h, w, 3]."""
    return np.repeat(np.repeat(lr, scale, axis=-3), scale, axis=-2)


def write_records(root, splits, shard_size=4, scale=4):
    """Write the pairs of each split in shards of `shard_size` records, and the manifest."""
    manifest = {split: {} for split in splits}
    for split, pairs in splits.items():
        folder = pathlib.Path(root) / split
        folder.mkdir(parents=True)
        pairs = list(pairs)
        for number, first in enumerate(range(0, len(pairs), shard_size)):
            shard_pairs = pairs[first : first + shard_size]
            path = folder / tfrecords.shard_name(number, len(shard_pairs))
            manifest[split][path.name] = tfrecords.write_shard(str(path), shard_pairs)
    tfrecords.write_manifest(str(root), scale, manifest, configuration={"hr_shape": [32, 32, 3]})


def random_image(height, width, seed=0):
    """Noise, uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, image):
    """Save an image, make missing folders, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def randomize(generator):
    """Give a generator random weights and random statistics of batch normalization."""
    rng = np.random.default_rng(0)
    convolutions = [layer for layer in generator.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer in generator.layers:
        weights = layer.get_weights()
        if layer in convolutions:
            strength = 8 if layer is convolutions[-1] else 1.5
            limit = strength * np.abs(weights[0]).max()
            weights = [rng.uniform(-limit, limit, weights[0].shape), rng.normal(0, 0.1, weights[1].shape)]
        elif isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = weights
            weights = [rng.uniform(0.5, 1.5, gamma.shape), *rng.normal(0, 0.1, (2, *beta.shape)), variance * 0.5]
        elif isinstance(layer, keras.layers.PReLU):
            weights = [rng.uniform(0, 0.5, weights[0].shape)]
        layer.set_weights(weights)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in, with images."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("photos/a.png", "photos/sub folder/写真.jpg", "photos/b.tif")):
        save(tmp_path / name, random_image(9, 12, seed))
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    return tmp_path
