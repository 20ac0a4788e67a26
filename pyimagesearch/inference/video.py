"""Films, made larger frame by frame; what was cut off goes on where it stopped."""

import dataclasses
import functools
import itertools
import json
import logging
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import numpy as np

from pyimagesearch.errors import UserError
from pyimagesearch.files import printable, written_whole

FILM_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""What the names of films end with, in a folder."""

SEGMENT = 100
"""How many frames are kept together until the film is finished."""

_FINISHED, _LOSSLESS = "mp4v", "HFYU"  # HuffYUV of RGB, bit by bit; faster than FFV1, which takes less space
_MP4V_ENDINGS = tuple(ending for ending in FILM_ENDINGS if ending != ".webm")
_MP4V_LENGTH = 8191  # pixels, high or wide
_MP4V_TICKS = 65535  # the most that a frame rate can have above the line, with a power of 10 below
_END = 1000  # failures in a row that mean the end of a film; fewer are damage in its midst

# OpenCV and its FFmpeg, which looks here when it first opens a film, write of every damage to file descriptor 2.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclasses.dataclass(frozen=True)
class _Film:
    """A film that was looked through: frames a second, how many there are, and which of them cannot be decoded."""

    source: str
    size: int
    changed: int
    rate: float
    frames: int
    lost: tuple[int, ...]

    @property
    def plan(self) -> str:
        """What segments must have been made from to be taken."""
        return json.dumps({**dataclasses.asdict(self), "source": None, "segment": SEGMENT})

    @property
    def shown(self) -> list[int]:
        """For each frame, which of those that can be decoded is shown: itself, else the one before, else the first."""
        decoded = np.ones(self.frames, int)
        decoded[list(self.lost)] = 0
        return (np.maximum(np.cumsum(decoded), 1) - 1).tolist()


def count_frames(source: str) -> int:
    """Return how many frames `upscale_film` makes of a film, those that cannot be decoded among them.

    Raises:
        UserError: there is no such film, or none of its frames can be decoded.
    """
    return _look_through(source).frames


def upscale_film(
    source: str,
    target: str,
    upscale: Callable[[np.ndarray], np.ndarray],
    progress: Callable[[int], None] | None = None,
) -> list[int]:
    """Make a film larger, or go on with what an interrupted call for the same film began.

    Finished segments are kept, without loss, in a folder beside `target` until the film is complete; it is encoded
    once, from them. Segments of another film, or that another `upscale` has made, are not taken: to tell, it is first
    given a picture of noise. A frame that cannot be decoded is replaced by the one before, or at the start the one
    after, and named in a warning. Where the time between frames varies, it becomes their mean. With ffmpeg installed,
    the film gets the sound of the source.

    Args:
        source: the film, turned as its metadata say.
        target: where the larger film goes, MPEG-4 of the same frame rate and number of frames; it is there whole or
            not at all.
        upscale: from uint8 RGB [h, w, 3] to uint8 RGB [S*h, S*w, 3].
        progress: is told how many more frames are finished, first those of the interrupted call.

    Returns:
        The numbers of the frames that could not be decoded, from 0.

    Raises:
        UserError: the source is not a film; the target has another ending or is the source; the larger film has more
            pixels than MPEG-4 can have; there is too little space on the disk. Finished segments stay.
    """
    _check_target(source, target)
    film = _look_through(source)
    folder = os.path.join(os.path.dirname(target), f".unfinished-{os.path.basename(target)}")
    _begin(folder, film, upscale)
    segments = {
        os.path.join(folder, f"{first:08d}.mkv"): range(first, min(first + SEGMENT, film.frames))
        for first in range(0, film.frames, SEGMENT)
    }
    _make_missing(segments, film, upscale, progress or (lambda frames: None))
    _finish(folder, segments, film, target)
    if film.lost:
        numbers = ", ".join(map(str, film.lost))
        logging.warning("%s: frames that could not be decoded and repeat the one before: %s", source, numbers)
    return list(film.lost)


def _check_target(source: str, target: str) -> None:
    if "://" in target:
        raise UserError(f"{target}: films are written to this machine only; choose a path here")
    if not target.lower().endswith(_MP4V_ENDINGS):
        raise UserError(f"{target}: films are not written in that format; choose a name that ends in .mp4")
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise UserError(f"{target}: is the film that is to be made larger; choose another name for the result")


def _look_through(source: str) -> _Film:
    if not os.path.isfile(source):
        raise UserError(f"{source}: no such film")
    if printable(source) != source:
        raise UserError(f"{printable(source)}: OpenCV opens no film whose name is not text; rename it")
    status = os.stat(source)
    return _looked_through(source, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _looked_through(source: str, size: int, changed: int) -> _Film:
    """Read a film to its end: what its header tells of its length is often a guess.

    OpenCV may answer False for a frame that cannot be decoded, a few frames early, or leave it out without a word.
    Which it was is told by the times of the packets that no frame has.
    """
    capture = _open(source)
    logging.info("%s: looking through it", source)
    shown = [capture.get(cv2.CAP_PROP_POS_MSEC) for grabbed in _grabs(capture) if grabbed]
    if not shown:
        raise UserError(f"{source}: not a film that OpenCV can read")
    seen = {*shown[:1], *filter(None, shown)}  # 0 but for the first: OpenCV knows no time, at the end of an .avi
    packets = _packet_times(source)
    count = len(set(packets) - {None}) + packets.count(None)  # both fields of a frame have the same time
    times = _with_gaps_filled(sorted(seen.union(packets) - {None}), count)
    rate = _rate(capture.get(cv2.CAP_PROP_FPS), times)
    return _Film(source, size, changed, rate, max(len(times), len(shown)), _lost(times, seen, len(shown)))


def _open(source: str) -> cv2.VideoCapture:
    # An absolute path is never taken for an address, nor by FFmpeg for a pattern of numbered pictures.
    capture = cv2.VideoCapture(os.path.abspath(source), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise UserError(f"{source}: not a film that OpenCV can read")
    return capture


def _grabs(capture: cv2.VideoCapture) -> Iterator[bool]:
    """Yield True when the next frame is grabbed, before it a False for each failure; those at the end are none."""
    failures = 0
    while failures < _END:
        if capture.grab():
            yield from itertools.repeat(False, failures)
            yield True
            failures = 0
        else:
            failures += 1


def _packet_times(path: str) -> list[float | None]:
    """Return when, in ms, each packet of a film is shown, in the order of the file; None for those too damaged."""
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_FORMAT, -1)  # packets as they are, without decoding
    vp8 = capture.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter_fourcc(*"VP80")
    times = []
    for grabbed in _grabs(capture):
        # Some packets of VP8 are only there for others to refer to: the bit that shows them is not set.
        if not (grabbed and vp8) or capture.retrieve()[1].flat[0] & 16:
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC) if grabbed else None)
    return times


def _with_gaps_filled(times: list[float], count: int) -> list[float]:
    """Return `count` times in order: those given, and others where there is most room between them."""
    while 1 < len(times) < count:
        gaps = np.diff(times)
        widest = int(np.argmax(gaps))
        times.insert(widest + 1, times[widest] + gaps[widest] / 2)
    return times


def _rate(nominal: float, times: Sequence[float]) -> float:
    """Return how many frames a second keep a film's length: the header's, unless the times say something else."""
    length = (times[-1] - times[0]) / 1000
    mean = (len(times) - 1) / length if length else nominal
    rate = nominal if abs(mean - nominal) < 0.05 * nominal else mean
    return round(rate, int(math.log10(_MP4V_TICKS / rate)))


def _lost(times: Sequence[float], seen: set[float], decoded: int) -> tuple[int, ...]:
    """Return the numbers of the frames that none of so many decoded ones, seen at these times, is."""
    unseen = [number for number, time in enumerate(times) if time not in seen]
    # In an .avi with B-frames all are seen late, by as many frames as there are too many unseen, those at the start.
    late = len(unseen) - max(0, len(times) - decoded)
    return tuple(number - late for number in unseen[late:])


def _frames(film: _Film, numbers: Iterable[int]) -> Iterator[np.ndarray]:
    """Yield the frames of these ascending numbers, uint8 RGB [h, w, 3].

    All before them are decoded: where OpenCV arrives when told to go to a frame depends on the film.
    """
    capture = _open(film.source)
    grabbed = filter(None, _grabs(capture))
    shown, position, picture = film.shown, -1, None
    for number in numbers:
        if shown[number] > position:
            for _ in itertools.islice(grabbed, shown[number] - position):
                position += 1
            decoded, picture = capture.retrieve()
            if not decoded:
                raise UserError(f"{film.source}: was changed meanwhile; repeat the command")
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        yield picture


def _begin(folder: str, film: _Film, upscale: Callable[[np.ndarray], np.ndarray]) -> None:
    """Make the folder for the segments, or empty it of those that were made otherwise."""
    plan, sample = os.path.join(folder, "plan.json"), os.path.join(folder, "sample.npy")
    height, width, _ = next(_frames(film, [0])).shape
    noise = upscale(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    _check_size(film.source, noise)
    if os.path.exists(plan) and _read(plan) == film.plan and _is_alike(np.load(sample), noise):
        return
    if os.path.exists(folder):
        logging.info("%s: holds nothing of this film by this model, starting over", folder)
        shutil.rmtree(folder)
    with written_whole(sample) as aside:
        np.save(aside, noise)
    with written_whole(plan) as aside, open(aside, "w") as file:
        file.write(film.plan)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _is_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether the same model has made both, be it on another device."""
    return one.shape == other.shape and cv2.norm(one, other, cv2.NORM_L1) / one.size < 0.5


