"""Comparisons of inputs and results: a figure for each result, and a page with sliders."""

import base64
import html
import io
import os
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.inset_locator import mark_inset
from PIL import Image

from pyimagesearch.data.image_io import LoadedImage
from pyimagesearch.data.metadata import fitting_profile
from pyimagesearch.errors import UserError
from pyimagesearch.files import written_whole
from pyimagesearch.metrics import to_uint8

WHOLE_SIZE = 1000
"""The longest side of a whole image in a figure, in pixels."""

VIEW_SIZE = 1200
"""The longest side of the part of a result on a page, in pixels."""

INSET_PARTS = 12
"""The longest side of an image divided by the side of the part that an inset shows."""


class View(NamedTuple):
    """The part of an image on a page.

    Attributes:
        name: the name of the image.
        before: the bicubic interpolation, as a data URL of a JPEG file.
        after: the result, in the same form.
    """

    name: str
    before: str
    after: str


def view(name: str, before: LoadedImage, after: LoadedImage) -> View:
    """Return the middle of a result at its full resolution, and the same part of the input upscaled by interpolation.

    Args:
        name: the name of the image.
        before: the input.
        after: the result.
    """
    height, width, _ = after.pixels.shape
    top, left = (max(0, side - VIEW_SIZE) // 2 for side in (height, width))
    part = as_rgb(after.pixels[top : top + VIEW_SIZE, left : left + VIEW_SIZE])
    enlarged = enlarged_part(before.pixels, after.pixels.shape, top, left, *part.shape[:2])
    return View(name, _as_url(enlarged, before.metadata.icc), _as_url(part, after.metadata.icc))


def _as_url(image: np.ndarray, icc: bytes | None) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(as_jpeg(image, icc)).decode()


def as_jpeg(image: np.ndarray, icc: bytes | None) -> bytes:
    """Return an image, uint8 RGB [H, W, 3], as the bytes of a JPEG file with a colour profile, if that is for RGB."""
    file = io.BytesIO()
    profile = fitting_profile(icc, image.shape[-1])
    Image.fromarray(np.ascontiguousarray(image)).save(file, "jpeg", quality=90, icc_profile=profile)
    return file.getvalue()


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return an image [H, W, C] as uint8 RGB, composited over white."""
    pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    colours = pixels[..., :3] if pixels.shape[-1] > 2 else np.repeat(pixels[..., :1], 3, axis=-1)
    if pixels.shape[-1] in (1, 3):
        return colours
    opacity = pixels[..., -1:].astype(np.float32) / 255
    return to_uint8(255 + (colours - np.float32(255)) * opacity)


def enlarged_part(
    before: np.ndarray, whole: tuple[int, ...], top: int, left: int, height: int, width: int
) -> np.ndarray:
    """Upscale an image to the shape `whole` by bicubic interpolation, and return a part of the result."""
    down, across = before.shape[0] / whole[0], before.shape[1] / whole[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    image = Image.fromarray(np.ascontiguousarray(as_rgb(before)))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def before_and_after(before: LoadedImage, after: LoadedImage) -> Figure:
    """Draw the upscaled input and the result side by side, each with an inset of the most detailed part.

    Args:
        before: the input.
        after: the result.
    """
    height, width, _ = after.pixels.shape
    top, left, size = most_detailed(after.pixels, max(64, max(height, width) // INSET_PARTS))
    insets = {
        "Bicubic": enlarged_part(before.pixels, after.pixels.shape, top, left, size, size),
        "SRGAN": as_rgb(after.pixels[top : top + size, left : left + size]),
    }
    figure = Figure((14, 14 * height / width / 2 + 4.2), layout="constrained")
    for column, (title, image) in enumerate(insets.items()):
        whole, inset = figure.add_subplot(2, 2, column + 1), figure.add_subplot(2, 2, column + 3)
        whole.imshow(shrunk(before.pixels if column == 0 else after.pixels), extent=(0, width, height, 0))
        whole.set(title=title, xticks=[], yticks=[])
        inset.imshow(image, extent=(left, left + size, top + size, top))
        inset.set(xticks=[], yticks=[])
        for line in mark_inset(whole, inset, loc1=1, loc2=2, fc="none", ec="blue"):
            line.set_in_layout(False)  # otherwise the layout reserves space for the lines
    return figure


def shrunk(pixels: np.ndarray, size: int = WHOLE_SIZE) -> np.ndarray:
    """Return an image [H, W, C] as uint8 RGB, reduced to at most `size` pixels in height and width."""
    image = Image.fromarray(np.ascontiguousarray(as_rgb(pixels)))
    image.thumbnail((size, size))
    return np.asarray(image)


def most_detailed(pixels: np.ndarray, size: int) -> tuple[int, int, int]:
    """Return the square of an image with the strongest edges.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        size: the side of the square in pixels. It is smaller in images that are smaller.

    Returns:
        The top row, the left column and the side in pixels.
    """
    height, width, _ = pixels.shape
    size = min(height, width, size)
    grey = cv2.cvtColor(shrunk(pixels), cv2.COLOR_RGB2GRAY)
    factors = grey.shape[0] / height, grey.shape[1] / width
    window = [max(1, int(size * factor)) for factor in factors]
    edges = cv2.boxFilter(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), -1, window[::-1], anchor=(0, 0))
    edges = edges[: grey.shape[0] - window[0] + 1, : grey.shape[1] - window[1] + 1]
    top, left = np.unravel_index(np.argmax(edges), edges.shape)
    return min(int(top / factors[0]), height - size), min(int(left / factors[1]), width - size), size


_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>SRGAN: before and after</title>
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
@@
<script>
for (const slider of document.querySelectorAll("input")) {{
  const move = () => slider.parentElement.style.setProperty("--place", slider.value + "%");
  slider.addEventListener("input", move);
  move();
}}
</script>
</html>
"""

_TITLE = "<title>SRGAN: before and after</title>"

_FIGURE = """<figure>
<figcaption>{name}</figcaption>
<div class="pair" style="--place: 50%">
<img src="{before}" alt="{name}, bicubic interpolation"><img class="after" src="{after}" alt="{name}, SRGAN">
<div class="line"></div>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="Position of the line in {name}">
</div>
</figure>
"""


def write_page(path: str, views: Iterable[View]) -> None:
    """Write an HTML page with a slider for each view. The page needs no other files.

    Args:
        path: the path of the page.
        views: from `view`.

    Raises:
        UserError: another page exists at this path.
    """
    check_page(path)
    head, foot = _PAGE.format(size=VIEW_SIZE).split("@@")
    with written_whole(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.write(head)
        for name, before, after in views:
            file.write(_FIGURE.format(name=html.escape(name), before=before, after=after))
        file.write(foot)


def check_page(path: str) -> None:
    """Check that a page can be written to a path.

    Raises:
        UserError: the path has a page that `write_page` has not written.
    """
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            if _TITLE not in file.read(1000):
                raise UserError(
                    f"{path}: exists and is not a page of this program; choose another folder for the results"
                )
