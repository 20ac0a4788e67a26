"""Inputs and results in an object store: a real S3 server on the loopback address."""

import logging
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import random_image, save

import inference
from pyimagesearch import files, remote
from pyimagesearch.errors import UserError
from pyimagesearch.inference import results

boto3 = pytest.importorskip("boto3", reason="needs moto, which is not installed")
moto_server = pytest.importorskip("moto.server", reason="needs moto, which is not installed")
fsspec = pytest.importorskip("fsspec", reason="needs fsspec, which is not installed")
pytest.importorskip("s3fs", reason="needs s3fs, which is not installed")
ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server():
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """Yield a client of the server, on which there is an empty bucket "photos". The environment names the server."""
    given = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**given, "AWS_ENDPOINT_URL": server, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield client
    for entry in client.list_objects_v2(Bucket="photos").get("Contents", ()):
        client.delete_object(Bucket="photos", Key=entry["Key"])
    client.delete_bucket(Bucket="photos")


def put(client, tmp_path, key, height=12, width=10, seed=0):
    """Save an image of noise on this machine and in the bucket."""
    path = tmp_path / "local" / key
    save(path, random_image(height, width, seed))
    client.upload_file(str(path), "photos", key)
    return path


def keys(client, prefix):
    """Return the names of the objects below a prefix, without the records of results."""
    found = client.list_objects_v2(Bucket="photos", Prefix=prefix).get("Contents", ())
    return [entry["Key"] for entry in found if results.REMOTE_FOLDER not in entry["Key"]]


def content(client, key):
    return client.get_object(Bucket="photos", Key=key)["Body"].read()


def upscale(model, source, output, *flags):
    return inference.main(["--model", str(model), "--input", str(source), "--output", str(output), *flags])


def test_a_folder_of_a_bucket_becomes_the_bytes_of_a_local_folder(bucket, model, tmp_path):
    put(bucket, tmp_path, "in/a.png")
    put(bucket, tmp_path, "in/sub folder/写真 [1].png", seed=1)
    assert upscale(model, "s3://photos/in", "s3://photos/large") == 0
    assert upscale(model, tmp_path / "local" / "in", tmp_path / "large") == 0
    assert keys(bucket, "large/") == ["large/a.png", "large/sub folder/写真 [1].png"]
    for key in keys(bucket, "large/"):
        assert content(bucket, key) == (tmp_path / key).read_bytes()


def test_folders_are_listed_one_after_the_other(bucket, tmp_path):
    for key in ("in/b/c/deep.png", "in/top.png", "in/a/first.png", "in/a/second.png"):
        put(bucket, tmp_path, key)
    bucket.put_object(Bucket="photos", Key="in/empty/", Body=b"")  # stands for a folder
    system = fsspec.filesystem("s3")
    listed = []
    for found in remote.walk("s3://photos/in"):
        listed.append([file.removeprefix("s3://photos/in/") for file in found])
        assert len(system.dircache) == 1
    assert [found for found in listed if found] == [["top.png"], ["a/first.png", "a/second.png"], ["b/c/deep.png"]]
    assert list(remote.walk("s3://photos/in/top.png")) == [["s3://photos/in/top.png"]]
    assert list(remote.walk("s3://photos/in/a/*.png")) == [
        ["s3://photos/in/a/first.png", "s3://photos/in/a/second.png"]
    ]


@pytest.fixture
def written(capsys):
    """Return a function that returns how many results the last command has written."""

    def count():
        (number,) = re.findall(r"(\d+) results written", capsys.readouterr().out)
        return int(number)

    return count


def test_a_second_run_makes_only_results_whose_source_or_settings_changed(bucket, model, tmp_path, written):
    put(bucket, tmp_path, "in/a.png")
    put(bucket, tmp_path, "in/b.png")
    counts = []
    for action in (None, None, lambda: put(bucket, tmp_path, "in/b.png", seed=2), None):
        if action:
            action()
            fsspec.get_filesystem_class("s3").clear_instance_cache()  # as in a new process
        upscale(model, "s3://photos/in", "s3://photos/large")
        counts.append(written())
    upscale(model, "s3://photos/in", "s3://photos/large", "--faithful")
    assert [*counts, written()] == [2, 0, 1, 0, 2]