def _check_size(source: str, picture: np.ndarray) -> None:
    height, width, _ = picture.shape
    if max(height, width) > _MP4V_LENGTH:
        raise UserError(
            f"{source}: would become {width}x{height}, MPEG-4 has no more than {_MP4V_LENGTH}; make it smaller first"
        )


def _make_missing(
    segments: dict[str, range],
    film: _Film,
    upscale: Callable[[np.ndarray], np.ndarray],
    progress: Callable[[int], None],
) -> None:
    missing = {path: numbers for path, numbers in segments.items() if not os.path.exists(path)}
    left = sum(map(len, missing.values()))
    if left < film.frames:
        logging.info("%d of %d frames are finished, going on with the others", film.frames - left, film.frames)
        progress(film.frames - left)

    def enlarged(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            yield cv2.cvtColor(upscale(frame), cv2.COLOR_RGB2BGR)
            progress(1)

    frames = _frames(film, itertools.chain.from_iterable(missing.values()))
    for path, numbers in missing.items():
        with written_whole(path) as aside:
            _write(aside, _LOSSLESS, film.rate, enlarged(itertools.islice(frames, len(numbers))))
        _check_space(segments)


def _write(path: str, codec: str, rate: float, pictures: Iterator[np.ndarray]) -> None:
    """Write a film of pictures, uint8 BGR [H, W, 3], and see that they are all there: OpenCV does not tell."""
    failed = UserError(f"{path}: cannot be written; make room on the disk and repeat the command, which goes on")
    first = next(pictures)
    (height, width, _), count = first.shape, 0
    fourcc = cv2.VideoWriter_fourcc(*codec)
    writer = cv2.VideoWriter(os.path.abspath(path), cv2.CAP_FFMPEG, fourcc, rate, (width, height))
    if not writer.isOpened():
        raise failed
    try:
        for picture in itertools.chain([first], pictures):
            writer.write(picture)
            count += 1
    finally:
        writer.release()
    if len(_packet_times(path)) != count:
        raise failed


def _check_space(segments: dict[str, range]) -> None:
    """See that there will be space for the segments that are missing, if they are as large as those that are there."""
    sizes = {path: os.path.getsize(path) for path in segments if os.path.exists(path)}
    made = sum(len(segments[path]) for path in sizes)
    needed = (sum(map(len, segments.values())) - made) * sum(sizes.values()) / made
    folder = os.path.dirname(next(iter(segments)))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: about {needed / 1e9:.1f} GB more are needed there until the film is finished and "
            f"{free / 1e9:.1f} GB are free; make room and repeat the command, which goes on"
        )


