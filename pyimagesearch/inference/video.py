"""Upscale videos frame by frame. An interrupted upscaling resumes where it stopped."""

import collections
import contextlib
import hashlib
import itertools
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import av
import numpy as np
from tqdm import tqdm

from pyimagesearch.errors import UserError
from pyimagesearch.files import check_space, fitting_name, printable, read_text, write_text, written_whole
from pyimagesearch.inference.video_formats import RESULT_ENDINGS, VideoSettings
from pyimagesearch.inference.video_reading import Animation, Frame, Video, open_container, open_video
from pyimagesearch.inference.video_writing import Writer, can_encode

SEGMENT = 100
"""The number of frames that are stored together until the video is complete."""

_STORED = VideoSettings("ffv1")
_AHEAD = 2  # frames in each queue: decoded ones and computed ones
_PACE = 30  # seconds between progress lines

Item = TypeVar("Item")
Upscale = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int, int], None]


class _Result(NamedTuple):
    """A frame, its upscaled pixels, uint8 RGB [H, W, 3], and the segment to store it in. None: it is already stored."""

    frame: Frame
    pixels: np.ndarray
    segment: str | None


def upscale_video(
    source: str,
    target: str,
    upscale: Upscale,
    progress: Progress = lambda frames, total: None,
    settings: VideoSettings | None = None,
) -> list[int]:
    """Upscale a video, or resume an interrupted call for the same video.

    Until the video is complete, the upscaled frames are stored without loss in segments. The segments are in a folder
    beside `target`. Segments of another video or of another `upscale` are deleted. To recognize another `upscale`, the
    function first upscales an image of noise. Frames keep their times. A frame that cannot be decoded is named in a
    warning, and the frame before it is shown longer. Decoding, computing and encoding overlap.

    Args:
        source: the path of the video or animated image.
        target: the path of the result. It ends with one of `video_formats.RESULT_ENDINGS`.
        upscale: maps uint8 RGB [h, w, 3] to uint8 RGB [S*h, S*w, 3]. It is called in a separate thread.
        progress: is called with the number of frames finished since the last call and the number of all frames.
        settings: the encoding of the result, H.264 by default.

    Returns:
        The numbers of the damaged frames, counted from 0.

    Raises:
        UserError: the source is not a video, the target has another ending or is the source, the codec does not
            support the frame size, or there is too little disk space. Finished segments are kept.
    """
    settings = settings or VideoSettings()
    _check_target(source, target, settings)
    video = open_video(source)
    folder = _folder_of(target)
    _begin(folder, video, upscale, settings)
    with _writing(target), written_whole(target) as aside, Writer(aside, video, settings) as writer:
        _encode(_overlapped(_upscaled(video, folder, upscale)), video, writer, folder, progress)
    shutil.rmtree(folder)
    if damaged := sorted(video.damaged):
        numbers = ", ".join(map(str, damaged))
        logging.warning("%s: damaged frames, which may show the frame before: %s", source, numbers)
    return damaged


def begin_segments(source: str, target: str, upscale: Upscale, settings: VideoSettings | None = None) -> int:
    """Prepare the folder of the segments of a video, as `upscale_video` does.

    Args:
        source: see `upscale_video`.
        target: see `upscale_video`.
        upscale: see `upscale_video`.
        settings: see `upscale_video`.

    Returns:
        The number of segments that the video will have.

    Raises:
        UserError: see `upscale_video`.
    """
    settings = settings or VideoSettings()
    _check_target(source, target, settings)
    video = open_video(source)
    _begin(_folder_of(target), video, upscale, settings)
    return math.ceil(video.count / SEGMENT)