def test_a_result_that_someone_replaced_is_kept(bucket, model, tmp_path, written):
    put(bucket, tmp_path, "in/a.png")
    upscale(model, "s3://photos/in", "s3://photos/large")
    bucket.put_object(Bucket="photos", Key="large/a.png", Body=b"a drawing")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    written()
    upscale(model, "s3://photos/in", "s3://photos/large")
    assert written() == 0 and content(bucket, "large/a.png") == b"a drawing"
    upscale(model, "s3://photos/in", "s3://photos/large", "--overwrite")
    assert written() == 1 and content(bucket, "large/a.png") != b"a drawing"


def test_files_patterns_and_places_can_be_mixed(bucket, model, tmp_path):
    put(bucket, tmp_path, "in/a.png")
    put(bucket, tmp_path, "in/b.png")
    assert upscale(model, "s3://photos/in/*.png", tmp_path / "large") == 0
    assert sorted(path.name for path in (tmp_path / "large").glob("*.png")) == ["a.png", "b.png"]
    assert upscale(model, "s3://photos/in/a.png", "s3://photos/one/result.webp") == 0
    assert upscale(model, tmp_path / "local" / "in" / "a.png", "s3://photos/two") == 0
    assert keys(bucket, "one") == ["one/result.webp"] and keys(bucket, "two") == ["two/a.png"]


def test_comparisons_and_the_page_of_remote_inputs_are_local(bucket, model, tmp_path):
    put(bucket, tmp_path, "in/a.png")
    assert upscale(model, "s3://photos/in", tmp_path / "large", "--compare", "--html") == 0
    assert (tmp_path / "large" / "index.html").exists() and (tmp_path / "large" / "a compared.png").exists()


def test_a_damaged_object_is_named_and_the_others_are_upscaled(bucket, model, tmp_path, capsys):
    put(bucket, tmp_path, "in/good.png")
    bucket.put_object(Bucket="photos", Key="in/bad.png", Body=b"no image")
    assert upscale(model, "s3://photos/in", "s3://photos/large") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.partition(": ")[2].startswith("s3://photos/in/bad.png: ") and "/tmp" not in line
    assert keys(bucket, "large/") == ["large/good.png"]


def test_a_key_with_two_dots_cannot_leave_the_output_folder(bucket, model, tmp_path):
    put(bucket, tmp_path, "in/a.png")
    bucket.put_object(Bucket="photos", Key="in/../../evil.png", Body=content(bucket, "in/a.png"))
    assert upscale(model, "s3://photos/in", tmp_path / "deep" / "large") == 0
    assert [path.name for path in tmp_path.rglob("*.png") if "local" not in path.parts] == ["a.png"]


@pytest.mark.parametrize(
    "source, output, problem",
    [
        ("s3://photos/none", "s3://photos/large", "s3://photos/none: no such file or folder"),
        ("s3://photos/none/*.png", "large", "s3://photos/none/*.png: no such file or folder"),
        ("s3://photos/in", "s3://photos/in", "s3://photos/in: is the input and the output at once"),
        ("s3://photos/text", "large", "s3://photos/text: no file there ends with "),
        ("s3://no-such-bucket/in", "large", "s3://no-such-bucket/in: "),
        ("nonsense://photos/in", "large", "nonsense://photos/in: cannot be listed: "),
        ("s3://photos/in", "s3://no-such-bucket", "s3://no-such-bucket/.srgan-results: cannot be read: "),
        ("s3://photos/in", "nonsense://large", "nonsense://large/.srgan-results: cannot be read: "),
    ],
)
def test_a_wrong_address_is_one_line(bucket, model, tmp_path, monkeypatch, capsys, source, output, problem):
    monkeypatch.chdir(tmp_path)
    put(bucket, tmp_path, "in/a.png")
    bucket.put_object(Bucket="photos", Key="text/readme.txt", Body=b"text")
    assert upscale(model, source, output) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.partition(": ")[2].startswith(problem)
    assert not (tmp_path / "large").exists()


