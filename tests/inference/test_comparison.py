import base64
import io
import re

import numpy as np
import pytest
from browser import needs_chromium, run_chromium
from conftest import random_image
from PIL import Image

from pyimagesearch.data.image_io import LoadedImage
from pyimagesearch.inference import comparison
from pyimagesearch.inference.comparison import before_and_after, view, write_page


def decoded(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")))))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_view_shows_the_same_middle_of_both(monkeypatch, channels, dtype):
    monkeypatch.setattr(comparison, "VIEW_SIZE", 40)
    small = np.zeros((15, 20, channels), dtype)
    small[5:10, 8:12] = np.iinfo(dtype).max // 2
    if channels in (2, 4):
        small[..., -1] = np.iinfo(dtype).max
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    _, before, after = view("name", LoadedImage(small), LoadedImage(large))
    assert decoded(before).shape == decoded(after).shape == (40, 40, 3)
    assert np.abs(decoded(before).astype(int) - decoded(after)).mean() < 15
    assert decoded(after)[20, 20].mean() == pytest.approx(127, abs=4) and decoded(after)[0, 0].mean() < 8


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (8, 400), (1200, 800)])
def test_the_figure_shows_both_and_where_the_most_detail_is(height, width):
    after = np.full((height, width, 3), 100, np.uint8)
    after[-8:, -8:] = random_image(8, 8)
    before = after[::4, ::4]
    figure = before_and_after(LoadedImage(before), LoadedImage(after))
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["Bicubic", "SRGAN"]
    shown = figure.axes[-1].images[0].get_array()
    assert shown[-8:, -8:].std() > 30 and max(shown.shape[:2]) <= max(64, max(height, width) // 12)
    figure.canvas.draw()


def test_the_images_of_the_figure_take_the_room_there_is():
    after = np.full((800, 800, 3), 100, np.uint8)
    after[40:110, 400:470] = random_image(70, 70)
    figure = before_and_after(LoadedImage(after[::4, ::4]), LoadedImage(after))
    figure.savefig(io.BytesIO())
    assert min(axes.get_position().width for axes in figure.axes) > 0.3


# Actions of a user, and the positions of the line and of the edge of the image afterwards.
MOVE = """<script>
const [first, second] = document.querySelectorAll("input");
first.value = 25;
first.dispatchEvent(new Event("input"));
const [pair] = document.querySelectorAll(".pair");
const line = pair.querySelector(".line").getBoundingClientRect().left - pair.getBoundingClientRect().left;
document.title = [
  getComputedStyle(pair.querySelector(".after")).clipPath,
  Math.round(100 * line / pair.getBoundingClientRect().width),
  document.querySelectorAll("img").length,
  [...document.querySelectorAll("img")].every(image => image.complete && image.naturalWidth > 0),
].join("; ");
</script>"""


@needs_chromium
def test_the_line_on_the_page_can_be_moved(tmp_path):
    before, after = np.zeros((30, 50, 3), np.uint8), np.full((120, 200, 3), 255, np.uint8)
    views = [view(name, LoadedImage(before), LoadedImage(after)) for name in ("Größe & <b>写真</b>.png", "second.png")]
    page = tmp_path / "index.html"
    write_page(str(page), views)
    text = page.read_text(encoding="utf-8")
    assert "http" not in text and "Größe &amp; &lt;b&gt;写真" in text
    profile, size = tmp_path / "profile", "--window-size=800,900"
    run_chromium(page, profile, size, f"--screenshot={tmp_path / 'page.png'}")
    screen = np.asarray(Image.open(tmp_path / "page.png").convert("L")).astype(int)
    rows, columns = np.nonzero(screen < 5)  # black: the images before
    left = columns.min()
    assert np.all(screen[rows[0] + 60, left : left + 97] < 5) and np.all(
        screen[rows[0] + 60, left + 110 : left + 200] > 245
    )
    moved = tmp_path / "moved.html"
    moved.write_text(text.replace("</html>", MOVE + "</html>"), encoding="utf-8")
    title = re.search("<title>(.*?)</title>", run_chromium(moved, profile, size, "--dump-dom"))[1]
    assert title == "inset(0px 0px 0px 25%); 25; 4; true"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_transparent_is_white_before_and_after(dtype):
    full = np.iinfo(dtype).max
    for colours in (1, 3):
        pixels = np.zeros((20, 30, colours + 1), dtype)
        pixels[:, 15:, -1] = full
        shown = comparison.as_rgb(pixels)
        assert (shown[:, :15] == 255).all() and (shown[:, 15:] == 0).all() and shown.shape == (20, 30, 3)
