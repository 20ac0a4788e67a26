"""Aligned crops, flips and rotations of LR/HR pairs, and the datasets made of them."""

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
"""About how many crops a stream of training crops draws from in turn, over all workers together."""

CROPS_PER_DEGRADATION = 8
"""How many crops of a visit to a record come from one degraded image: they go to as many batches."""


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
    """Cut the same random square out of both pictures.

    Args:
        lr: [h, w, 3], any dtype.
        hr: [scale * h, scale * w, 3].
        hr_crop_size: the side of the HR square, a multiple of `scale`.
        scale: how many times larger `hr` is than `lr`.
        seed: two integers that settle the place; drawn from TensorFlow's global generator if None.

    Returns:
        LR [hr_crop_size / scale, hr_crop_size / scale, 3] and HR [hr_crop_size, hr_crop_size, 3].
    """
    places = tf.shape(lr)[:2] - hr_crop_size // scale + 1
    drawn = tf.random.stateless_uniform([2], _seed_or_draw(seed)) * tf.cast(places, tf.float32)
    top, left = tf.unstack(tf.cast(drawn, tf.int32))
    return _crop(lr, hr, top, left, hr_crop_size, scale)


def get_center_crop(lr: tf.Tensor, hr: tf.Tensor, hr_crop_size: int = 96, scale: int = 4) -> TensorPair:
    """Cut the square in the middle out of both pictures; shapes as in `random_crop`."""
    top, left = tf.unstack((tf.shape(lr)[:2] - hr_crop_size // scale) // 2)
    return _crop(lr, hr, top, left, hr_crop_size, scale)


def _orient(lr: tf.Tensor, hr: tf.Tensor, mirrored: tf.Tensor, flipped: tf.Tensor, transposed: tf.Tensor) -> TensorPair:
    """Mirror pictures left to right, then top to bottom, then exchange their axes; each of three is 0 or 1."""

    def orient(image: tf.Tensor) -> tf.Tensor:
        # One operation each, without a branch: reversing columns, gathering rows and transposing are what TensorFlow
        # has fast code for.
        rows = tf.range(tf.shape(image)[0])
        image = tf.raw_ops.Reverse(tensor=image, dims=tf.stack([False, mirrored > 0, False]))
        image = tf.gather(image, tf.abs(rows - flipped * rows[-1]))
        return tf.transpose(image, tf.stack([transposed, 1 - transposed, 2]))

    return orient(lr), orient(hr)


def random_flip(lr: tf.Tensor, hr: tf.Tensor, seed: tf.Tensor | None = None) -> TensorPair:
    """Mirror both pictures left to right, or neither; [H, W, 3], `seed` as in `random_crop`."""
    mirrored = tf.random.stateless_uniform([], _seed_or_draw(seed), maxval=2, dtype=tf.int32)
    return _orient(lr, hr, mirrored, 0, 0)


def random_rotate(lr: tf.Tensor, hr: tf.Tensor, seed: tf.Tensor | None = None) -> TensorPair:
    """Turn both pictures by the same multiple of 90 degrees; [H, W, 3], `seed` as in `random_crop`."""
    turns = tf.random.stateless_uniform([], _seed_or_draw(seed), maxval=4, dtype=tf.int32)
    return _orient(lr, hr, (turns + 1) // 2 % 2, turns // 2, turns % 2)


def _inputs(lr: tf.Tensor, hr: tf.Tensor, crops: int, scale: int, degradation: str, seed: tf.Tensor) -> list[tf.Tensor]:
    """Return the LR [h, w, 3] that each crop is to be cut out of: the record's own, or made of its HR."""
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
    """Draw several augmented crops from one serialized record, which is read and parsed once for all of them.

    Args:
        example: a scalar string, the record.
        hr_crop_size: the side of the HR crops.
        scale: how many times larger HR is than LR.
        crops: how many crops to draw.
        seed: two integers that settle all of them; drawn from TensorFlow's global generator if None.
        degradation: one of `config.DEGRADATIONS`: the record's LR as it is, or LR made of its HR by
            `degradations.degrade` for all but a random part of the crops.

    Returns:
        So many pairs of LR [hr_crop_size / scale, hr_crop_size / scale, 3] and HR [hr_crop_size, hr_crop_size, 3],
        uint8 in 0..255, each mirrored or not and turned by any multiple of 90 degrees.
    """
    lr, hr = tfrecords.parse(example, scale)
    seed = _seed_or_draw(seed)
    inputs = _inputs(lr, hr, crops, scale, degradation, seed)
    places = tf.shape(lr)[:2] - hr_crop_size // scale + 1
    # All numbers at once: with so little work a crop, the number of operations counts.
    place_seed, orientation_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    corners = tf.random.stateless_uniform([crops, 2], place_seed) * tf.cast(places, tf.float32)
    orientations = tf.random.stateless_uniform([crops, 3], orientation_seed, maxval=2, dtype=tf.int32)
    pairs = []
    corners = tf.unstack(tf.cast(corners, tf.int32))
    for image, corner, orientation in zip(inputs, corners, tf.unstack(orientations), strict=True):
        pair = _crop(image, hr, *tf.unstack(corner), hr_crop_size, scale)
        oriented = _orient(*pair, *tf.unstack(orientation))
        pairs.append(tuple(map(tf.ensure_shape, oriented, (image.shape for image in pair))))
    return tuple(pairs)


def read_test_example(
    example: tf.Tensor,
    hr_crop_size: int = 96,
    scale: int = 4,
    seed: tf.Tensor | None = None,
    degradation: str = "bicubic",
) -> TensorPair:
    """Cut the middle out of one serialized record; one pair, otherwise as `read_train_example`."""
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
    """Load batches of LR and HR squares from shards.

    For training, a stream of crops without end, photographs drawn in proportion to their area. With a seed it is a
    function of the seed and the batch's number, and several workers' batches together are those of one worker with
    larger ones.

    Args:
        filenames: the shards, all of one split.
        batch_size: pairs a batch.
        train: whether to draw random augmented crops without end, in batches of one size; otherwise each record
            gives its middle, once and in order, and the last batch may be smaller.
        hr_crop_size: the side of the HR squares.
        scale: how many times larger HR is than LR.
        crops_per_record: crops drawn each time that a record is read for training.
        seed: settles the whole stream of training batches; if None, it differs each time, and whatever is ready first
            comes first. Test pairs are the same each time: there, None means 0.
        first_batch: the number of the training batch to begin with.
        worker: which of the workers reads, from 0.
        workers: how many workers share the training stream.
        degradation: as in `read_train_example`, for test pairs too.

    Returns:
        A dataset of LR [B, hr_crop_size / scale, hr_crop_size / scale, 3] and
        HR [B, hr_crop_size, hr_crop_size, 3], uint8 in 0..255.

    Raises:
        UserError: a training batch of all workers has more crops than a pass over the records gives.
    """
    if not train:

        def read_middle(number: tf.Tensor, example: tf.Tensor) -> TensorPair:
            return read_test_example(example, hr_crop_size, scale, tf.stack([seed or 0, number]), degradation)

        pairs = tf.data.TFRecordDataset(filenames).enumerate().map(read_middle, tf.data.AUTOTUNE)
        return pairs.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    records = tfrecords.locate_records(filenames)
    together = batch_size * workers
    if together > len(records.offsets) * crops_per_record:
        raise UserError(
            f"a batch of {together} crops is too large: the {len(records.offsets)} training records give "
            f"{len(records.offsets) * crops_per_record} in a pass; take a smaller batch or more photographs"
        )
    options = tf.data.Options()
    options.deterministic = seed is not None
    seed = random.randrange(2**32) if seed is None else seed
    read_record = _reader(records, seed)

    def draw_crops(visit: tf.Tensor) -> tuple[TensorPair, ...]:
        place = tf.stack([seed, visit])
        return read_train_example(read_record(visit), hr_crop_size, scale, crops_per_record, place, degradation)

    # The crops of `batch_size` visits are a stack of batches, each with one crop of every visit. A deal takes from
    # several stacks in turn: so crops of a record stay apart, and none is copied to be shuffled.
    stacks = max(1, CROPS_IN_FLIGHT // (together * crops_per_record))
    deals, dealt = divmod(first_batch, stacks * crops_per_record)
    visits = tf.data.Dataset.range(deals * stacks * together + worker, tf.int64.max, workers)
    crops = visits.map(draw_crops, tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    batches = crops.interleave(_one_by_one, stacks, block_length=1).skip(dealt)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _reader(records: tfrecords.Places, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return what reads the record of a visit, given its number, a scalar int64.

    A pass of as many visits as there are records goes evenly over the area of all photographs, in an order of its own
    and from a start of its own: so pieces of one size are read once each, and others in proportion to their area.
    """
    paths, shards, offsets = map(tf.constant, (records.paths, records.shards, records.offsets))
    ends, count = tf.cumsum(tf.constant(records.areas, tf.float64)), len(records.offsets)

    def read(visit: tf.Tensor) -> tf.Tensor:
        pass_seed = tf.stack([seed, visit // count])
        place = tf.random.experimental.index_shuffle(visit % count, pass_seed, count - 1)
        start = tf.random.stateless_uniform([], pass_seed, dtype=tf.float64)
        area = (tf.cast(place, tf.float64) + start) / count * ends[-1]
        record = tf.minimum(tf.searchsorted(ends, area[None], side="right")[0], count - 1)
        return tfrecords.read_record(paths[shards[record]], offsets[record])

    return read


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
    """Read the batches that `load_dataset` gives for testing; arguments and shapes are as there.

    Raises:
        UserError: a shard is damaged, or a picture smaller than the squares.
    """
    dataset = load_dataset(filenames, batch_size, hr_crop_size=hr_crop_size, scale=scale, degradation=degradation)
    try:
        with tfrecords.damage_named(filenames):
            return list(dataset.as_numpy_iterator())
    except tf.errors.InvalidArgumentError as error:
        folder = os.path.dirname(filenames[0])
        size = f"{hr_crop_size}x{hr_crop_size}"
        raise UserError(
            f"{folder}: pictures of less than {size} pixels; choose a preset that measures smaller ones"
        ) from error
