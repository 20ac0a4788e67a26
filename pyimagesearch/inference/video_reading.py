"""Read the frames of videos and animated images, with their times, upright, deinterlaced and in RGB."""

import bisect
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation
from PIL import Image, ImageSequence

from pyimagesearch.errors import UserError
from pyimagesearch.files import printable
from pyimagesearch.inference.video_formats import ANIMATED_ENDINGS

EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
"""The flags of colour conversion: accurate rounding, and full chroma resolution where possible."""

LIMITED, FULL = 1, 2  # AVColorRange
_MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M} | dict.fromkeys(
    (5, 6), Colorspace.ITU601
)
_MATRICES |= dict.fromkeys((9, 10), Colorspace.BT2020)  # of AVColorSpace
_CLOCK_OF_ITS_OWN = av.format.Flags.ts_discont.value
_DEFAULT_RATE = Fraction(25)  # frames a second, if the file does not say


class Frame(NamedTuple):
    """A decoded frame, its time and duration in seconds, and the matrix a, b, c, d that turns it upright."""

    time: Fraction
    duration: Fraction
    image: av.VideoFrame
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1)

    @property
    def is_transposed(self) -> bool:
        """Whether turning exchanges rows and columns."""
        return abs(self.matrix[1]) > abs(self.matrix[0])

    def rgb(self, width: int, height: int) -> np.ndarray:
        """Return the frame upright, uint8 RGB [H, W, 3]. `width` and `height` are the size before turning."""
        across, down = (self.matrix[2], self.matrix[1]) if self.is_transposed else (self.matrix[0], self.matrix[3])
        pixels = _as_rgb(self.image, width, height).to_ndarray()
        pixels = pixels.swapaxes(0, 1) if self.is_transposed else pixels
        return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def is_hd(width: int, height: int) -> bool:
    """Return whether a video of this size is in BT.709 by convention. Smaller videos are in BT.601."""
    return width >= 1280 or height > 576


