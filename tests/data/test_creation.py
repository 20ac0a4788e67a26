import concurrent.futures
import csv
import dataclasses
import json
import math
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import enlarged, random_image, save
from hypothesis import given, settings
from hypothesis import strategies as st

import create_tfrecords
from pyimagesearch import data_preprocess
from pyimagesearch.config import Config
from pyimagesearch.data import creation, tfrecords
from pyimagesearch.data.pairs import Pair
from pyimagesearch.data.photographs import folder
from pyimagesearch.data.sources import Source
from pyimagesearch.errors import UserError

CONFIG = dataclasses.replace(Config(), record_size=64, hr_shape=(16, 16, 3), shard_size=3)


@pytest.fixture
def root(tmp_path):
    """A folder of 12 small images."""
    for seed in range(12):
        save(tmp_path / "images" / f"{seed:02d}.png", random_image(60 + 4 * seed, 80, seed))
    return tmp_path


def create(root, records="records", processes=1, strict=False, address=None):
    source = folder(str(root / "images"), 0.2, 4, 32, seed=1)
    return creation.create(str(root / records), source, CONFIG, processes, strict, address)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_records_do_not_depend_on_the_number_of_processes(root):
    counts = create(root, "one")
    assert create(root, "two", processes=2) == counts
    assert contents(root / "one") == contents(root / "two")
    assert counts["train"] > counts["test"] == 2 and counts["skipped"] == 0


