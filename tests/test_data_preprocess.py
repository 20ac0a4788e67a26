import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
from conftest import enlarged, write_records

from pyimagesearch import data_preprocess
from pyimagesearch.data import degradations, tfrecords
from pyimagesearch.data.pairs import Pair
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


def test_images_are_mirrored_or_not(make_pair):
    pair = make_pair(5, 6)
    assert outcomes(data_preprocess.random_flip, pair) == {pair.lr.tobytes(), pair.lr[:, ::-1].tobytes()}


def test_images_are_turned_by_every_multiple_of_90_degrees(make_pair):
    pair = make_pair(5, 6)
    turned = {np.rot90(pair.lr, turns).tobytes() for turns in range(4)}
    assert outcomes(data_preprocess.random_rotate, pair) == turned


def test_every_position_is_cropped_to_the_last_pixel():
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
    pairs = data_preprocess.read_train_example(example, hr_crop_size=32, crops=5)
    for lr, hr in pairs:
        assert lr.shape == (8, 8, 3) and hr.shape == (32, 32, 3) and lr.dtype == hr.dtype == tf.uint8
        np.testing.assert_array_equal(hr, enlarged(lr.numpy()))
    assert len({lr.numpy().tobytes() for lr, _ in pairs}) == 5


def test_training_crops_have_every_position_and_all_eight_orientations():
    lr = np.zeros((9, 8, 3), np.uint8)
    lr[..., 0], lr[..., 1] = np.mgrid[:9, :8]
    example = tf.constant(tfrecords.serialize(Pair("", lr, enlarged(lr))))
    crops = [lr for lr, _ in data_preprocess.read_train_example(example, hr_crop_size=32, crops=300, seed=(1, 2))]
    expected = collections.Counter()
    for top in range(2):
        for turns in range(4):
            square = np.rot90(lr[top : top + 8], turns)
            expected.update((square.tobytes(), square[:, ::-1].tobytes()))
    found = collections.Counter(crop.numpy().tobytes() for crop in crops)
    assert found.keys() == expected.keys() and len(expected) == 16
    assert max(found.values()) < 40  # of 300; 19 on average


def test_photographed_crops_belong_to_the_same_hr_and_some_stay_clean(make_pair):
    example = tf.constant(tfrecords.serialize(make_pair()))
    read = functools.partial(data_preprocess.read_train_example, example, hr_crop_size=32, crops=200, seed=(1, 2))
    likenesses, clean = [], 0
    for (lr, hr), (photographed, same_hr) in zip(read(), read(degradation="photo"), strict=True):
        assert photographed.shape == (8, 8, 3) and photographed.dtype == tf.uint8
        np.testing.assert_array_equal(same_hr, hr)
        likenesses.append(np.corrcoef(lr.numpy().ravel(), photographed.numpy().ravel())[0, 1])
        clean += (lr.numpy() == photographed.numpy()).all()
    assert np.median(likenesses) > 0.4 and min(likenesses) > 0.1  # of noise: other crops would have 0 on average
    assert clean == pytest.approx(200 * degradations.PHOTO.clean, abs=15)


LOAD = functools.partial(data_preprocess.load_dataset, train=True, hr_crop_size=32, crops_per_record=8, seed=42)


@pytest.fixture
def shards(tmp_path, make_pair):
    pairs = [make_pair(seed=seed) for seed in range(5)]
    write_records(tmp_path, {"train": pairs}, shard_size=2)
    return tfrecords.find_shards(str(tmp_path), "train", 4)


def test_training_batches_are_endless_and_of_one_size(shards):
    dataset = LOAD(shards, 7)
    assert dataset.element_spec[0].shape == (7, 8, 8, 3) and dataset.element_spec[1].shape == (7, 32, 32, 3)
    batches = list(dataset.take(20).as_numpy_iterator())  # 140 crops of 5 records, 8 a visit: more than 3 passes
    assert len(batches) == 20
    for lr, hr in batches:
        np.testing.assert_array_equal(hr, enlarged(lr))


@pytest.mark.parametrize("train", [True, False])
def test_no_dataset_is_autotuned_because_its_end_could_take_a_minute(shards, train):
    dataset = data_preprocess.load_dataset(shards, 2, train, hr_crop_size=32)
    assert dataset.options().autotune.enabled is False


def test_the_seed_determines_the_stream(shards):
    def first_batches(seed):
        dataset = LOAD(shards, 4, seed=seed)
        return np.stack([lr for lr, _ in dataset.take(3).as_numpy_iterator()])

    assert (first_batches(1) == first_batches(1)).all()
    assert (first_batches(1) != first_batches(2)).any()