def _as_rgb(image: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    name = image.format.name
    full_by_nature = name.startswith(("yuvj", "gray", "ya")) and image.color_range != LIMITED
    is_full = image.format.is_rgb or full_by_nature or image.color_range == FULL
    by_size = Colorspace.ITU709 if is_hd(image.width, image.height) else Colorspace.ITU601
    return image.reformat(
        width,
        height,
        "rgb24",
        src_colorspace=_MATRICES.get(image.colorspace, by_size),
        src_color_range=FULL if is_full else LIMITED,
        dst_color_range=FULL,
        interpolation=EXACT,
    )


class _Source:
    """A file that is read several times and must not change."""

    path: str

    def __post_init__(self) -> None:
        self._status = self._current()

    def check_unchanged(self) -> None:
        """Check that the file has not changed.

        Raises:
            UserError: the file has changed.
        """
        if self._current() != self._status:
            raise UserError(f"{self.path}: was changed while it was read; repeat the command")

    @property
    def identity(self) -> str:
        """A text that changes with the file."""
        return str(self._status)

    def _current(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            return status.st_size, status.st_mtime_ns
        return None


@dataclasses.dataclass
class Video(_Source):
    """A video file, with the times of its packets and its first frame."""

    path: str

    def __post_init__(self) -> None:
        """Read all packets and decode the first frame.

        Raises:
            UserError: FFmpeg cannot read the file, or it has no frame that can be decoded.
        """
        super().__post_init__()
        self.damaged: set[int] = set()
        self._said: set[str] = set()
        with open_container(self.path) as container:
            stream = _video_stream(self.path, container)
            self.time_base = stream.time_base
            self.rate = stream.guessed_rate or stream.average_rate or _DEFAULT_RATE
            self.ratio = stream.sample_aspect_ratio or Fraction(1)
            self.metadata = dict(stream.metadata)
            self.shift = clock_start(container)
            packets = [packet for packet in _packets(container, stream) if packet.size and not packet.is_discard]
            self._times = sorted(_when(packet) for packet in packets)
        self.first = next(self.frames(), None)
        if self.first is None:
            raise UserError(f"{self.path}: none of its frames can be decoded")
        if self.first.is_transposed:
            self.ratio = 1 / self.ratio
        if any(component.is_alpha for component in self.first.image.format.components):
            self._say("transparency is left out")
        self.damaged.clear()

    @property
    def count(self) -> int:
        """The number of frames. Damaged frames count."""
        return len(self._times)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in the order of their times. No two times are equal. Collect damaged frames in `damaged`."""
        with open_container(self.path) as container:
            stream = _video_stream(self.path, container)
            stream.thread_type = "SLICE"  # with frame threads, errors are reported late
            last = None
            for image in self._deinterlaced(self._decoded(container, stream)):
                base = image.time_base or self.time_base
                duration = image.duration * base or 1 / self.rate
                following = Fraction(0) if last is None else last + duration
                time = following if image.pts is None else image.pts * base - self.shift
                last = time if last is None else max(time, last + self.time_base)
                yield Frame(last, duration, image, _matrix(image))

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        for packet in _packets(container, stream):
            try:
                images = packet.decode()
            except av.FFmpegError:
                self._note_damage(_when(packet))
                continue
            for image in images:
                if image.is_corrupt:
                    self._note_damage(image.pts)
                yield image

    def _note_damage(self, time: int | None) -> None:
        self.damaged.add(max(0, bisect.bisect_right(self._times, time or 0) - 1))

    def _deinterlaced(self, images: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Filter all frames from the first interlaced frame on. The filter does not change progressive frames."""
        graph = None
        for image in images:
            if graph is None and image.interlaced_frame:
                self._say("is interlaced; it is deinterlaced")
                graph = _deinterlacer(image, self.time_base)
            if graph is None:
                yield image
            else:
                graph.push(image)
                yield from _pulled(graph)
        if graph:
            graph.push(None)
            yield from _pulled(graph)

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            logging.info("%s: %s", printable(self.path), what)


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """Yield the packets of a stream that can be read, and an empty packet that flushes the decoder."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        logging.warning("%s: is damaged or truncated; the rest is lost", printable(container.name))


def _when(packet: av.Packet) -> int:
    return packet.pts if packet.pts is not None else packet.dts or 0


def _matrix(image: av.VideoFrame) -> tuple[int, int, int, int]:
    data = image.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d


def _deinterlacer(image: av.VideoFrame, time_base: Fraction) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=time_base)
    graph.link_nodes(
        source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    ).configure()
    return graph


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return


def open_container(path: str) -> av.container.InputContainer:
    """Open a file for reading.

    Raises:
        UserError: FFmpeg cannot read it.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such video")
    try:
        # With "file:", a name is never read as an address or as a pattern of numbered images.
        return av.open(f"file:{os.path.abspath(path)}", metadata_errors="replace")
    except (av.FFmpegError, UnicodeError) as error:
        raise UserError(f"{path}: not a video that FFmpeg can read") from error


def _video_stream(path: str, container: av.container.InputContainer) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None or not stream.codec_context:
        raise UserError(f"{path}: not a video that FFmpeg can read")
    return stream


def clock_start(container: av.container.InputContainer) -> Fraction:
    """Return the start time of a file in seconds. It is any time in broadcasts, and 0 in other files."""
    starts = [stream.start_time * stream.time_base for stream in container.streams if stream.start_time is not None]
    return min(starts, default=Fraction(0)) if container.format.flags & _CLOCK_OF_ITS_OWN else Fraction(0)


@dataclasses.dataclass
class Animation(_Source):
    """An animated image, read as a video."""

    path: str
    damaged: frozenset[int] = frozenset()
    time_base = Fraction(1, 1000)
    rate = _DEFAULT_RATE
    ratio = Fraction(1)
    shift = Fraction(0)

    def __post_init__(self) -> None:
        """Read the first frame.

        Raises:
            UserError: it cannot be read.
        """
        super().__post_init__()
        self.metadata: dict[str, str] = {}
        try:
            self.first = next(self.frames())
        except (OSError, SyntaxError, ValueError, StopIteration) as error:
            raise UserError(f"{self.path}: damaged, or not an image") from error

    @functools.cached_property
    def count(self) -> int:
        """The number of frames."""
        with Image.open(self.path) as image:
            return image.n_frames

    def frames(self) -> Iterator[Frame]:
        """Yield the frames over a white background."""
        time = Fraction(0)
        with Image.open(self.path) as image:
            for frame in ImageSequence.Iterator(image):
                shown = frame.convert("RGBA")
                shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
                duration = Fraction(
                    round(frame.info.get("duration") or 100), 1000
                )  # browsers show frames of duration 0 for 0.1 s
                yield Frame(time, duration, av.VideoFrame.from_ndarray(np.asarray(shown), format="rgb24"))
                time += duration


def open_video(path: str) -> Video | Animation:
    """Open a video or an animated image.

    Raises:
        UserError: there is no such file, or no frame of it can be decoded.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such video")
    return Animation(path) if path.lower().endswith(ANIMATED_ENDINGS) else Video(path)
