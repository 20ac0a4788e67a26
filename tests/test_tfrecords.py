import json
import os

import numpy as np
import pytest
import tensorflow as tf

from pyimagesearch import tfrecords
from pyimagesearch.errors import UserError


@pytest.fixture
def root(tmp_path, make_pair):
    """Records of five training pairs in shards of two, and one test pair."""
    splits = {"train": (make_pair(name=f"{i}.png", seed=i) for i in range(5)), "test": [make_pair(seed=9)]}
    assert tfrecords.write_records(str(tmp_path), splits, shard_size=2, scale=4) == {"train": 5, "test": 1}
    return tmp_path


def find(root, split="train", scale=4):
    return tfrecords.find_shards(str(root), split, scale)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_record_gives_back_every_bit(make_pair, scale):
    pair = make_pair(17, 31, scale)
    lr, hr = tfrecords.parse(tf.constant(tfrecords.serialize(pair)), scale)
    np.testing.assert_array_equal(lr, pair.lr)
    np.testing.assert_array_equal(hr, pair.hr)


def test_a_record_tells_where_it_comes_from(make_pair):
    pair = make_pair(name="Zürich bei Nacht.jpg")._replace(top=12, left=7)
    feature = tf.train.Example.FromString(tfrecords.serialize(pair)).features.feature
    assert feature["name"].bytes_list.value[0].decode() == "Zürich bei Nacht.jpg"
    assert [feature[key].int64_list.value[0] for key in ("top", "left")] == [12, 7]


def test_shards_are_named_by_number_and_count(root):
    assert sorted(path.name for path in (root / "train").iterdir()) == ["00-2.tfrec", "01-2.tfrec", "02-1.tfrec"]


def test_shards_hold_the_pairs_in_order(root, make_pair):
    records = tf.data.TFRecordDataset(find(root))
    for i, (lr, _) in enumerate(records.map(tfrecords.parse)):
        np.testing.assert_array_equal(lr, make_pair(seed=i).lr)
    assert i == 4


def test_a_failure_leaves_nothing_behind(tmp_path, make_pair):
    def pairs():
        yield from (make_pair() for _ in range(3))
        raise UserError("broken.jpg: not a readable picture")

    with pytest.raises(UserError, match="broken.jpg"):
        tfrecords.write_records(str(tmp_path), {"train": pairs()}, shard_size=2, scale=4)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_records_are_not_overwritten(root, make_pair):
    before = (root / "train" / "00-2.tfrec").read_bytes()
    with pytest.raises(UserError, match=f"{root}: holds records already"):
        tfrecords.write_records(str(root), {"train": [make_pair()] * 2}, shard_size=2, scale=4)
    assert (root / "train" / "00-2.tfrec").read_bytes() == before


def test_a_folder_without_finished_records_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: no finished records.*create_tfrecords.py"):
        find(tmp_path)


def test_a_shard_cut_short_is_named(root):
    shard = root / "train" / "01-2.tfrec"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{shard}: damaged"):
        find(root)


def test_a_missing_shard_is_named(root):
    shard = root / "train" / "01-2.tfrec"
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard}: missing"):
        find(root)


def test_another_scale_is_refused(root):
    with pytest.raises(UserError, match="--scaling-factor 4, not 2"):
        find(root, scale=2)


@pytest.mark.parametrize("manifest", ['{"format": 0}', "[]", "{", '{"splits": '])
def test_another_format_is_refused(root, manifest):
    (root / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match="manifest.json: "):
        find(root)


def test_the_manifest_lists_what_is_there(root):
    manifest = json.loads((root / "manifest.json").read_text())
    for split, shards in manifest["splits"].items():
        assert {path.name for path in (root / split).iterdir()} == set(shards)
        assert all((root / split / name).stat().st_size == shard["bytes"] for name, shard in shards.items())


def test_a_record_of_another_format_is_refused_when_read(make_pair):
    example = tf.train.Example.FromString(tfrecords.serialize(make_pair()))
    example.features.feature["format"].int64_list.value[0] = 99
    with pytest.raises(tf.errors.InvalidArgumentError, match="another format"):
        tfrecords.parse(tf.constant(example.SerializeToString()))


def test_damage_met_while_reading_is_traced_to_its_shard(root):
    shards = find(root)
    data = bytearray(open(shards[1], "rb").read())
    data[len(data) // 2] ^= 1
    open(shards[1], "wb").write(data)
    with pytest.raises(UserError, match=f"{shards[1]}: damaged"), tfrecords.damage_named(shards):
        list(tf.data.TFRecordDataset(shards))


def test_a_shard_that_vanishes_while_it_is_read_is_named(root):
    shards = find(root)
    os.remove(shards[1])
    with pytest.raises(UserError, match=f"{shards[1]}: vanished"), tfrecords.damage_named(shards):
        list(tf.data.TFRecordDataset(shards))


def test_each_record_can_be_read_by_its_place(root):
    shards = find(root)
    in_order = [record.numpy() for record in tf.data.TFRecordDataset(shards)]
    places = list(zip(*tfrecords.locate_records(shards), strict=True))
    assert len(places) == len(in_order) > 2
    for place, record in zip(reversed(places), reversed(in_order), strict=True):
        assert tfrecords.read_record(*map(tf.constant, place)).numpy() == record
