"""inference.py on a real Ray cluster. The commands are run as by a user."""

import contextlib
import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import random_image, save
from PIL import Image

import inference
from pyimagesearch.inference import cluster
from pyimagesearch.inference.generators import load_generator
from pyimagesearch.inference.jobs import Job
from pyimagesearch.inference.results import NAME
from pyimagesearch.inference.sizes import NATURAL
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.workers import Outcome

pytest.importorskip("ray", reason="needs Ray, which is not installed")
psutil = pytest.importorskip("psutil", reason="needs psutil, which is not installed")
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def photos(tmp_path):
    """A folder with images and with three files that are damaged, and a video of three segments."""
    for number in range(6):
        save(tmp_path / "photos" / f"{number}.png", random_image(20 + number, 30, number))
    save(tmp_path / "photos" / "sub folder" / "写真.png", random_image(9, 12))
    write_video(tmp_path / "photos" / "video.avi", 250)
    (tmp_path / "photos" / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "photos" / "bad.png").write_bytes(b"")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def write_video(path, frames):
    av = pytest.importorskip("av", reason="needs PyAV, which is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", 25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuvj420p"
        for seed in range(frames):
            frame = av.VideoFrame.from_ndarray(random_image(24, 32, seed), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


WITH_BANDS = """
import sys
sys.argv[0] = "inference.py"
import inference  # before TensorFlow
from pyimagesearch.inference import bands
bands.LARGE = 5000
sys.exit(inference.main())
"""


def start(model, *flags, **options):
    """Start inference.py, which divides images of more than 5000 pixels into bands."""
    command = [sys.executable, "-c", WITH_BANDS, "--model", model, "--input", "photos", *flags]
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_HOME"}
    environment["PYTHONPATH"] = str(ROOT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, command)), env=environment, **pipes, **options)


def family(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def running(processes):
    """Return the names of the processes that have not ended. Zombies have ended."""
    names = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                names.append(process.name())
    return names


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.02)