class SegmentMaker:
    """Makes segments of a video that `begin_segments` has prepared, in increasing order.

    Attributes:
        source: the path of the video.
        position: the number of the next segment. To make an earlier one, open another `SegmentMaker`.
    """

    def __init__(self, source: str) -> None:
        """Open the video.

        Args:
            source: the path of the video.
        """
        self.source, self.position = source, 0
        self._video = open_video(source)
        self._frames = self._video.frames()

    def make(self, number: int, target: str, upscale: Upscale) -> None:
        """Make a segment, unless it exists or the video is shorter. Frames before it are decoded only.

        Args:
            number: the number of the segment, at least `position`.
            target: see `upscale_video`.
            upscale: see `upscale_video`.

        Raises:
            UserError: it cannot be written.
        """
        path = _segment_path(_folder_of(target), number * SEGMENT)
        if os.path.exists(path):
            return
        skipped = SEGMENT * (number - self.position)
        chunk = list(itertools.islice(self._frames, skipped, skipped + 1))
        self.position = number + 1
        if not chunk:
            return
        width, height = self._video.first.image.width, self._video.first.image.height
        with _segment(path, self._video) as store:
            for frame in itertools.chain(chunk, itertools.islice(self._frames, SEGMENT - 1)):
                store(frame, upscale(frame.rgb(width, height)))
            self._video.check_unchanged()


def _folder_of(target: str) -> str:
    return os.path.join(os.path.dirname(target), fitting_name(f".unfinished-{os.path.basename(target)}.segments"))


def _segment_path(folder: str, first: int) -> str:
    return os.path.join(folder, f"{first:08d}.mkv")


def _check_target(source: str, target: str, settings: VideoSettings) -> None:
    if "://" in target:
        raise UserError(f"{target}: videos can only be written to this machine; choose a local path")
    if not target.lower().endswith(RESULT_ENDINGS):
        raise UserError(f"{target}: the format is not supported for videos; choose a name that ends in .mp4")
    if settings.codec == "ffv1" and not target.lower().endswith(settings.ending):
        raise UserError(f"{target}: does not support the codec ffv1; choose a name that ends in {settings.ending}")
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise UserError(f"{target}: is the source; choose another name for the result")


