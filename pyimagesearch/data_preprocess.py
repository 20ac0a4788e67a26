"""Aligned crops, flips and rotations of LR/HR pairs, and the datasets of these crops."""

import functools
import os
import random
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pyimagesearch.data import degradations, tfrecords
from pyimagesearch.errors import UserError

TensorPair = tuple[tf.Tensor, tf.Tensor]

CROPS_IN_FLIGHT = 4096
"""About how many training crops are held at once, over all workers, to separate crops of the same record."""

CROPS_PER_DEGRADATION = 8
"""The number of crops from one degraded image. They go to different batches."""


def _seed_or_draw(seed: tf.Tensor | None) -> tf.Tensor:
    if seed is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return tf.convert_to_tensor(seed)


def _crop(lr: tf.Tensor, hr: tf.Tensor, top: tf.Tensor, left: tf.Tensor, hr_crop_size: int, scale: int) -> TensorPair:
    size = hr_crop_size // scale
    lr = lr[top : top + size, left : left + size]
    hr = hr[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
    return tf.ensure_shape(lr, (size, size, 3)), tf.ensure_shape(hr, (size * scale, size * scale, 3))


def random_crop(
    lr: tf.Tensor, hr: tf.Tensor, hr_crop_size: int = 96, scale: int = 4, seed: tf.Tensor | None = None
) -> TensorPair:
    """Crop the same random square from both images.

    Args:
        lr: [h, w, 3], any dtype.
        hr: [scale * h, scale * w, 3].
        hr_crop_size: the side of the HR crop in pixels, a multiple of `scale`.
        scale: the scaling factor of `hr` relative to `lr`.
        seed: two integers that determine the position. If None, they are drawn from TensorFlow's global generator.

    Returns:
        LR [hr_crop_size / scale, hr_crop_size / scale, 3] and HR [hr_crop_size, hr_crop_size, 3].
    """
    positions = tf.shape(lr)[:2] - hr_crop_size // scale + 1
    drawn = tf.random.stateless_uniform([2], _seed_or_draw(seed)) * tf.cast(positions, tf.float32)
    top, left = tf.unstack(tf.cast(drawn, tf.int32))
    return _crop(lr, hr, top, left, hr_crop_size, scale)


def get_center_crop(lr: tf.Tensor, hr: tf.Tensor, hr_crop_size: int = 96, scale: int = 4) -> TensorPair:
    """Crop the square in the middle of both images. Arguments and shapes are those of `random_crop`."""
    top, left = tf.unstack((tf.shape(lr)[:2] - hr_crop_size // scale) // 2)
    return _crop(lr, hr, top, left, hr_crop_size, scale)


def _orient(lr: tf.Tensor, hr: tf.Tensor, mirrored: tf.Tensor, flipped: tf.Tensor, transposed: tf.Tensor) -> TensorPair:
    """Flip images horizontally, then vertically, then transpose them. Each of the three arguments is 0 or 1."""

    def orient(image: tf.Tensor) -> tf.Tensor:
        # Operations without branches. TensorFlow has fast code for reversing columns, gathering rows and transposing.
        rows = tf.range(tf.shape(image)[0])
        image = tf.raw_ops.Reverse(tensor=image, dims=tf.stack([False, mirrored > 0, False]))
        image = tf.gather(image, tf.abs(rows - flipped * rows[-1]))
        return tf.transpose(image, tf.stack([transposed, 1 - transposed, 2]))

    return orient(lr), orient(hr)


def random_flip(lr: tf.Tensor, hr: tf.Tensor, seed: tf.Tensor | None = None) -> TensorPair:
    """Flip both images horizontally, or neither of them, at random.

    Args:
        lr: [h, w, 3], any dtype.
        hr: [H, W, 3].
        seed: as in `random_crop`.
    """
    mirrored = tf.random.stateless_uniform([], _seed_or_draw(seed), maxval=2, dtype=tf.int32)
    return _orient(lr, hr, mirrored, 0, 0)


def random_rotate(lr: tf.Tensor, hr: tf.Tensor, seed: tf.Tensor | None = None) -> TensorPair:
    """Rotate both images by the same random multiple of 90 degrees.

    Args:
        lr: [h, w, 3], any dtype.
        hr: [H, W, 3].
        seed: as in `random_crop`.
    """
    turns = tf.random.stateless_uniform([], _seed_or_draw(seed), maxval=4, dtype=tf.int32)
    return _orient(lr, hr, (turns + 1) // 2 % 2, turns // 2, turns % 2)


def _inputs(lr: tf.Tensor, hr: tf.Tensor, crops: int, scale: int, degradation: str, seed: tf.Tensor) -> list[tf.Tensor]:
    """Return the LR image [h, w, 3] of each crop: the one of the record, or one that is made from `hr`."""
    if degradation == "bicubic":
        return [lr] * crops
    count = -(-crops // CROPS_PER_DEGRADATION)

    def degrade(hr: np.ndarray, seed: np.ndarray) -> np.ndarray:
        return degradations.degrade_often(hr, scale, count, *map(int, seed))

    degraded = tf.numpy_function(degrade, [hr, seed], tf.uint8, stateful=False)  # [count, h, w, 3]
    images = tf.concat([lr[None], tf.ensure_shape(degraded, (count, None, None, 3))], axis=0)
    draws = tf.random.stateless_uniform([crops], tf.random.experimental.stateless_fold_in(seed, 0))
    chosen = tf.where(draws < degradations.PHOTO.clean, 0, 1 + tf.range(crops) // CROPS_PER_DEGRADATION)
    return [images[number] for number in tf.unstack(chosen)]


def read_train_example(
    example: tf.Tensor,
    hr_crop_size: int = 96,
    scale: int = 4,
    crops: int = 8,
    seed: tf.Tensor | None = None,
    degradation: str = "bicubic",
) -> tuple[TensorPair, ...]:
    """Draw several augmented crops from one serialized record, which is parsed once.

    Args:
        example: a scalar string, the record.
        hr_crop_size: the side of the HR crops in pixels.
        scale: the scaling factor of HR relative to LR.
        crops: the number of crops.
        seed: two integers that determine all crops. If None, they are drawn from TensorFlow's global generator.
        degradation: "bicubic" for the LR image of the record, or "photo" for LR images that `degradations.degrade`
            makes from the HR image. With "photo", a random part of the crops still has the LR image of the record.

    Returns:
        `crops` pairs of LR [hr_crop_size / scale, hr_crop_size / scale, 3] and HR [hr_crop_size, hr_crop_size, 3],
        uint8 in 0..255, each with a random flip and a random rotation by a multiple of 90 degrees.
    """
    lr, hr = tfrecords.parse(example, scale)
    seed = _seed_or_draw(seed)
    inputs = _inputs(lr, hr, crops, scale, degradation, seed)
    positions = tf.shape(lr)[:2] - hr_crop_size // scale + 1
    # All random numbers are drawn at once, because the number of operations limits the speed.
    position_seed, orientation_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    corners = tf.random.stateless_uniform([crops, 2], position_seed) * tf.cast(positions, tf.float32)
    orientations = tf.random.stateless_uniform([crops, 3], orientation_seed, maxval=2, dtype=tf.int32)
    # A function is traced once for all crops. This makes the graph in a third of the time.
    draw = tf.function(functools.partial(_augmented, hr_crop_size=hr_crop_size, scale=scale), autograph=False)
    numbers = zip(inputs, tf.unstack(tf.cast(corners, tf.int32)), tf.unstack(orientations), strict=True)
    return tuple(draw(image, hr, corner, orientation) for image, corner, orientation in numbers)


def _augmented(
    lr: tf.Tensor, hr: tf.Tensor, corner: tf.Tensor, orientation: tf.Tensor, hr_crop_size: int, scale: int
) -> TensorPair:
    """Crop both images at an LR position, int32 [2], and orient them by three integers, int32 [3]; see `_orient`."""
    pair = _crop(lr, hr, *tf.unstack(corner), hr_crop_size, scale)
    oriented = _orient(*pair, *tf.unstack(orientation))
    return tuple(map(tf.ensure_shape, oriented, (image.shape for image in pair)))


def read_test_example(
    example: tf.Tensor,
    hr_crop_size: int = 96,
    scale: int = 4,
    seed: tf.Tensor | None = None,
    degradation: str = "bicubic",
) -> TensorPair:
    """Return the center crop of one serialized record. Arguments and shapes are those of `read_train_example`."""
    lr, hr = tfrecords.parse(example, scale)
    (image,) = _inputs(lr, hr, 1, scale, degradation, _seed_or_draw(seed))
    return get_center_crop(image, hr, hr_crop_size, scale)


def load_dataset(
    filenames: Sequence[str],
    batch_size: int,
    train: bool = False,
    hr_crop_size: int = 96,
    scale: int = 4,
    crops_per_record: int = 32,
    seed: int | None = None,
    first_batch: int = 0,
    worker: int = 0,
    workers: int = 1,
    degradation: str = "bicubic",
) -> tf.data.Dataset:
    """Load batches of LR and HR crops from shards.

    For training, the dataset is endless, and photographs are drawn in proportion to their area. With a seed, a batch is
    a function of the seed and the number of the batch. The batches of several workers together are the batches of one
    worker with a larger batch size.

    Args:
        filenames: the paths of the shards, all of one split.
        batch_size: the number of pairs in a batch.
        train: whether to draw random augmented crops, in endless batches of the same size. Otherwise the dataset has
            the center crop of each record once, in order, and the last batch may be smaller.
        hr_crop_size: the side of the HR crops in pixels.
        scale: the scaling factor of HR relative to LR.
        crops_per_record: the number of crops from each reading of a training record.
        seed: the seed of the training batches. If None, it is random, and the order of batches depends on timing. Test
            pairs are the same in each call; for them, None means 0.
        first_batch: the number of the first training batch, from 0.
        worker: the index of this worker, from 0.
        workers: the number of workers that share the training batches.
        degradation: as in `read_train_example`, for test pairs, too.

    Returns:
        A dataset of LR [B, hr_crop_size / scale, hr_crop_size / scale, 3] and
        HR [B, hr_crop_size, hr_crop_size, 3], uint8 in 0..255.

    Raises:
        UserError: the training batch of all workers has more crops than one pass over the records.
    """
    options = tfrecords.dataset_options()
    if not train:
        pairs = _test_pairs(filenames, hr_crop_size, scale, seed or 0, degradation)
        return pairs.batch(batch_size).prefetch(tf.data.AUTOTUNE).with_options(options)
    records = tfrecords.locate_records(filenames)
    together = batch_size * workers
    check_batch_size(records, together, crops_per_record)
    options.deterministic = seed is not None
    seed = random.randrange(2**32) if seed is None else seed
    read_record = _reader(records, seed)

    @tf.autograph.experimental.do_not_convert
    def draw_crops(visit: tf.Tensor) -> tuple[TensorPair, ...]:
        crop_seed = tf.stack([seed, visit])
        return read_train_example(read_record(visit), hr_crop_size, scale, crops_per_record, crop_seed, degradation)

    # The crops of `batch_size` visits form a stack of batches. Each batch has one crop of every visit. A deal takes
    # batches from several stacks in turn. This separates the crops of a record without a copy of crops for shuffling.
    stacks = max(1, CROPS_IN_FLIGHT // (together * crops_per_record))
    deals, dealt = divmod(first_batch, stacks * crops_per_record)
    visits = tf.data.Dataset.range(deals * stacks * together + worker, tf.int64.max, workers)
    crops = visits.map(draw_crops, tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    batches = crops.interleave(_one_by_one, stacks, block_length=1).skip(dealt)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def check_batch_size(records: tfrecords.Locations, batch_size: int, crops_per_record: int) -> None:
    """Check that one pass over the training records fills a batch.

    Args:
        records: from `tfrecords.locate_records`.
        batch_size: the number of crops in the batch of all workers.
        crops_per_record: as in `load_dataset`.

    Raises:
        UserError: the batch has more crops than the pass.
    """
    crops = len(records.offsets) * crops_per_record
    if batch_size > crops:
        raise UserError(
            f"a batch of {batch_size} crops is too large: the {len(records.offsets)} training records give {crops} in "
            "a pass; choose a smaller batch size or more photographs"
        )


def _test_pairs(
    filenames: Sequence[str], hr_crop_size: int, scale: int, seed: int, degradation: str
) -> tf.data.Dataset:
    """Return the center crop of each record, in order. The arguments are those of `load_dataset`."""

    @tf.autograph.experimental.do_not_convert
    def read_middle(number: tf.Tensor, example: tf.Tensor) -> TensorPair:
        return read_test_example(example, hr_crop_size, scale, tf.stack([seed, number]), degradation)

    return tf.data.TFRecordDataset(filenames).enumerate().map(read_middle, tf.data.AUTOTUNE)


def _reader(records: tfrecords.Locations, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function that reads the record of a visit, given the number of the visit, a scalar int64.

    A pass has as many visits as there are records. The visits of a pass are evenly spaced over the total area of the
    photographs, with a random offset and in a random order. Records of equal area are read once in each pass, and
    records in general in proportion to their area.
    """
    paths, shards, offsets = map(tf.constant, (records.paths, records.shards, records.offsets))
    ends, count = tf.cumsum(tf.constant(records.areas, tf.float64)), len(records.offsets)

    def read(visit: tf.Tensor) -> tf.Tensor:
        pass_seed = tf.stack([seed, visit // count])
        position = tf.random.experimental.index_shuffle(visit % count, pass_seed, count - 1)
        start = tf.random.stateless_uniform([], pass_seed, dtype=tf.float64)
        area = (tf.cast(position, tf.float64) + start) / count * ends[-1]
        record = tf.minimum(tf.searchsorted(ends, area[None], side="right")[0], count - 1)
        return tfrecords.read_record(paths[shards[record]], offsets[record])

    return read


@tf.autograph.experimental.do_not_convert
def _one_by_one(*batches: TensorPair) -> tf.data.Dataset:
    datasets = map(tf.data.Dataset.from_tensors, batches)
    return functools.reduce(tf.data.Dataset.concatenate, datasets)


def load_test_pairs(
    filenames: Sequence[str],
    batch_size: int,
    hr_crop_size: int = 96,
    scale: int = 4,
    degradation: str = "bicubic",
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read all test batches of `load_dataset` as arrays. Arguments and shapes are those of `load_dataset`.

    Raises:
        UserError: a shard is damaged, or an image is smaller than a crop.
    """
    dataset = load_dataset(filenames, batch_size, hr_crop_size=hr_crop_size, scale=scale, degradation=degradation)
    try:
        with tfrecords.damage_named(filenames):
            return list(dataset.as_numpy_iterator())
    except tf.errors.InvalidArgumentError as error:
        folder = os.path.dirname(filenames[0])
        size = f"{hr_crop_size}x{hr_crop_size}"
        raise UserError(
            f"{folder}: images smaller than {size} pixels; choose a preset with smaller test crops"
        ) from error
