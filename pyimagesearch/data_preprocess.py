"""Aligned crops, flips and rotations of LR/HR pairs, and the datasets made of them."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pyimagesearch import tfrecords
from pyimagesearch.errors import UserError

Pair = tuple[tf.Tensor, tf.Tensor]

RECORDS_IN_FLIGHT = 240
"""Records from which a stream of training crops draws in turn, over all workers together."""


def _seed_or_draw(seed: tf.Tensor | None) -> tf.Tensor:
    if seed is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return tf.convert_to_tensor(seed)


def _crop(lr: tf.Tensor, hr: tf.Tensor, top: tf.Tensor, left: tf.Tensor, hr_crop_size: int, scale: int) -> Pair:
    size = hr_crop_size // scale
    lr = lr[top : top + size, left : left + size]
    hr = hr[top * scale : (top + size) * scale, left * scale : (left + size) * scale]
    return tf.ensure_shape(lr, (size, size, 3)), tf.ensure_shape(hr, (size * scale, size * scale, 3))


def random_crop(
    lr: tf.Tensor, hr: tf.Tensor, hr_crop_size: int = 96, scale: int = 4, seed: tf.Tensor | None = None
) -> Pair:
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


def get_center_crop(lr: tf.Tensor, hr: tf.Tensor, hr_crop_size: int = 96, scale: int = 4) -> Pair:
    """Cut the square in the middle out of both pictures; shapes as in `random_crop`."""
    top, left = tf.unstack((tf.shape(lr)[:2] - hr_crop_size // scale) // 2)
    return _crop(lr, hr, top, left, hr_crop_size, scale)


def random_flip(lr: tf.Tensor, hr: tf.Tensor, seed: tf.Tensor | None = None) -> Pair:
    """Mirror both pictures left to right, or neither; [H, W, 3], `seed` as in `random_crop`."""
    mirrored = tf.random.stateless_uniform([], _seed_or_draw(seed)) < 0.5
    axes = tf.boolean_mask([1], [mirrored])
    return tf.reverse(lr, axes), tf.reverse(hr, axes)


def random_rotate(lr: tf.Tensor, hr: tf.Tensor, seed: tf.Tensor | None = None) -> Pair:
    """Turn both pictures by the same multiple of 90 degrees; [H, W, 3], `seed` as in `random_crop`."""
    turns = tf.random.stateless_uniform([], _seed_or_draw(seed), maxval=4, dtype=tf.int32)
    # Without a branch for each angle: a quarter turn is a transposition and a reversal.
    order = tf.where(turns % 2 == 1, (1, 0, 2), (0, 1, 2))
    axes = tf.boolean_mask([0, 1], [(turns == 1) | (turns == 2), turns >= 2])
    return tf.reverse(tf.transpose(lr, order), axes), tf.reverse(tf.transpose(hr, order), axes)


def read_train_example(
    example: tf.Tensor, hr_crop_size: int = 96, scale: int = 4, crops: int = 8, seed: tf.Tensor | None = None
) -> Pair:
    """Draw several augmented crops from one serialized record, which is read and parsed once for all of them.

    Args:
        example: a scalar string, the record.
        hr_crop_size: the side of the HR crops.
        scale: how many times larger HR is than LR.
        crops: how many crops to draw.
        seed: two integers that settle all of them; drawn from TensorFlow's global generator if None.

    Returns:
        LR [crops, hr_crop_size / scale, hr_crop_size / scale, 3] and
        HR [crops, hr_crop_size, hr_crop_size, 3], uint8 in 0..255.
    """
    picture = tfrecords.parse(example, scale)
    pairs = []
    for crop_seed in tf.unstack(tf.random.experimental.stateless_split(_seed_or_draw(seed), crops)):
        seeds = tf.unstack(tf.random.experimental.stateless_split(crop_seed, 3))
        lr, hr = random_crop(*picture, hr_crop_size, scale, seeds[0])
        lr, hr = random_flip(lr, hr, seeds[1])
        pairs.append(random_rotate(lr, hr, seeds[2]))
    lr, hr = (tf.stack(images) for images in zip(*pairs, strict=True))
    size = hr_crop_size // scale
    return tf.ensure_shape(lr, (crops, size, size, 3)), tf.ensure_shape(hr, (crops, hr_crop_size, hr_crop_size, 3))


def read_test_example(example: tf.Tensor, hr_crop_size: int = 96, scale: int = 4) -> Pair:
    """Cut the middle out of one serialized record; one pair, otherwise as `read_train_example`."""
    return get_center_crop(*tfrecords.parse(example, scale), hr_crop_size, scale)


def load_dataset(
    filenames: Sequence[str],
    batch_size: int,
    train: bool = False,
    hr_crop_size: int = 96,
    scale: int = 4,
    crops_per_record: int = 8,
    seed: int = 42,
    first_batch: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Load batches of LR and HR squares from shards.

    For training, the stream of crops without end is a function of the seed and the batch's number: each pass reads the
    records in an order of its own, and each batch takes its crops from as many records as it can. Several workers read
    disjoint parts of the same stream, so that their batches together are those of one worker with larger ones; that
    is so if their number divides `RECORDS_IN_FLIGHT`, otherwise they have a stream of their own.

    Args:
        filenames: the shards, all of one split.
        batch_size: pairs a batch.
        train: whether to draw random augmented crops without end, in batches of one size; otherwise each record
            gives its middle, once and in order, and the last batch may be smaller.
        hr_crop_size: the side of the HR squares.
        scale: how many times larger HR is than LR.
        crops_per_record: crops drawn each time that a record is read for training.
        seed: settles the whole stream of training batches.
        first_batch: the number of the training batch to begin with.
        worker: which of the workers reads, from 0.
        workers: how many workers share the training stream; at most `RECORDS_IN_FLIGHT`.

    Returns:
        A dataset of LR [B, hr_crop_size / scale, hr_crop_size / scale, 3] and
        HR [B, hr_crop_size, hr_crop_size, 3], uint8 in 0..255.

    Raises:
        UserError: a training batch of all workers has more crops than a pass over the records gives.
    """
    if not train:
        records = tf.data.TFRecordDataset(filenames)
        pairs = records.map(lambda example: read_test_example(example, hr_crop_size, scale), tf.data.AUTOTUNE)
        return pairs.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    paths, offsets = map(tf.constant, tfrecords.locate_records(filenames))
    count = len(offsets)
    if batch_size * workers > count * crops_per_record:
        raise UserError(
            f"--batch-size: {batch_size * workers} crops a step, but the {count} training records give only "
            f"{count * crops_per_record} a pass; take a smaller batch or more photographs"
        )

    def draw_crops(visit: tf.Tensor) -> Pair:
        visit_pass, place = visit // count, visit % count
        record = tf.random.experimental.index_shuffle(place, tf.stack([seed, visit_pass]), count - 1)
        example = tfrecords.read_record(paths[record], offsets[record])
        return read_train_example(example, hr_crop_size, scale, crops_per_record, tf.stack([seed, visit]))

    in_flight = RECORDS_IN_FLIGHT // workers
    crops_in_flight = in_flight * crops_per_record
    group, passed_over = divmod(first_batch * batch_size, crops_in_flight)
    visits = tf.data.Dataset.range(group * in_flight * workers + worker, tf.int64.max, workers)
    records = visits.map(draw_crops, tf.data.AUTOTUNE).prefetch(in_flight)
    # One crop of each record in flight, then the next of each: records stay apart without copying crops about.
    crops = records.interleave(lambda lr, hr: tf.data.Dataset.from_tensor_slices((lr, hr)), in_flight, block_length=1)
    return crops.skip(passed_over).batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def load_test_pairs(
    filenames: Sequence[str], batch_size: int, hr_crop_size: int = 96, scale: int = 4
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read the batches that `load_dataset` gives for testing; arguments and shapes are as there.

    Raises:
        UserError: a shard is damaged, or a picture smaller than the squares.
    """
    dataset = load_dataset(filenames, batch_size, hr_crop_size=hr_crop_size, scale=scale)
    try:
        with tfrecords.damage_named(filenames):
            return list(dataset.as_numpy_iterator())
    except tf.errors.InvalidArgumentError as error:
        folder = os.path.dirname(filenames[0])
        size = f"{hr_crop_size}x{hr_crop_size}"
        raise UserError(f"{folder}: pictures of less than {size} pixels; choose another --preset") from error