def test_without_a_seed_the_stream_differs_each_time(shards):
    first, second = (first_crops(shards, 3, seed=None) for _ in range(2))
    assert first.shape == second.shape and (first != second).any()
    assert not LOAD(shards, 4, seed=None).options().deterministic
    assert LOAD(shards, 4, seed=0).options().deterministic


def first_crops(shards, count, batch_size=4, **options):
    """The LR of the first batches, [count * batch_size, 8, 8, 3]."""
    dataset = LOAD(shards, batch_size, **options)
    return np.concatenate([lr for lr, _ in dataset.take(count).as_numpy_iterator()])


# A stack has 8 batches, a deal 128 stacks.
@pytest.mark.parametrize(
    ("first", "degradation"), [(9, "bicubic"), (1023, "bicubic"), (1024, "bicubic"), (9, "photo"), (1024, "photo")]
)
def test_the_stream_can_be_entered_at_any_batch(shards, first, degradation):
    load = functools.partial(first_crops, shards, degradation=degradation)
    np.testing.assert_array_equal(load(2, first_batch=first), load(first + 2)[first * 4 :])


@pytest.mark.parametrize(("workers", "first", "degradation"), [(2, 0, "photo"), (4, 520, "bicubic")])
def test_workers_share_the_batches_of_one(shards, workers, first, degradation):
    load = functools.partial(first_crops, shards, 3, first_batch=first, degradation=degradation)
    whole = load()
    parts = [load(batch_size=4 // workers, worker=worker, workers=workers) for worker in range(workers)]
    for number in range(3):
        together = np.concatenate([part[number * 4 // workers :][: 4 // workers] for part in parts])
        assert {crop.tobytes() for crop in together} == {crop.tobytes() for crop in whole[number * 4 :][:4]}


def drawn(tmp_path, pairs, passes):
    """The numbers of the records that the crops of several passes come from. Each record has one crop position."""
    write_records(tmp_path, {"train": pairs})
    numbers = {np.sort(pair.lr, axis=None).tobytes(): number for number, pair in enumerate(pairs)}
    crops = first_crops(tfrecords.find_shards(str(tmp_path), "train", 4), passes, len(pairs), crops_per_record=1)
    return [numbers[np.sort(crop, axis=None).tobytes()] for crop in crops]


def test_each_pass_reads_every_record_once_in_an_order_of_its_own(tmp_path, make_pair):
    order = drawn(tmp_path, [make_pair(8, 8, seed=seed) for seed in range(30)], 3)
    passes = [order[:30], order[30:60], order[60:]]
    assert all(sorted(one) == list(range(30)) for one in passes)
    assert passes[0] != passes[1] != passes[2] != list(range(30))


def test_records_are_drawn_in_proportion_to_their_area(tmp_path, make_pair):
    areas = [1, 2, 3, 6, 18]
    order = drawn(tmp_path, [make_pair(8, 8, seed=area)._replace(area=area) for area in areas], 60)
    counts = collections.Counter(order)
    assert [counts[number] for number in range(5)] == [pytest.approx(area * 10, abs=area * 2 + 4) for area in areas]


def test_a_batch_larger_than_the_data_is_refused(shards):
    LOAD(shards, 40)
    for batch_size, workers in ((41, 1), (21, 2)):
        with pytest.raises(UserError, match="a batch of 4[12] crops is too large: the 5 training records give 40"):
            LOAD(shards, batch_size, workers=workers)


def test_test_pairs_come_once_in_order_from_the_middle(shards, make_pair):
    batches = list(data_preprocess.load_dataset(shards, 2, hr_crop_size=32).as_numpy_iterator())
    assert [len(lr) for lr, _ in batches] == [2, 2, 1]
    for seed, lr in enumerate(np.concatenate([lr for lr, _ in batches])):
        pair = make_pair(seed=seed)
        np.testing.assert_array_equal(lr, CENTER(pair.lr, pair.hr)[0])


def test_photographed_test_pairs_are_the_same_each_time(shards):
    first, again, clean = (
        np.concatenate([lr for lr, _ in data_preprocess.load_test_pairs(shards, 2, 32, degradation=degradation)])
        for degradation in ("photo", "photo", "bicubic")
    )
    np.testing.assert_array_equal(first, again)
    assert (first != clean).any(axis=(1, 2, 3)).sum() >= 2
