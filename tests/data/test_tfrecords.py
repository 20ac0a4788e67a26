import json
import os

import numpy as np
import pytest
import tensorflow as tf
from conftest import write_records

from pyimagesearch.data import tfrecords
from pyimagesearch.errors import UserError


@pytest.fixture
def root(tmp_path, make_pair):
    """Records of five training pairs in shards of two, and one test pair."""
    splits = {"train": (make_pair(name=f"{i}.png", seed=i) for i in range(5)), "test": [make_pair(seed=9)]}
    write_records(tmp_path, splits, shard_size=2)
    return tmp_path


def find(root, split="train", scale=4):
    return tfrecords.find_shards(str(root), split, scale)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_record_gives_back_every_bit(make_pair, scale):
    pair = make_pair(17, 31, scale)
    lr, hr = tfrecords.parse(tf.constant(tfrecords.serialize(pair)), scale)
    np.testing.assert_array_equal(lr, pair.lr)
    np.testing.assert_array_equal(hr, pair.hr)


def test_a_record_has_its_position_in_the_image(make_pair):
    pair = make_pair(name="Zürich bei Nacht.jpg")._replace(top=12, left=7)
    feature = tf.train.Example.FromString(tfrecords.serialize(pair)).features.feature
    assert feature["name"].bytes_list.value[0].decode() == "Zürich bei Nacht.jpg"
    assert [feature[key].int64_list.value[0] for key in ("top", "left")] == [12, 7]


def test_shards_hold_the_pairs_in_order(root, make_pair):
    records = tf.data.TFRecordDataset(find(root))
    for i, (lr, _) in enumerate(records.map(tfrecords.parse)):
        np.testing.assert_array_equal(lr, make_pair(seed=i).lr)
    assert i == 4


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
    with pytest.raises(UserError, match="a scaling factor of 4, not 2"):
        find(root, scale=2)


@pytest.mark.parametrize(
    ("manifest", "said"), [('{"format": 2}', "records of format 2, not 3"), ("[]", "damaged"), ("{", "damaged")]
)
def test_another_format_is_refused_by_name(root, manifest, said):
    (root / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=f"manifest.json: {said}"):
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
    with pytest.raises(UserError, match=f"{shards[1]}: missing; restore it"), tfrecords.damage_named(shards):
        list(tf.data.TFRecordDataset(shards))


def test_each_record_can_be_read_by_its_offset(root):
    shards = find(root)
    in_order = [record.numpy() for record in tf.data.TFRecordDataset(shards)]
    places = tfrecords.locate_records(shards)
    assert places.shards == [0, 0, 1, 1, 2]
    for number, record in reversed(list(enumerate(in_order))):
        path, offset = places.paths[places.shards[number]], places.offsets[number]
        assert tfrecords.read_record(tf.constant(path), tf.constant(offset)).numpy() == record


def test_a_record_has_its_own_area_or_the_given_one(tmp_path, make_pair):
    write_records(tmp_path, {"train": [make_pair(10, 5), make_pair()._replace(area=77.25)]})
    assert tfrecords.locate_records(find(tmp_path)).areas == [40 * 20, pytest.approx(77.25, abs=0.1)]


def test_verifying_names_each_bad_shard(root):
    assert [complaint for _, complaint in tfrecords.verify(str(root))] == [None] * 4
    first, second, third = (root / "train" / name for name in ("00-2.tfrec", "01-2.tfrec", "02-1.tfrec"))
    first.unlink()
    second.write_bytes(second.read_bytes() + b"more")
    data = bytearray(third.read_bytes())
    data[len(data) // 2] ^= 1
    third.write_bytes(data)
    complaints = dict(tfrecords.verify(str(root)))
    assert complaints[str(first)] == "missing"
    assert "bytes instead of" in complaints[str(second)]
    assert "checksum" in complaints[str(third)]
    assert complaints[str(root / "test" / "00-1.tfrec")] is None


def test_shards_are_verified_without_autotuning(root, iterated):
    assert not any(complaint for _, complaint in tfrecords.verify(str(root)))
    assert iterated and all(dataset.options().autotune.enabled is False for dataset in iterated)


def test_verification_finds_an_undamaged_shard_of_other_records(root):
    first, second = root / "train" / "00-2.tfrec", root / "train" / "01-2.tfrec"
    second.write_bytes(first.read_bytes())
    assert dict(tfrecords.verify(str(root)))[str(second)] == "damaged, its records differ from the manifest"


def test_the_fingerprint_depends_on_the_content(root, tmp_path_factory, make_pair):
    def fingerprint(seed):
        folder = tmp_path_factory.mktemp("records")
        write_records(folder, {"train": [make_pair(seed=seed)]})
        return tfrecords.fingerprint(str(folder))

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)


def test_crops_larger_than_the_records_were_made_for_are_refused(tmp_path, make_pair):
    write_records(tmp_path / "records", {"train": [make_pair()]})
    tfrecords.check_crops(str(tmp_path / "records"), 32)
    with pytest.raises(UserError, match="records for crops of 32 pixels, not of 40; .* crops of at most 32$"):
        tfrecords.check_crops(str(tmp_path / "records"), 40)