@pytest.mark.parametrize(("small", "pools"), [(creation.SMALL, []), (0, [3])])
def test_a_few_images_do_not_wait_for_the_start_of_processes(root, monkeypatch, small, pools):
    used = []

    def pool(count, *args):
        used.append(count)
        return concurrent.futures.ThreadPoolExecutor(count)

    monkeypatch.setattr(creation, "SMALL", small)
    monkeypatch.setattr(creation.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", pool)
    create(root, processes=None)
    assert used == pools


@pytest.fixture
def cluster_address(monkeypatch):
    """The address of a Ray cluster of two nodes with a core each."""
    ray = pytest.importorskip("ray", reason="needs Ray, which is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


@pytest.mark.slow
def test_records_of_a_cluster_are_those_of_one_machine(root, cluster_address):
    (root / "images" / "03.png").write_bytes(b"damaged")
    counts = create(root, "one")
    (root / "many").mkdir()
    assert create(root, "many", address=cluster_address) == counts
    assert contents(root / "one") == contents(root / "many") and counts["skipped"] == 1
    with pytest.raises(UserError, match="03.png"):
        create(root, "strict", strict=True, address=cluster_address)
    assert not (root / "strict" / "manifest.json").exists()


def test_shards_are_named_by_number_and_count_and_listed(root):
    counts = create(root)
    manifest = json.loads((root / "records" / "manifest.json").read_text())
    for split, shards in manifest["splits"].items():
        assert {path.name for path in (root / "records" / split).iterdir()} == set(shards)
        for number, (name, shard) in enumerate(shards.items()):
            assert name == f"{number:02d}-{shard['records']}.tfrec"
            assert (root / "records" / split / name).stat().st_size == shard["bytes"]
        assert sum(shard["records"] for shard in shards.values()) == counts[split]
    assert len(manifest["splits"]["train"]) > 2
    assert manifest["configuration"]["record_size"] == 64
    assert {path.name for path in (root / "records").iterdir()} == {"manifest.json", "train", "test"}


def test_photographs_are_stored_whole_for_testing_and_in_pieces_for_training(root):
    create(root)
    sizes = {}
    for split in ("train", "test"):
        shards = tfrecords.find_shards(str(root / "records"), split, 4)
        sizes[split] = {hr.shape[:2] for _, hr in tf.data.TFRecordDataset(shards).map(tfrecords.parse)}
    assert max(max(size) for size in sizes["train"]) <= 64
    assert all(width == 80 for _, width in sizes["test"])


def test_the_space_needed_is_what_is_taken(root):
    source = folder(str(root / "images"), 0.2, 4, 32, seed=1)
    shards = list(creation._plan("train", source.train, str(root / "records"), CONFIG, False))
    create(root)
    taken = sum(path.stat().st_size for path in (root / "records" / "train").iterdir())
    assert sum(shard.size for shard in shards) == pytest.approx(taken, rel=0.05)


@pytest.mark.parametrize("crop", range(32, 121, 8))
def test_records_of_any_crop_have_at_most_two_and_a_quarter_times_the_pixels_of_the_photographs(tmp_path, crop):
    images = Noise(((30, 30), (31, 200), (90, 61)))
    config = dataclasses.replace(CONFIG, hr_shape=(crop, crop, 3))
    creation.create(str(tmp_path), Source(images, images), config, 1, strict=True)
    shards = tfrecords.find_shards(str(tmp_path), "train", 4)
    records = [lr.shape[:2] for lr, _ in tf.data.TFRecordDataset(shards).map(tfrecords.parse)]
    assert sum(map(math.prod, records)) <= 2.25 * sum(map(math.prod, images.lr_sizes))
    assert all(4 * min(record) >= crop for record in records)
    assert all(4 * max(record) <= max(64, 3 * crop) for record in records)


def test_a_disk_that_is_too_small_is_reported_before(root, monkeypatch):
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**5))
    with pytest.raises(UserError, match=r"records: about 0.0 GB are needed and 0.0 GB are free"):
        create(root)
    assert not list((root / "records").rglob("*.tfrec"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize("processes", [1, 2])
def test_unusable_images_are_listed_and_the_others_are_used(root, processes):
    truncate(root / "images" / "03.png")
    save(root / "images" / "zu klein, wirklich.png", random_image(10, 10))
    assert create(root, processes=processes)["skipped"] == 2
    rows = list(csv.reader((root / "records" / "skipped.csv").open()))
    assert rows == [
        ["name", "reason"],
        ["zu klein, wirklich.png", "10x10 pixels are too small, 32x32 are needed"],
        ["03.png", "damaged, or not an image"],
    ]


def test_files_that_are_no_photographs_are_listed_but_do_not_count(root):
    (root / "images" / "video.mpg").write_text("a video")
    assert create(root, strict=True)["skipped"] == 0
    rows = list(csv.reader((root / "records" / "skipped.csv").open()))
    assert rows[1:] == [["video.mpg", "not an image by the ending of its name"]]


@pytest.mark.parametrize("processes", [1, 2])
def test_strictly_the_first_image_that_cannot_be_used_stops_it(root, processes):
    truncate(root / "images" / "03.png")
    with pytest.raises(UserError, match="^03.png: damaged.*strict"):
        create(root, processes=processes, strict=True)
    assert not (root / "records" / "manifest.json").exists()
    assert create(root, processes=processes)["skipped"] == 1


def test_in_strict_mode_skipped_images_are_reported_first(root):
    save(root / "images" / "small.png", random_image(10, 10))
    with pytest.raises(UserError, match="^small.png: 10x10 pixels"):
        create(root, strict=True)
    assert not (root / "records").exists()


def test_records_are_not_overwritten(root):
    create(root)
    before = contents(root / "records")
    with pytest.raises(UserError, match="records: already has records"):
        create(root)
    assert contents(root / "records") == before


def test_records_can_be_made_in_and_read_from_another_file_system(root):
    source = folder(str(root / "images"), 0.2, 4, 32, seed=1)
    counts = creation.create("ram://bucket/records", source, CONFIG, 1)
    assert counts == create(root)
    for split in ("train", "test"):
        shards = tfrecords.find_shards("ram://bucket/records", split, 4)
        assert shards[0].startswith("ram://bucket/records/")
        local = tfrecords.find_shards(str(root / "records"), split, 4)
        assert [tf.io.gfile.GFile(shard, "rb").read() for shard in shards] == [
            tf.io.gfile.GFile(shard, "rb").read() for shard in local
        ]
    assert [complaint for _, complaint in tfrecords.verify("ram://bucket/records") if complaint] == []


def interrupt(root):
    """Make records, but for the last shards."""
    source = folder(str(root / "images"), 0.2, 4, 32, seed=1)
    shards = [
        *creation._plan("train", source.train, str(root / "records"), CONFIG, False),
        *creation._plan("test", source.test, str(root / "records"), CONFIG, False),
    ]
    creation._begin(str(root / "records"), shards)
    for shard in shards[:3]:
        creation._make(shard)
    return [path for path in (root / "records").rglob("*.tfrec")]


def test_complete_shards_are_not_made_again(root):
    create(root, "undisturbed")
    made = interrupt(root)
    assert len(made) == 3
    times = {path: path.stat().st_mtime_ns for path in made}
    create(root)
    assert times == {path: path.stat().st_mtime_ns for path in made}
    assert contents(root / "records") == contents(root / "undisturbed")


def test_an_unfinished_creation_resumes_for_any_spelling_of_the_folder(root, monkeypatch):
    create(root, "undisturbed")
    interrupt(root)
    monkeypatch.chdir(root / "images")
    (root / "link").symlink_to("images")
    creation.create("../records", folder("../link", 0.2, 4, 32, seed=1), CONFIG, 1)
    assert contents(root / "records") == contents(root / "undisturbed")


def test_a_shard_that_was_damaged_meanwhile_is_made_again(root):
    create(root, "undisturbed")
    first, second, _ = interrupt(root)
    first.unlink()
    second.write_bytes(b"")
    create(root)
    assert contents(root / "records") == contents(root / "undisturbed")


def test_an_unfinished_creation_of_other_images_is_refused(root):
    interrupt(root)
    save(root / "images" / "00.png", random_image(60, 80, 77))
    with pytest.raises(UserError, match="has unfinished records of other images or other settings"):
        create(root)


def times_of_shards(records):
    """Return the times at which the complete shards were written."""
    return {shard.stat().st_mtime_ns for shard in records.rglob("[!.]*.tfrec")}


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGINT))]
)
def test_a_creation_killed_at_random_moments_ends_with_the_same_records(tmp_path, number):
    for seed in range(40):
        save(tmp_path / "images" / f"{seed}.png", np.repeat(random_image(900, 40, seed), 40, axis=1))
    records, rng = tmp_path / "records", random.Random(int(number))
    flags = ["--preset", "demo", "--processes", "2", "--images", str(tmp_path / "images"), "--records"]
    assert create_tfrecords.main([*flags, str(tmp_path / "undisturbed")]) == 0
    for _ in range(2):
        command = [sys.executable, create_tfrecords.__file__, *flags, str(records)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        made = times_of_shards(records)
        while process.poll() is None and times_of_shards(records) == made:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(number)
        _, err = process.communicate()
        assert process.returncode and b"Traceback" not in err
    made = times_of_shards(records)
    assert create_tfrecords.main([*flags, str(records)]) == 0
    assert made and made <= times_of_shards(records)
    assert contents(records) == contents(tmp_path / "undisturbed")


def test_bad_shards_are_named_when_verified(root, capfd):
    create(root)
    flags = ["--verify", "--records", str(root / "records")]
    assert create_tfrecords.main(flags) == 0
    shard = next((root / "records" / "train").iterdir())
    shard.write_bytes(shard.read_bytes()[::-1])
    assert create_tfrecords.main(flags) == 2
    out, err = capfd.readouterr()
    assert f"{shard}: damaged, its checksum differs" in out and "1 of " in err


@dataclasses.dataclass(frozen=True)
class Noise:
    """Images of noise of these LR sizes, in which every HR pixel equals the LR pixel that it belongs to."""

    lr_sizes: tuple[tuple[int, int], ...]

    @property
    def sizes(self):
        return [(4 * height, 4 * width) for height, width in self.lr_sizes]

    def part(self, first, last):
        return Noise(self.lr_sizes[first:last])

    def __iter__(self):
        for number, size in enumerate(self.lr_sizes):
            lr = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
            yield Pair(f"{number}", lr, enlarged(lr))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.tuples(st.integers(6, 40), st.integers(6, 40)), min_size=1, max_size=4),
    crop=st.integers(1, 6),
    piece=st.integers(6, 20),
    shard_size=st.integers(1, 5),
    batch_size=st.integers(1, 3),
)
def test_lr_and_hr_stay_aligned_to_the_pixel(tmp_path_factory, sizes, crop, piece, shard_size, batch_size):
    config = dataclasses.replace(CONFIG, record_size=4 * piece, hr_shape=(4 * crop, 4 * crop, 3), shard_size=shard_size)
    images = Noise(tuple(sizes))
    root = str(tmp_path_factory.mktemp("records"))
    counts = creation.create(root, Source(images, images), config, 1, strict=True)
    assert counts["test"] == len(sizes) <= counts["train"]
    shards = tfrecords.find_shards(root, "train", 4)
    dataset = data_preprocess.load_dataset(shards, batch_size, True, 4 * crop, 4, crops_per_record=3, seed=1)
    for lr, hr in dataset.take(4).as_numpy_iterator():
        assert lr.shape == (batch_size, crop, crop, 3)
        np.testing.assert_array_equal(hr, enlarged(lr))
    areas = tfrecords.locate_records(shards).areas
    assert sum(areas) == pytest.approx(sum(16 * height * width for height, width in sizes), rel=0.01)
