"""Before and after: a picture beside each result, and a page with a slider for each."""

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.inset_locator import mark_inset
from PIL import Image

from pyimagesearch.files import written_whole
from pyimagesearch.metrics import to_integers
from pyimagesearch.pictures import Picture

WHOLE_SIZE = 1000
"""The longest side of a whole picture in a figure, in pixels."""

VIEW_SIZE = 1200
"""The longest side of what a page shows of a result, in pixels."""

INSET_PARTS = 12
"""How many times smaller than the picture's longest side an inset's part of it is."""


class View(NamedTuple):
    """What a page shows of a picture, before and after, as addresses of embedded JPEG files."""

    name: str
    before: str
    after: str


def view(name: str, before: Picture, after: Picture) -> View:
    """Return the middle of a result, pixel by pixel, and the same part of the picture enlarged by interpolation."""
    height, width, _ = after.pixels.shape
    middle = tuple(
        slice(max(0, side - VIEW_SIZE) // 2, max(0, side - VIEW_SIZE) // 2 + VIEW_SIZE) for side in (height, width)
    )
    enlarged = _enlarged(_rgb(before.pixels), height, width)
    return View(name, _as_url(enlarged[middle], before.icc), _as_url(_rgb(after.pixels)[middle], after.icc))


def _as_url(image: np.ndarray, icc: bytes | None) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "jpeg", quality=90, icc_profile=icc)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Return a picture [H, W, C] as uint8 RGB, without transparency."""
    pixels = to_integers(pixels / 257, np.uint8) if pixels.dtype == np.uint16 else pixels
    return pixels[..., :3] if pixels.shape[-1] > 2 else np.repeat(pixels[..., :1], 3, axis=-1)


def _enlarged(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.BICUBIC))


def before_and_after(before: Picture, after: Picture) -> Figure:
    """Draw a picture, enlarged by interpolation, beside its result, each with an inset of where the most detail is."""
    height, width, _ = after.pixels.shape
    images = {"Bicubic": _enlarged(_rgb(before.pixels), height, width), "SRGAN": _rgb(after.pixels)}
    top, left, size = _most_detailed(images["SRGAN"])
    figure = Figure((14, 14 * height / width / 2 + 4.2), layout="constrained")
    for column, (title, image) in enumerate(images.items()):
        whole, inset = figure.add_subplot(2, 2, column + 1), figure.add_subplot(2, 2, column + 3)
        whole.imshow(_shrunk(image), extent=(0, width, height, 0))
        whole.set(title=title, xticks=[], yticks=[])
        inset.imshow(image[top : top + size, left : left + size], extent=(left, left + size, top + size, top))
        inset.set(xticks=[], yticks=[])
        mark_inset(whole, inset, loc1=1, loc2=2, fc="none", ec="blue")
    return figure


def _shrunk(image: np.ndarray) -> np.ndarray:
    image = Image.fromarray(image)
    image.thumbnail((WHOLE_SIZE, WHOLE_SIZE))
    return np.asarray(image)


def _most_detailed(image: np.ndarray) -> tuple[int, int, int]:
    """Return the top, the left and the side of the square of a picture that has the strongest edges."""
    height, width, _ = image.shape
    size = min(height, width, max(64, max(height, width) // INSET_PARTS))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    edges = cv2.boxFilter(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), -1, (size, size), anchor=(0, 0))
    edges = edges[: height - size + 1, : width - size + 1]
    top, left = np.unravel_index(np.argmax(edges), edges.shape)
    return int(top), int(left), size


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Before and after</title>
<style>
body {{ font: 16px system-ui, sans-serif; margin: 2rem auto; max-width: {size}px; padding: 0 1rem;
  background: #fafafa; color: #222 }}
figure {{ margin: 0 0 3rem }}
figcaption {{ margin: .5rem 0; overflow-wrap: anywhere }}
.pair {{ position: relative; line-height: 0; width: fit-content; max-width: 100% }}
.pair img {{ max-width: 100% }}
.pair .after {{ position: absolute; inset: 0; clip-path: inset(0 0 0 var(--place)) }}
.pair .line {{ position: absolute; top: 0; bottom: 0; left: var(--place); border-left: 2px solid #fff;
  box-shadow: 0 0 4px #000; pointer-events: none }}
.pair input {{ position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize }}
.pair:focus-within {{ outline: 2px solid #36c }}
</style>
<h1>Before and after</h1>
<p>Left of the line: bicubic interpolation. Right of it: SRGAN. Move the line with the mouse, a finger or the arrow
keys.</p>
{figures}
<script>
for (const slider of document.querySelectorAll("input")) {{
  const move = () => slider.parentElement.style.setProperty("--place", slider.value + "%");
  slider.addEventListener("input", move);
  move();
}}
</script>
</html>
"""

_FIGURE = """<figure>
<figcaption>{name}</figcaption>
<div class="pair" style="--place: 50%">
<img src="{before}" alt="{name}, bicubic interpolation"><img class="after" src="{after}" alt="{name}, SRGAN">
<div class="line"></div>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="Where {name} is divided">
</div>
</figure>"""


def write_page(path: str, views: Sequence[View]) -> None:
    """Write a page that needs no other file, with a slider between before and after for each view."""
    figures = [_FIGURE.format(name=html.escape(name), before=before, after=after) for name, before, after in views]
    with written_whole(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.write(_PAGE.format(size=VIEW_SIZE, figures="\n".join(figures)))