def _finish(folder: str, segments: dict[str, range], film: _Film, target: str) -> None:
    """Turn the segments into the film."""
    silent = os.path.join(folder, f"silent{os.path.splitext(target)[1]}")
    _write(silent, _FINISHED, film.rate, _kept(segments))
    os.replace(_with_sound(silent, film.source), target)
    shutil.rmtree(folder)


def _kept(segments: dict[str, range]) -> Iterator[np.ndarray]:
    """Yield the frames of the segments, uint8 BGR [H, W, 3]."""
    for path, numbers in segments.items():
        capture = _open(path)
        for _ in numbers:
            decoded, picture = capture.read()
            if not decoded:
                os.remove(path)
                raise UserError(f"{path}: was damaged and is removed; repeat the command, which makes it again")
            yield picture


def _with_sound(silent: str, source: str) -> str:
    """Return the path of a film that has the sound of the source, or of the silent one where there is none to have."""
    ffmpeg = shutil.which("ffmpeg")
    if not ffmpeg:
        logging.warning("%s: its sound, if there is any, is left out: ffmpeg is not installed", source)
        return silent
    stem, ending = os.path.splitext(silent)
    path = f"{stem}-with-sound{ending}"
    inputs = ["-i", os.path.abspath(silent), "-i", os.path.abspath(source), "-map", "0:v", "-map", "1:a?"]
    for codec in ("copy", "aac"):  # not every sound can be copied into every kind of film
        command = [ffmpeg, "-nostdin", "-v", "error", "-y", *inputs, "-c:v", "copy", "-c:a", codec, path]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode == 0:
            return path
    logging.warning("%s: its sound is left out: %s", source, done.stderr.strip().rpartition("\n")[2])
    return silent
