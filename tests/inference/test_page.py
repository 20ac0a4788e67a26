import socket

import pytest
import tensorflow as tf

from pyimagesearch.errors import UserError
from pyimagesearch.inference.service import Service
from pyimagesearch.inference.sessions import Sessions
from pyimagesearch.inference.upscaling import load_upscaler

gr = pytest.importorskip("gradio", reason="needs Gradio, which is not installed")

from pyimagesearch.inference.page import Page  # noqa: E402  which needs Gradio


def generators(page):
    """Return the generators that the first tab offers, and the one that is chosen."""
    radio = next(block for block in page.blocks.blocks.values() if isinstance(block, gr.Radio))
    return [value for _, value in radio.choices], radio.value


@pytest.fixture
def make_page(tmp_path):
    def make(own=None):
        return Page(Service(tf.distribute.get_strategy(), load_upscaler, 1000, own), Sessions(str(tmp_path)))

    return make


def test_a_generator_of_the_user_is_offered_first(make_page):
    shipped = ["photo", "srgan", "pretrained", "photo-pretrained", "fast"]
    assert generators(make_page()) == (shipped, "photo")
    assert generators(make_page("models/mine.keras")) == (["mine.keras", *shipped], "mine.keras")


def test_a_port_in_use_is_told(make_page):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: cannot be listened at; choose another port or host"):
            make_page().serve("127.0.0.1", port, 2**20, 2)
