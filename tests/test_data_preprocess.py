import functools

import numpy as np
import pytest
import tensorflow as tf
from conftest import enlarged

from pyimagesearch import data_preprocess, tfrecords
from pyimagesearch.errors import UserError

CROP = functools.partial(data_preprocess.random_crop, hr_crop_size=32)
CENTER = functools.partial(data_preprocess.get_center_crop, hr_crop_size=32)


def in_tf_data(transform, lr, hr):
    return next(iter(tf.data.Dataset.from_tensors((lr, hr)).map(transform)))


def eagerly(transform, lr, hr):
    return transform(lr, hr)


@pytest.mark.parametrize("run", [eagerly, in_tf_data])
@pytest.mark.parametrize("transform", [CROP, CENTER, data_preprocess.random_flip, data_preprocess.random_rotate])
def test_lr_and_hr_stay_aligned(make_pair, transform, run):
    pair = make_pair(24, 24)
    for _ in range(10):
        lr, hr = run(transform, pair.lr, pair.hr)
        np.testing.assert_array_equal(hr, enlarged(lr.numpy()))


def outcomes(transform, pair):
    return {transform(pair.lr, pair.hr)[0].numpy().tobytes() for _ in range(60)}


def test_pictures_are_mirrored_or_not(make_pair):
    pair = make_pair(5, 6)
    assert outcomes(data_preprocess.random_flip, pair) == {pair.lr.tobytes(), pair.lr[:, ::-1].tobytes()}


def test_pictures_are_turned_by_every_multiple_of_90_degrees(make_pair):
    pair = make_pair(5, 6)
    turned = {np.rot90(pair.lr, turns).tobytes() for turns in range(4)}
    assert outcomes(data_preprocess.random_rotate, pair) == turned


def test_every_place_is_cropped_to_the_last_pixel():
    lr = np.zeros((10, 9, 3), np.uint8)
    lr[..., 0], lr[..., 1] = np.mgrid[:10, :9]
    crops = [CROP(lr, enlarged(lr))[0].numpy() for _ in range(100)]
    assert {tuple(crop[0, 0, :2]) for crop in crops} == {(y, x) for y in range(3) for x in range(2)}


def test_the_center_crop_is_the_middle(make_pair):
    pair = make_pair(12, 10)
    lr, _ = CENTER(pair.lr, pair.hr)
    np.testing.assert_array_equal(lr, pair.lr[2:10, 1:9])


def test_the_same_seed_draws_the_same_crop(make_pair):
    pair = make_pair()
    first, second, other = (CROP(pair.lr, pair.hr, seed=(1, seed))[0].numpy() for seed in (5, 5, 6))
    assert (first == second).all() and (first != other).any()


def test_a_training_record_gives_different_aligned_crops(make_pair):
    example = tf.constant(tfrecords.serialize(make_pair()))
    lr, hr = data_preprocess.read_train_example(example, hr_crop_size=32, crops=5)
    assert lr.shape == (5, 8, 8, 3) and hr.shape == (5, 32, 32, 3) and lr.dtype == hr.dtype == tf.uint8
    np.testing.assert_array_equal(hr, enlarged(lr.numpy()))
    assert len({crop.numpy().tobytes() for crop in lr}) == 5


@pytest.fixture
def shards(tmp_path, make_pair):
    pairs = [make_pair(seed=seed) for seed in range(5)]
    tfrecords.write_records(str(tmp_path), {"train": pairs}, shard_size=2, scale=4)
    return tfrecords.find_shards(str(tmp_path), "train", 4)


def test_training_batches_are_endless_and_of_one_size(shards):
    dataset = data_preprocess.load_dataset(shards, 7, train=True, hr_crop_size=32)
    assert dataset.element_spec[0].shape == (7, 8, 8, 3) and dataset.element_spec[1].shape == (7, 32, 32, 3)
    batches = list(dataset.take(20).as_numpy_iterator())  # 140 crops of 5 records, 8 a visit: more than 3 passes
    assert len(batches) == 20
    for lr, hr in batches:
        np.testing.assert_array_equal(hr, enlarged(lr))


def test_the_seed_settles_the_stream(shards):
    def first_batches(seed):
        dataset = data_preprocess.load_dataset(shards, 4, train=True, hr_crop_size=32, seed=seed)
        return np.stack([lr for lr, _ in dataset.take(3).as_numpy_iterator()])

    assert (first_batches(1) == first_batches(1)).all()
    assert (first_batches(1) != first_batches(2)).any()


def first_crops(shards, count, batch_size=4, **options):
    """The LR of the first batches, [count * batch_size, 8, 8, 3]."""
    dataset = data_preprocess.load_dataset(shards, batch_size, train=True, hr_crop_size=32, **options)
    return np.concatenate([lr for lr, _ in dataset.take(count).as_numpy_iterator()])


@pytest.mark.parametrize("first", [9, 479, 480])  # 480 batches of 4 make up the records in flight
def test_the_stream_can_be_entered_at_any_batch(shards, first):
    whole = first_crops(shards, 482)
    np.testing.assert_array_equal(first_crops(shards, 2, first_batch=first), whole[first * 4 : first * 4 + 8])


@pytest.mark.parametrize(("workers", "first"), [(2, 0), (4, 520)])
def test_workers_share_the_batches_of_one(shards, workers, first):
    whole = first_crops(shards, 3, first_batch=first)
    parts = [
        first_crops(shards, 3, 4 // workers, worker=worker, workers=workers, first_batch=first)
        for worker in range(workers)
    ]
    for number in range(3):
        together = np.concatenate([part[number * 4 // workers :][: 4 // workers] for part in parts])
        assert {crop.tobytes() for crop in together} == {crop.tobytes() for crop in whole[number * 4 :][:4]}


def test_each_pass_reads_every_record_once_in_an_order_of_its_own(tmp_path, make_pair):
    pairs = [make_pair(8, 8, seed=seed) for seed in range(30)]  # a record has one place for a crop, in 8 positions
    tfrecords.write_records(str(tmp_path), {"train": pairs}, shard_size=4, scale=4)
    crops = first_crops(tfrecords.find_shards(str(tmp_path), "train", 4), 3, 30)
    numbers = {np.sort(pair.lr, axis=None).tobytes(): seed for seed, pair in enumerate(pairs)}
    order = [numbers[np.sort(crop, axis=None).tobytes()] for crop in crops]
    passes = [order[:30], order[30:60], order[60:]]
    assert all(sorted(one) == list(range(30)) for one in passes)
    assert passes[0] != passes[1] != passes[2] != list(range(30))


def test_a_batch_larger_than_the_data_is_refused(shards):
    data_preprocess.load_dataset(shards, 40, train=True, hr_crop_size=32)
    for batch_size, workers in ((41, 1), (21, 2)):
        with pytest.raises(
            UserError, match="--batch-size: 4[12] crops a step, but the 5 training records give only 40"
        ):
            data_preprocess.load_dataset(shards, batch_size, train=True, hr_crop_size=32, workers=workers)


def test_test_pairs_come_once_in_order_from_the_middle(shards, make_pair):
    batches = list(data_preprocess.load_dataset(shards, 2, hr_crop_size=32).as_numpy_iterator())
    assert [len(lr) for lr, _ in batches] == [2, 2, 1]
    for seed, lr in enumerate(np.concatenate([lr for lr, _ in batches])):
        pair = make_pair(seed=seed)
        np.testing.assert_array_equal(lr, CENTER(pair.lr, pair.hr)[0])