def contents(folder):
    """Return the files of a folder of results by their names, without the file of notes."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def listening(processes):
    """Return the addresses at which processes listen, in hexadecimal as in /proc/net/tcp."""
    inodes = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"/proc/{process.pid}/fd"):
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(descriptor.path))
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                addresses.add(fields[1].split(":")[0])
    return addresses


LOOPBACK = {"0100007F", "0" * 16 + "FFFF00000100007F", "0" * 24 + "01000000"}
"""127.0.0.1, the same as an address of IPv6, and ::1."""


def test_listening_sockets_are_noticed():
    with socket.create_server(("127.0.0.1", 0)):
        assert "0100007F" in listening([psutil.Process()])
    with socket.create_server(("", 0)):
        assert listening([psutil.Process()]) - LOOPBACK


def test_results_and_messages_are_those_without_a_cluster(model, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    save(photos / "large.png", random_image(150, 61))
    Image.fromarray(random_image(99, 70)).convert("LA").save(photos / "grey.png")
    flags = ["--compare", "--tile", "40", "--output"]
    with start(model, *flags, "alone") as alone, start(model, *flags, "together", "--cluster", "auto") as together:
        wait_until(lambda: (photos.parent / "together").is_dir() and contents(photos.parent / "together"), 300)
        processes = family(together)
        names, addresses = {process.name() for process in processes}, listening([*processes, together])
        said, complaints = together.communicate(timeout=120)
        _, expected = alone.communicate(timeout=120)
    assert together.returncode == alone.returncode == 1
    assert sorted(complaints.splitlines()) == sorted(expected.splitlines()) and len(expected.splitlines()) == 3
    assert "[INFO] 10 results written: together\n" in said and "workers started: " in said
    assert contents(photos.parent / "together") == contents(photos.parent / "alone")
    assert {"gcs_server", "raylet"} <= names and addresses and addresses <= LOOPBACK
    wait_until(lambda: not running(processes), 30)


def test_a_large_image_is_computed_in_bands_and_then_only_joined(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which the worker does, too
    monkeypatch.setattr(cluster.bands, "LARGE", 5000)
    save(tmp_path / "large.png", random_image(150, 61))
    job = Job(str(tmp_path / "large.png"), str(tmp_path / "out" / "large.png"))
    upscale = Upscaler(load_generator(str(model)), tile=40)
    worker = cluster.Worker(str(tmp_path), lambda: upscale, NATURAL, False, None, None)
    worker.start()
    agenda = cluster._Agenda([job])
    ends = []
    for task in agenda:
        ends.append(worker.run(task, 0))
        agenda.is_complete_after(Outcome(task, ends[-1], 1))
    count = upscale.count_bands(150)
    assert len(ends) == count + 2 and ends[0].parts == count > 1
    assert [end.pixels for end in ends][:: count + 1] == [0, 0] and sum(end.pixels for end in ends) == 150 * 61
    assert [end.is_written for end in ends] == [False] * (count + 1) + [True]
    assert os.listdir(tmp_path / "out") == ["large.png"]


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_nothing_half_written_and_the_next_run_goes_on(model, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    for number in range(20):
        save(photos / f"large {number}.png", random_image(200, 200, number))
    out = photos.parent / "out"
    with start(model, "--output", "out", "--cluster", "auto") as process:
        wait_until(lambda: out.is_dir() and len(contents(out)) >= 3, 300)
        processes = family(process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "inference.py: stopping; unfinished files are removed\n" in said
    assert processes and running(processes) == []
    made = contents(out)
    assert 3 <= len(made) < 28 and not [name for name in made if "unfinished" in name]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    with start(model, "--output", "out", "--cluster", "auto") as process:
        said, _ = process.communicate(timeout=240)
    assert f"{28 - len(made)} results written" in said or f"{29 - len(made)} results written" in said
    assert len(contents(out)) == 28
    unchanged = [path for path, stamp in times.items() if path.stat().st_mtime_ns == stamp]
    assert len(unchanged) >= len(times) - 1  # one may have been written and not yet noted


@pytest.mark.slow
def test_a_killed_driver_leaves_no_process_and_the_next_run_goes_on(model, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    for number in range(20):
        save(photos / f"large {number}.png", random_image(200, 200, number))
    out = photos.parent / "out"
    with start(model, "--output", "out", "--cluster", "auto") as process:
        wait_until(lambda: out.is_dir() and len(contents(out)) >= 3, 300)
        processes = family(process)
        process.kill()
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}  # they look for the rest of Ray for a minute
    wait_until(lambda: set(running(processes)) <= agents, 30)
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("*.png") if not path.name.startswith(".")}
    with start(model, "--output", "out", "--cluster", "auto") as process:
        process.communicate(timeout=240)
    assert len(contents(out)) == 28 and not [name for name in contents(out) if "unfinished" in name]
    unchanged = [path for path, stamp in finished.items() if path.stat().st_mtime_ns == stamp]
    assert len(unchanged) >= len(finished) - 3  # those that were written and not yet noted are foreign, and stay
    wait_until(lambda: not running(processes), 150)


@pytest.mark.slow
def test_two_nodes_make_what_one_machine_makes_when_one_of_them_is_removed(model, photos, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the workers of the nodes
    monkeypatch.chdir(photos.parent)
    for number in range(20):
        save(photos / f"large {number}.png", random_image(200, 200, number))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = nodes.add_node(num_cpus=1)
        out = photos.parent / "together"
        with start(model, "--output", "together", "--cluster", nodes.address) as together:
            wait_until(lambda: out.is_dir() and len(contents(out)) >= 5, 300)
            nodes.remove_node(second, allow_graceful=False)
            _, complaints = together.communicate(timeout=240)
    finally:
        nodes.shutdown()
    with start(model, "--output", "alone") as alone:
        _, expected = alone.communicate(timeout=240)
    assert sorted(complaints.splitlines()) == sorted(expected.splitlines())
    assert contents(out) == contents(photos.parent / "alone") and len(contents(out)) == 28


@pytest.mark.slow
def test_a_file_whose_worker_is_killed_three_times_is_named_and_left_out(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    for path in [path for path in photos.rglob("*") if path.is_file() and path.name != "0.png"]:
        path.unlink()
    save(photos / "poison.png", random_image(1000, 1000))  # takes seconds
    flags = ["--output", "out", "--cluster", "auto", "--cores", "1"]
    with start(ROOT / "weights" / "pretrained.keras", *flags) as process:
        wait_until(lambda: (photos.parent / "out" / "0.png").exists(), 300)
        killed = set()
        while process.poll() is None:
            for worker in family(process):
                with contextlib.suppress(psutil.Error):
                    if worker.name() == "ray::Worker.run":
                        worker.kill()
                        killed.add(worker.pid)
            time.sleep(0.1)
        said, complaints = process.communicate(timeout=120)
    assert process.returncode == 1 and 3 <= len(killed) <= 6  # up to three before the image is divided, three after
    (line,) = complaints.splitlines()
    assert line.startswith("inference.py: photos/poison.png: its worker was ended 3 times, perhaps for lack of memory")
    assert "1 results written" in said and "raylet" not in said
    assert sorted(path.name for path in (photos.parent / "out").glob("*.png")) == ["0.png"]


THREADS = """
import sys
from pyimagesearch import cli
import numpy as np
from pyimagesearch.inference import generators, runtimes, upscaling
runtimes.use_threads(int(sys.argv[1]))
upscale = upscaling.Upscaler(generators.load_generator(sys.argv[2]), sys.argv[3], sys.argv[4])
upscale(np.random.default_rng(0).integers(0, 256, (60, 81, 3), np.uint8)).tofile(sys.argv[5])
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("runtime", ["tensorflow", "openvino"])
def test_results_do_not_depend_on_the_number_of_threads(tmp_path, runtime, precision):
    if runtime == "openvino" and not importlib.util.find_spec("openvino"):
        pytest.skip("needs OpenVINO, which is not installed")
    model = ROOT / "weights" / "fast.keras"
    for threads in (1, 2, 3):
        command = [sys.executable, "-c", THREADS, threads, model, runtime, precision, tmp_path / str(threads)]
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT)
    one, two, three = ((tmp_path / str(threads)).read_bytes() for threads in (1, 2, 3))
    assert one == two == three


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input", "x", "--cluster", "auto", "--device", "tpu"], "--cluster: computes on GPUs and CPUs"),
        (["--input", "x", "--cores", "2"], "--cores needs --cluster"),
        (["--cluster", "auto"], "--cluster needs --input"),
    ],
)
def test_flags_that_contradict_each_other_are_told(capsys, flags, said):
    with pytest.raises(SystemExit) as stop:
        inference.parse_args(flags)
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_told_in_one_line(model, photos, monkeypatch, capfd):
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(sys, "argv", ["inference.py"])
    flags = ["--input", "photos", "--model", str(model), "--output", "out", "--cluster", "127.0.0.1:9"]
    assert inference.main(flags) == 2
    complaint = capfd.readouterr().err
    assert "127.0.0.1:9: no Ray cluster answers" in complaint and complaint.count("\n") == 1
