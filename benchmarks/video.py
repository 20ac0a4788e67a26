#!/usr/bin/env python3
"""Measure how fast videos are upscaled, and which part of the time is the network.

Examples:
    python benchmarks/video.py                                  # every generator that comes with the project
    python benchmarks/video.py --model-name fast --frames 100
    python benchmarks/video.py --model-name srgan --codec hevc
"""

import argparse
import functools
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from pyimagesearch import cli  # noqa: F401  before TensorFlow, to suppress its messages

# isort: split
import av
import numpy as np

from pyimagesearch import devices, readers
from pyimagesearch.config import SHIPPED_GENERATORS
from pyimagesearch.data.image_io import read_rgb
from pyimagesearch.inference import video
from pyimagesearch.inference.generators import load_generator
from pyimagesearch.inference.runtimes import choose_runtime
from pyimagesearch.inference.upscaling import Upscaler
from pyimagesearch.inference.video_formats import CODECS, VideoSettings

PHOTOGRAPH = pathlib.Path(__file__).parents[1] / "docs" / "photographs" / "HR" / "hallway.png"


class Stopwatch:
    """Adds up the seconds that calls take, each second once when calls overlap or contain others."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = 0
        self._began = 0.0
        self._lock = threading.Lock()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are timed."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._step(1)
            try:
                return function(*args, **kwargs)
            finally:
                self._step(-1)

        return call

    def _step(self, more: int) -> None:
        with self._lock:
            now = time.perf_counter()
            if self._inside:
                self.seconds += now - self._began
            self._began, self._inside = now, self._inside + more


def write_pan(path: str, frames: int, height: int, width: int) -> None:
    """Write a video in which the view moves over a photograph."""
    photograph = read_rgb(str(PHOTOGRAPH))
    photograph = np.pad(photograph, ((0, height), (0, width + 2 * frames), (0, 0)), "reflect")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", 25, {"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            view = np.ascontiguousarray(photograph[:height, 2 * number : 2 * number + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))


def measure(name: str, args: argparse.Namespace, folder: str) -> None:
    """Upscale a video by a generator and print a line."""
    source = str(pathlib.Path(folder) / "source.mp4")
    write_pan(source, args.frames, args.height, args.width)
    precision = devices.choose_precision("auto")
    upscale = Upscaler(load_generator(SHIPPED_GENERATORS[name]), choose_runtime("auto"), precision)
    upscale(np.zeros((args.height, args.width, 3), np.uint8))  # compiles
    upscale(np.random.default_rng(0).integers(0, 256, (args.height, args.width, 3), np.uint8))
    network, computing = Stopwatch(), Stopwatch()
    upscale.trunk, upscale.head = network.timed(upscale.trunk), network.timed(upscale.head)
    began = time.perf_counter()
    video.upscale_video(
        source, str(pathlib.Path(folder) / "large.mkv"), computing.timed(upscale), settings=VideoSettings(args.codec)
    )
    taken = time.perf_counter() - began
    print(
        f"{name:10} {args.frames / taken:6.2f} frames/s of {args.width}x{args.height}: {network.seconds / taken:.1%} "
        f"of the time is the network, {computing.seconds / taken:.1%} with colours held",
        flush=True,
    )


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model-name", choices=SHIPPED_GENERATORS, nargs="+", default=list(SHIPPED_GENERATORS))
    add("--frames", type=readers.positive_int, default=25, help="of the video (%(default)s)")
    add("--height", type=readers.positive_int, default=144)
    add("--width", type=readers.positive_int, default=192)
    add("--codec", choices=CODECS, default="h264")
    args = parser.parse_args()
    for name in args.model_name:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, args, folder)


if __name__ == "__main__":
    main()