def _begin(folder: str, video: Video | Animation, upscale: Upscale, settings: VideoSettings) -> None:
    """Create the folder of the segments and delete segments that do not fit. Check the frame size and disk space."""
    plan, sample = os.path.join(folder, "plan.txt"), os.path.join(folder, "sample.npy")
    made_from, image = f"{video.identity}, segments of {SEGMENT} frames, {_STORED}", video.first.image
    shape = video.first.rgb(image.width, image.height).shape
    noise = upscale(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    _check_size(video.path, settings, *noise.shape[:2])
    if os.path.exists(plan) and read_text(plan) == made_from and _is_alike(np.load(sample), noise):
        _remove_damaged(folder)
        return
    if os.path.exists(folder):
        logging.info("%s: was made from another video or model; starting over", folder)
        shutil.rmtree(folder)
    with written_whole(sample) as aside:
        np.save(aside, noise)
    check_space(folder, _stored_size(folder, video, *noise.shape[:2]) * video.count)
    write_text(plan, made_from)


def _check_size(source: str, settings: VideoSettings, height: int, width: int) -> None:
    if not can_encode(settings, width + width % 2, height + height % 2):
        raise UserError(
            f"{source}: would become {width}x{height}, larger than {settings.codec} supports; make it smaller first"
        )


def _is_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether one model made both images, possibly on different devices."""
    return one.shape == other.shape and float(np.abs(one.astype(np.int16) - other).mean()) < 0.5


def _stored_size(folder: str, video: Video | Animation, height: int, width: int) -> int:
    """Estimate the bytes of a frame in a segment. The estimate is the size of the first frame, interpolated."""
    first = video.first
    path = os.path.join(folder, "size.mkv")
    pixels = first.rgb(*((height, width) if first.is_transposed else (width, height)))
    with written_whole(path) as aside, Writer(aside, video, _STORED, with_tracks=False) as writer:
        writer.write(first, pixels)
    size = os.path.getsize(path)
    os.remove(path)
    return size


def _overlapped(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items while a thread computes the next ones."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        made = collections.deque(pool.submit(next, iterator, end) for _ in range(_AHEAD))
        while (item := made.popleft().result()) is not end:
            made.append(pool.submit(next, iterator, end))
            yield item


def _upscaled(video: Video | Animation, folder: str, upscale: Upscale) -> Iterator[_Result]:
    """Yield the results of all frames in order. Those in segments are read, the others are computed."""
    width, height = video.first.image.width, video.first.image.height
    frames = _overlapped(video.frames())
    for first in itertools.count(0, SEGMENT):
        path = _segment_path(folder, first)
        some = list(itertools.islice(frames, 1))
        if not some:
            return
        chunk = itertools.chain(some, itertools.islice(frames, SEGMENT - 1))
        if os.path.exists(path):
            yield from _stored(path, chunk)
        else:
            yield from (_Result(frame, upscale(frame.rgb(width, height)), path) for frame in chunk)


def _stored(path: str, frames: Iterator[Frame]) -> Iterator[_Result]:
    """Yield the results in a segment."""
    with open_container(path) as container:
        for frame, image in zip(frames, container.decode(video=0), strict=True):
            yield _Result(frame, image.to_ndarray(format="rgb24"), None)


def _remove_damaged(folder: str) -> None:
    """Remove segments whose content has changed since they were finished."""
    for path in sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".mkv")):
        if not os.path.exists(_digest_of(path)) or read_text(_digest_of(path)) != _digest(path):
            os.remove(path)
            logging.warning("%s: is damaged; its frames are computed again", path)


def _digest_of(path: str) -> str:
    return f"{path}.sha256"


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    """Report an error while writing a file in one line."""
    try:
        yield
    except av.FFmpegError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free some disk space and repeat the command, which resumes"
        ) from error


def _encode(
    results: Iterator[_Result], video: Video | Animation, writer: Writer, folder: str, progress: Progress
) -> None:
    """Write all results to the video, and new results to their segments."""
    pace = _Pace(video)
    for path, some in itertools.groupby(results, key=lambda result: result.segment):
        with _segment(path, video) as store:
            for frame, pixels, _ in some:
                writer.write(frame, pixels)
                store(frame, pixels)
                progress(1, video.count)
                pace.tell(is_new=path is not None)
                video.check_unchanged()
        if path:
            sizes = [os.path.getsize(entry) for entry in os.scandir(folder) if entry.name.endswith(".mkv")]
            left = max(0, video.count - pace.done)
            check_space(folder, left * sum(sizes) / pace.done)


@contextlib.contextmanager
def _segment(path: str | None, video: Video | Animation) -> Iterator[Callable[[Frame, np.ndarray], None]]:
    """Yield a function that stores frames in a segment. It stores nothing if `path` is None."""
    if path is None:
        yield lambda frame, pixels: None
        return
    with _writing(path), written_whole(path) as aside:
        with Writer(aside, video, _STORED, with_tracks=False) as writer:
            yield writer.write
        write_text(_digest_of(path), _digest(aside))


class _Pace:
    """Logs the speed and the time left every `_PACE` seconds."""

    def __init__(self, video: Video | Animation) -> None:
        self.done = 0
        self._made = 0
        self._video = video
        self._began = self._told = time.monotonic()

    def tell(self, is_new: bool) -> None:
        """Count a frame."""
        self.done += 1
        self._made += is_new
        now = time.monotonic()
        if self._made and now - self._told >= _PACE:
            self._told = now
            rate = self._made / (now - self._began)
            left = max(0, self._video.count - self.done) / rate
            logging.info(
                "%s: %d of %d frames, %.3g frames/s, about %s left",
                *(printable(self._video.path), self.done, self._video.count, rate, tqdm.format_interval(left)),
                extra={"is_progress": True},
            )
