"""app.py in real processes, used by a real browser."""

import contextlib
import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import NamedTuple

import numpy as np
import pytest
from browser import CHROMIUM, FLAGS
from conftest import random_image, save
from PIL import Image

import app
from pyimagesearch.data.image_io import LoadedImage, write_image
from pyimagesearch.data.metadata import Metadata

pytest.importorskip("gradio", reason="needs Gradio, which is not installed")

ROOT = pathlib.Path(__file__).parents[1]
WITHOUT_PYAV = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "av" else found(name, package)
sys.argv[0] = "app.py"
sys.path.insert(0, "ROOT")
import runpy
runpy.run_path("ROOT/app.py", run_name="__main__")
""".replace("ROOT", str(ROOT))


def has_contents(path):
    with contextlib.suppress(FileNotFoundError):  # the server may have removed it meanwhile
        return path.stat().st_size > 0
    return False


class Server(NamedTuple):
    """A process of app.py, the address of its page, and the folder of its temporary files."""

    process: subprocess.Popen
    address: str
    folder: pathlib.Path

    def files(self):
        """Return the paths of all files that have contents."""
        paths = [pathlib.Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names]
        return [path for path in paths if has_contents(path)]


@contextlib.contextmanager
def served(folder, *flags, script=(str(ROOT / "app.py"),)):
    """Run app.py until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, *script, "--port", str(port), *flags]
    environment = os.environ | {"TMPDIR": str(folder), "GRADIO_ALLOWED_PATHS": "/"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    try:
        for line in process.stdout:
            if " in a browser" in line:
                yield Server(process, re.search(r"http://\S+", line)[0], folder)
                return
        pytest.fail("app.py ended at its start")
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return images by name, and a video."""
    folder = tmp_path_factory.mktemp("inputs")
    deep = np.random.default_rng(0).integers(0, 2**16, (20, 30, 3)).astype(np.uint16)
    write_image(str(folder / "deep.png"), LoadedImage(deep, Metadata(exif=Image.Exif().tobytes())), "png")
    exif = Image.Exif()
    exif[0x010E] = "a described photograph"
    Image.fromarray(random_image(24, 36)).save(folder / "described.jpg", exif=exif, dpi=(300, 300))
    save(folder / "third.png", random_image(20, 20, 3))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, inputs):
    """Serve the page; meanwhile upscale the inputs by inference.py."""
    folder = tmp_path_factory.mktemp("temporary")
    flags = ["--model-name", "fast", "--input", inputs, "--output", inputs.parent / "expected"]
    with (
        subprocess.Popen([sys.executable, str(ROOT / "inference.py"), *map(str, flags)]) as expected,
        served(folder, "--max-upload", "1", "--max-pixels", "1", "--max-queue", "2") as server,
    ):
        assert expected.wait() == 0
        yield server


@pytest.fixture(scope="module")
def expected(server, inputs):
    """Return the bytes of the results of inference.py by name."""
    folder = inputs.parent / "expected"
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def chromium():
    if not CHROMIUM:
        pytest.skip("needs Chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright, which is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class User:
    """A user with a page of their own. All requests of the page are noted."""

    def __init__(self, chromium, address):
        self.requests = []
        self.page = chromium.new_context(viewport={"width": 1200, "height": 1000}).new_page()
        self.page.set_default_timeout(120_000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.get_by_role("button", name="Upscale").wait_for()

    def choose(self, *files, generator="fast"):
        """Choose files and a generator on the tab that is shown."""
        tab = self.page.locator("[role=tabpanel]:visible")
        tab.locator("input[type=file]").set_input_files(files)
        for file in files:
            tab.get_by_label(file.name, exact=True).first.wait_for()
        if generator:
            tab.get_by_label(f"{generator}:").check()

    def start(self, button="Upscale"):
        self.page.locator(f"button:visible:text-is('{button}')").click()

    def wait(self):
        """Wait for the results."""
        self.page.locator("img[src*='right.jpg']:visible, video:visible").first.wait_for()

    def see(self, text):
        """Wait until a text is on the page."""
        self.page.get_by_text(text).first.wait_for()

    def download(self, name):
        """Return the bytes of a result."""
        with self.page.expect_download() as download:
            self.page.locator(f"a:visible[download='{name}']").last.click()
        return pathlib.Path(download.value.path()).read_bytes()


@pytest.fixture
def enter(chromium, server):
    """Open the page for one more user. At the end, check that no request went to another machine."""
    users = []

    def enter():
        users.append(User(chromium, server.address))
        return users[-1]

    yield enter
    for user in users:
        user.page.context.close()
        elsewhere = [url for url in user.requests if not url.startswith((server.address, "blob:", "data:"))]
        assert len(user.requests) > 20 and not elsewhere


def answer(server, path, data=None, **headers):
    """Return the status and the text of an answer of the server."""
    request = urllib.request.Request(server.address + path, data, headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def post(server, path):
    """Send a file without a browser, and return the status and the text of the answer."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
    data = head.encode() + path.read_bytes() + b"\r\n--x--\r\n"
    return answer(server, "gradio_api/upload", data, **{"Content-Type": "multipart/form-data; boundary=x"})


def upload(server, path):
    """Send a file without a browser, and return its path on the server."""
    return json.loads(post(server, path)[1])[0]


def ask(server, path, generator, session):
    """Ask to upscale a path of the server, as a page does after an upload. Return the status and the text."""
    config = json.loads(answer(server, "config")[1])
    function = next(entry["id"] for entry in config["dependencies"] if len(entry["inputs"]) == 4)
    file = {"path": path, "orig_name": os.path.basename(path), "meta": {"_type": "gradio.FileData"}}
    body = {"data": [[file], generator, 1, "png"], "fn_index": function, "session_hash": session}
    return answer(server, "gradio_api/queue/join", json.dumps(body).encode(), **{"Content-Type": "application/json"})


def forge(server, path, generator="fast", session="forger"):
    """Ask to upscale a path of the server, and return the last message of the answer."""
    ask(server, path, generator, session)
    with urllib.request.urlopen(f"{server.address}gradio_api/queue/data?session_hash={session}") as lines:
        for line in lines:
            message = json.loads(line.decode().removeprefix("data: ") or "null") if line.strip() else {}
            if message.get("msg") == "process_completed":
                return message
    return None


def test_images_are_compared_and_downloaded_as_inference_py_writes_them(enter, inputs, expected):
    user = enter()
    user.choose(inputs / "deep.png", inputs / "described.jpg")
    user.start()
    user.wait()
    for name in ("deep.png", "described.png"):
        assert user.download(name) == expected[name]
    left, right = user.page.locator("img:visible").all()
    sizes = [image.evaluate("image => [image.naturalWidth, image.naturalHeight]") for image in (left, right)]
    assert sizes == [[120, 80]] * 2


def test_the_slider_moves_and_zooms_and_shows_each_image(enter, inputs):
    user = enter()
    user.choose(inputs / "third.png", inputs / "described.jpg")
    user.start()
    user.wait()
    right = user.page.locator("img[src*='right.jpg']:visible")
    box = right.bounding_box()
    assert "50%" in right.get_attribute("style")
    handle = user.page.get_by_test_id("slider").locator(".icon-wrap").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    user.page.mouse.move(x, y)
    user.page.mouse.down()
    user.page.mouse.move(box["x"] + box["width"] * 0.25, y, steps=4)
    user.page.mouse.up()
    share = float(re.search(r"inset\(0px 0px 0px ([\d.]+)%", right.get_attribute("style"))[1])
    assert share == pytest.approx(25, abs=3)
    user.page.mouse.move(box["x"] + box["width"] * 0.75, y)
    user.page.mouse.wheel(0, -300)
    user.page.wait_for_function("image => !image.style.transform.includes('scale(1)')", arg=right.element_handle())
    first = right.get_attribute("src")
    user.page.get_by_label("Image", exact=True).click()
    user.page.get_by_role("option", name="described.png").click()
    user.page.wait_for_function(
        "first => [...document.querySelectorAll('img')].every(image => image.src != first)", arg=first
    )
    shown = user.page.locator("img[src*='right.jpg']:visible")
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 144


def test_files_that_cannot_be_upscaled_are_named_and_the_others_are_upscaled(enter, server, inputs, tmp_path, expected):
    broken, huge, heavy = (tmp_path / name for name in ("broken.png", "huge.png", "heavy.png"))
    broken.write_bytes((inputs / "third.png").read_bytes()[:300])
    Image.new("L", (2000, 1000)).save(huge)
    save(heavy, random_image(700, 700))
    user = enter()
    user.choose(broken, huge, inputs / "third.png")
    user.start()
    user.wait()
    user.see("broken.png: damaged, or not an image")
    user.see("huge.png: 2000x1000 pixels are more than the limit of 1,000,000; make it smaller")
    assert user.download("third.png") == expected["third.png"]
    user.page.reload()
    user.choose(broken)
    user.start()
    user.see("broken.png: damaged, or not an image")
    user.page.reload()
    user.page.locator("input[type=file]").set_input_files(heavy)
    user.see("exceed the maximum allowed size of 1")
    assert post(server, heavy)[0] == 413


def test_two_users_at_once_get_their_own_results(enter, inputs, expected):
    users = {"deep.png": enter(), "third.png": enter()}
    for name, user in users.items():
        user.choose(inputs / name)
    for user in users.values():
        user.start()
    for name, user in users.items():
        user.wait()
        assert user.download(name) == expected[name]


def test_a_computation_can_be_stopped(enter, inputs):
    user = enter()
    user.choose(inputs / "third.png", generator="srgan")
    user.start()
    user.see("Upscaling - 0.0%")  # while the generator is loaded
    user.page.locator("button:visible:text-is('Stop')").click()
    user.page.get_by_text("Upscaling -").first.wait_for(state="hidden")
    assert not user.page.locator("img:visible").count()
    user.choose(inputs / "deep.png")
    user.start()
    user.wait()


def test_what_was_invented_is_shown_beside_the_result(enter, inputs):
    user = enter()
    user.page.get_by_role("tab", name="What was invented").click()
    user.choose(inputs / "third.png", generator=None)
    user.start("Show the difference")
    user.wait()
    user.see("The mean difference is")


def test_a_video_is_upscaled_and_played(enter, tmp_path):
    av = pytest.importorskip("av", reason="needs PyAV, which is not installed")
    with av.open(str(tmp_path / "moving.mkv"), "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(3):
            pixels = np.full((24, 32, 3), 60 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    user = enter()
    user.page.get_by_role("tab", name="Video").click()
    user.choose(tmp_path / "moving.mkv", generator=None)
    user.start()
    user.wait()
    user.page.wait_for_function("document.querySelector('video').videoWidth == 128")
    (tmp_path / "moving.mp4").write_bytes(user.download("moving.mp4"))
    with av.open(str(tmp_path / "moving.mp4")) as container:
        assert [frame.width for frame in container.decode(video=0)] == [128] * 3


def test_uploads_and_results_are_removed_when_the_page_is_closed(enter, server, tmp_path):
    before = set(server.files())
    user = enter()
    user.choose(save(tmp_path / "own.png", random_image(20, 20, 4)))
    user.start()
    user.wait()
    own = {path for path in set(server.files()) - before if path.name in ("own.png", "left.jpg", "right.jpg")}
    assert len(own) == 4
    user.page.close()
    deadline = time.monotonic() + 60
    while any(path.exists() for path in own):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_files_that_were_not_uploaded_cannot_be_read(server, inputs):
    uploaded = upload(server, inputs / "third.png")
    assert answer(server, f"gradio_api/file={uploaded}")[0] == 200
    secret = str(inputs / "deep.png")
    above = os.path.relpath(secret, os.path.dirname(uploaded))
    folder = os.path.dirname(uploaded)
    paths = [
        "/etc/passwd",
        secret,
        f"{folder}/{above}",
        f"{folder}/{above}".replace("../", "%2e%2e/"),
        f"file://{secret}",
    ]
    for path in paths:
        assert answer(server, f"gradio_api/file={path}")[0] == 403, path
    for place in ("static", "assets", "svelte", "gradio_api/static"):
        for up in ("../" * 12, "%2e%2e/" * 12, "..%2f" * 12, "/"):
            status, text = answer(server, f"{place}/{up}etc/passwd")
            assert status != 200 or "root:" not in text


def test_files_that_were_not_uploaded_cannot_be_upscaled(server, inputs):
    uploaded = upload(server, inputs / "third.png")
    assert forge(server, uploaded)["success"]
    secret = str(inputs / "deep.png")
    above = os.path.join(os.path.dirname(uploaded), os.path.relpath(secret, os.path.dirname(uploaded)))
    for path in (secret, above, f"file://{secret}", "http://example.invalid/image.png"):
        message = forge(server, path)
        assert not message["success"] and "deep" not in json.dumps(message["output"].get("data", "")), path
    assert not forge(server, uploaded, generator=secret)["success"]
    assert not [path for path in server.files() if path.name == "deep.png"]


def test_requests_are_refused_while_the_queue_is_full(server, tmp_path):
    uploaded = upload(server, save(tmp_path / "slow.png", random_image(300, 300)))
    for _ in range(50):
        status, text = ask(server, uploaded, "fast", "crowd")
        if status != 200:
            break
    assert status == 503 and "Queue is full" in text


def test_an_ended_program_leaves_no_files_and_without_pyav_its_page_says_what_to_install(tmp_path, inputs):
    (tmp_path / "temporary").mkdir()
    with served(tmp_path / "temporary", script=("-c", WITHOUT_PYAV)) as server:
        assert "pip install -r requirements-video.txt" in answer(server, "config")[1]
        assert pathlib.Path(upload(server, inputs / "third.png")) in server.files()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == 130
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    ("flags", "missing", "said"),
    [
        (["--port", "70000"], None, "--port: '70000' is not a port, a whole number from 1 to 65535"),
        (["--model", "nowhere.keras"], None, "nowhere.keras: no such model"),
        ([], "gradio", "install it with pip install -r requirements-app.txt"),
    ],
)
def test_an_error_at_the_start_is_one_line(flags, missing, said, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    try:
        status = app.main(flags)
    except SystemExit as end:
        status = end.code
    err = capsys.readouterr().err
    assert status == 2 and said in err and err.count("\n") == 1
