"""Aligned crops, flips and rotations of LR/HR pairs, and the datasets made of them."""

from collections.abc import Sequence

import tensorflow as tf

from pyimagesearch import tfrecords

Pair = tuple[tf.Tensor, tf.Tensor]

RECORDS_SHUFFLED = 64
CROPS_SHUFFLED = 2048


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
) -> tf.data.Dataset:
    """Load batches of LR and HR squares from shards.

    Args:
        filenames: the shards.
        batch_size: pairs a batch.
        train: whether to draw random augmented crops without end, in batches of one size; otherwise each record
            gives its middle, once and in order, and the last batch may be smaller.
        hr_crop_size: the side of the HR squares.
        scale: how many times larger HR is than LR.
        crops_per_record: crops drawn each time that a record is read for training.
        seed: settles the whole stream of training batches.

    Returns:
        A dataset of LR [B, hr_crop_size / scale, hr_crop_size / scale, 3] and
        HR [B, hr_crop_size, hr_crop_size, 3], uint8 in 0..255.
    """
    if not train:
        records = tf.data.TFRecordDataset(filenames)
        pairs = records.map(lambda example: read_test_example(example, hr_crop_size, scale), tf.data.AUTOTUNE)
        return pairs.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def draw_crops(index: tf.Tensor, example: tf.Tensor) -> Pair:
        record_seed = tf.stack([tf.constant(seed, tf.int64), index])
        return read_train_example(example, hr_crop_size, scale, crops_per_record, record_seed)

    shards = tf.data.Dataset.from_tensor_slices(list(filenames)).shuffle(len(filenames), seed)
    records = shards.interleave(tf.data.TFRecordDataset, cycle_length=16, num_parallel_calls=tf.data.AUTOTUNE)
    records = records.shuffle(RECORDS_SHUFFLED, seed).repeat()
    crops = records.enumerate().map(draw_crops, tf.data.AUTOTUNE).unbatch()
    return crops.shuffle(CROPS_SHUFFLED, seed).batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