def test_a_place_that_refuses_a_result_is_an_error_of_one_line(bucket):
    with pytest.raises(OSError, match="^The specified bucket does not exist$"):
        with remote.uploaded("s3://no-such-bucket/a.png") as path:
            pathlib.Path(path).write_bytes(b"content")


@pytest.mark.parametrize("flag", ["--compare", "--html"])
def test_comparisons_at_an_address_are_refused(model, capsys, flag):
    with pytest.raises(SystemExit, match="2"):
        upscale(model, "s3://photos/in", "s3://photos/large", flag)
    assert "--compare and --html need a folder on this machine" in capsys.readouterr().err


def test_without_fsspec_a_line_says_what_to_install(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert upscale(model, "s3://photos/in", tmp_path / "large") == 2
    assert "install it with pip install -r requirements-remote.txt" in capsys.readouterr().err


def test_nothing_is_uploaded_after_an_error(bucket):
    with pytest.raises(RuntimeError), remote.uploaded("s3://photos/result.bin") as path:
        pathlib.Path(path).write_bytes(b"half")
        raise RuntimeError
    assert not keys(bucket, "result") and not pathlib.Path(path).exists()


def test_errors_name_the_address_instead_of_the_copy(bucket):
    bucket.put_object(Bucket="photos", Key="video.mp4", Body=b"no video")
    with (
        pytest.raises(UserError, match="^s3://photos/video.mp4: is not a video$"),
        remote.fetched("s3://photos/video.mp4") as path,
    ):
        raise UserError(f"{path}: is not a video")


def test_copies_are_removed_if_the_program_ends(bucket, monkeypatch):
    bucket.put_object(Bucket="photos", Key="a.bin", Body=b"content")
    with remote.fetched("s3://photos/a.bin") as path:
        assert pathlib.Path(path).read_bytes() == b"content"
        assert str(pathlib.Path(path).parent) in files._unfinished
    assert not pathlib.Path(path).parent.exists()


def test_a_video_is_upscaled_from_bucket_to_bucket(bucket, model, tmp_path):
    av = pytest.importorskip("av", reason="needs PyAV, which is not installed")
    with av.open(str(tmp_path / "video.avi"), "w") as container:
        stream = container.add_stream("mjpeg", 25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuvj420p"
        for seed in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(random_image(24, 32, seed), format="rgb24")))
        container.mux(stream.encode(None))
    bucket.upload_file(str(tmp_path / "video.avi"), "photos", "in/video.avi")
    assert upscale(model, "s3://photos/in", "s3://photos/large") == 0
    assert upscale(model, tmp_path / "video.avi", tmp_path / "large") == 0
    assert content(bucket, "large/video.mp4") == (tmp_path / "large" / "video.mp4").read_bytes()


def test_workers_of_a_cluster_fetch_and_upload(bucket, model, tmp_path):
    pytest.importorskip("ray", reason="needs Ray, which is not installed")
    for number in range(3):
        put(bucket, tmp_path, f"in/{number}.png", seed=number)
    bucket.put_object(Bucket="photos", Key="in/bad.png", Body=b"no image")
    assert upscale(model, tmp_path / "local" / "in", tmp_path / "large") == 0
    command = [sys.executable, ROOT / "inference.py", "--model", model, "--cluster", "auto", "--cores", "1"]
    places = ["--input", "s3://photos/in", "--output", "s3://photos/large"]
    done = subprocess.run([*map(str, command), *places], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("s3://photos/in/bad.png") == 1, done.stderr
    for number in range(3):
        assert content(bucket, f"large/{number}.png") == (tmp_path / "large" / f"{number}.png").read_bytes()
