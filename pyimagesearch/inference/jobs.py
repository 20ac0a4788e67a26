"""The files that inputs name, and the place of the result of each."""

import collections
import contextlib
import functools
import glob
import logging
import os
import pathlib
import posixpath
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from pyimagesearch import remote
from pyimagesearch.data.image_io import ENDING_FORMATS, FORMATS, IMAGE_ENDINGS
from pyimagesearch.errors import UserError
from pyimagesearch.files import count_endings, fitting_name, is_local, kinds, printable, walk_files
from pyimagesearch.inference.video_formats import (
    ANIMATED_ENDINGS,
    NO_PYAV,
    RESULT_ENDINGS,
    VIDEO_ENDINGS,
    VideoSettings,
    is_animated,
    is_available,
)

ENDINGS = tuple(dict.fromkeys(IMAGE_ENDINGS + (".apng",) + VIDEO_ENDINGS))
"""The file name endings of images and videos in folders."""


class Job(NamedTuple):
    """A file to upscale and the path of its result. The result of an animated image can be a video."""

    source: str
    target: str

    @property
    def is_video(self) -> bool:
        """Whether the result is a video."""
        return self.target.lower().endswith(RESULT_ENDINGS)

    @property
    def form(self) -> str:
        """The format of an image, one of `image_io.FORMATS`."""
        return _form(self.target)

    @property
    def comparison(self) -> str:
        """The path of the image of before and after."""
        folder, name = os.path.split(self.target)
        return os.path.join(folder, fitting_name(f"{os.path.splitext(name)[0]} compared.png"))


class Jobs(Protocol):
    """Jobs that can be iterated over several times, and their number, which can fall while they are iterated over."""

    def __len__(self) -> int:
        """Return the number of jobs."""

    def __iter__(self) -> Iterator[Job]:
        """Yield the jobs."""


File = tuple[str, str]
"""The path of an input, and the path below the output folder that its result has, with the ending of the input."""

AUTO = "auto"
"""Each result has the format of its source, or PNG if that format cannot be written."""


class Plan:
    """The jobs for the images of inputs, then those for the videos.

    Each iteration lists the files anew. If the only input is a folder, its subfolders are listed one after the other.
    Memory then does not grow with the number of files.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        output: str,
        form: str,
        compare: bool = False,
        animated: bool = False,
        video_ending: str = VideoSettings().ending,
        suffix: str = "",
    ) -> None:
        """List and check all files once.

        Args:
            inputs: files, folders and patterns such as `scans/*.tif`, local or at addresses. Subfolders are mirrored
                below `output`.
            output: the folder of the results, or for a single input the path of the result, local or an address. Files
                in this folder are not inputs.
            form: one of `image_io.FORMATS`, or `AUTO`.
            compare: whether comparisons will be written, too.
            animated: whether animated images become videos.
            video_ending: the file name ending of upscaled videos.
            suffix: is added to the names of results, before the ending.

        Raises:
            UserError: an input does not exist, is empty or cannot be listed, a result would overwrite an input or
                another result, or all inputs are videos and PyAV is not installed.
        """
        if suffix and is_file_name(output):
            raise UserError(f"{output}: names the result; a suffix needs an output folder")
        self._inputs, self._output, self._form = inputs, output, form
        self._is_animated = functools.lru_cache(10_000)(_is_animated) if animated else lambda source: False
        self._video_ending, self._suffix = video_ending, suffix
        self._counts = {False: 0, True: 0}  # images and videos
        for jobs in self._listed(tell=True):
            _check(jobs, compare)
            for job in jobs:
                self._counts[job.is_video] += 1
        if self._counts[True] == len(self) > 0 and not is_available():
            raise UserError(f"{printable(next(iter(self)).source)}: {NO_PYAV}")

    def __len__(self) -> int:
        """Return the number of jobs."""
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[Job]:
        """List the files."""
        for is_video, count in self._counts.items():
            if count:
                yield from (job for jobs in self._listed() for job in jobs if job.is_video is is_video)

    def _listed(self, tell: bool = False) -> Iterator[list[Job]]:
        """Yield jobs, all together whose results could have the same name. `tell`: log which files are left out."""
        if len(self._inputs) == 1:
            groups = _find(*self._inputs, self._output, tell)
        else:
            groups = [[file for path in self._inputs for group in _find(path, self._output, tell) for file in group]]
        for group in groups:
            jobs = self._named(group)
            yield [_only_job(self._inputs, jobs, self._output)] if is_file_name(self._output) else jobs

    def _named(self, group: Sequence[File]) -> list[Job]:
        found = {}
        for source, name in group:
            found.setdefault((os.path.realpath(source), name), source)
        named = [(source, name, os.path.splitext(name)[0], self._ending(source)) for (_, name), source in found.items()]
        counts = collections.Counter(stem + end for _, _, stem, end in named)
        return [  # the results of a.jpg and a.png keep the whole names
            Job(source, _place(self._output, (name if counts[stem + end] > 1 else stem) + end))
            for source, name, stem, end in named
        ]

    def _ending(self, source: str) -> str:
        is_video = source.lower().endswith(VIDEO_ENDINGS) or self._is_animated(source)
        form = _form(source) if self._form == AUTO else self._form
        return self._suffix + (self._video_ending if is_video else FORMATS[form])


def _form(path: str) -> str:
    return ENDING_FORMATS.get(os.path.splitext(path)[1].lower(), "png")


def _place(output: str, target: str) -> str:
    folder, name = os.path.split(printable(target))
    return os.path.join(output, folder, fitting_name(name))


def is_file_name(output: str) -> bool:
    """Return whether the output is the path of a file, not of a folder."""
    return not os.path.isdir(output) and os.path.splitext(output)[1].lower() in (*ENDING_FORMATS, *RESULT_ENDINGS)


def choose_format(output: str, form: str | None) -> str:
    """Return the format of the results: `form` if given, else that of the file name `output`, else PNG.

    Raises:
        UserError: `form` and the file name disagree.
    """
    named = ENDING_FORMATS.get(os.path.splitext(output)[1].lower()) if is_file_name(output) else None
    if named and form not in (None, AUTO, named):
        raise UserError(f"{output}: the name is one of {named}, but the format is {form}; give only one of the two")
    return named or form or "png"


def _only_job(inputs: Sequence[str], jobs: Sequence[Job], output: str) -> Job:
    """Return the job whose result is the file `output`."""
    if len(jobs) > 1 or os.path.isdir(inputs[0]):
        raise UserError(f"{output}: is one file, but the input has several; give a folder")
    (job,) = jobs
    if job.is_video != output.lower().endswith(RESULT_ENDINGS):
        kind = ", ".join(RESULT_ENDINGS if job.is_video else ENDING_FORMATS)
        raise UserError(f"{output}: the result of {job.source} cannot have that name; end it with {kind}")
    return job._replace(target=output)


def _check(jobs: Sequence[Job], compare: bool) -> None:
    sources, targets = {os.path.realpath(job.source) for job in jobs}, {}
    for job in jobs:
        for target in (job.target, job.comparison) if compare else (job.target,):
            if os.path.realpath(target) in sources:
                raise UserError(f"{target}: is an input and a result at once; choose another output folder")
            if (other := targets.setdefault(os.path.realpath(target), job.source)) != job.source:
                raise UserError(f"{job.source} and {other}: both would become {target}; give their folder as the input")


def _is_animated(path: str) -> bool:
    """Return whether a file is an animated image. Return False if it cannot be read."""
    if path.lower().endswith(ANIMATED_ENDINGS):
        with contextlib.suppress(UserError), remote.fetched(path) as local:
            return is_animated(local)
    return False


def _find(path: str, output: str, tell: bool) -> Iterator[list[File]]:
    """Yield the files of an input. `tell`: log which files are left out."""
    if not is_local(path):
        yield from _below_remote(path, output, tell)
    elif os.path.isdir(path):
        yield from _below(path, output, tell)
    else:
        files = [path] if os.path.exists(path) else _matching(path, output, tell)
        yield [(file, os.path.basename(file)) for file in files]


def _matching(pattern: str, output: str, tell: bool) -> list[str]:
    """Return the images and videos that match a pattern. Leave out earlier results if there are other files."""
    literal, parts = "", list(pathlib.PurePath(pattern).parts)
    while parts and os.path.exists(os.path.join(literal, parts[0])):  # a folder can have a name like "[2020]"
        literal = os.path.join(literal, parts.pop(0))
    files = glob.glob(os.path.join(glob.escape(literal), *parts), recursive=True)
    files = sorted(filter(os.path.isfile, files))
    if not files:
        raise UserError(f"{pattern}: no such file or folder")
    readable = [file for file in files if file.lower().endswith(ENDINGS)]
    if tell:
        _tell_unread(pattern, count_endings(file for file in files if not file.lower().endswith(ENDINGS)))
    if not readable:
        raise UserError(f"{pattern}: no matching file ends with {', '.join(ENDINGS)}")
    return [file for file in readable if not _lies_in(file, output)] or readable


def _below(folder: str, output: str, tell: bool) -> Iterator[list[File]]:
    """Yield the images and videos of each subfolder, without earlier results."""
    _refuse_same(folder, output)
    is_empty, others = True, collections.Counter()
    for found in walk_files(folder, ENDINGS):
        files, unread = ([file for file in files if not _lies_in(file, output)] for files in found)
        others += count_endings(unread)
        if files:
            is_empty = False
            yield [(file, os.path.relpath(file, folder)) for file in files]
    if is_empty:
        raise UserError(f"{folder}: no file in it ends with {', '.join(ENDINGS)}")
    if tell:
        _tell_unread(folder, others)


def _below_remote(address: str, output: str, tell: bool) -> Iterator[list[File]]:
    """Yield the files of an input at an address, one folder after the other."""
    _refuse_same(address, output)
    folder = address.rstrip("/") + "/"
    is_missing, is_empty, others = True, True, collections.Counter()
    for found in remote.walk(address):
        files, unread = [], []
        for file in found:
            name = file.removeprefix(folder) if file.startswith(folder) else posixpath.basename(file)
            is_image = file.lower().endswith(ENDINGS) and ".." not in name.split("/")
            (files if is_image else unread).append((file, name))
        is_missing, is_empty = is_missing and not found, is_empty and not files
        others += count_endings(file for file, _ in unread)
        yield [(file, name) for file, name in files if not _lies_in(file, output)]
    if is_missing:
        raise UserError(f"{address}: no such file or folder")
    if is_empty:
        raise UserError(f"{address}: no file there ends with {', '.join(ENDINGS)}")
    if tell:
        _tell_unread(address, others)


def _refuse_same(folder: str, output: str) -> None:
    if os.path.realpath(folder) == os.path.realpath(output):
        raise UserError(f"{output}: is the input and the output at once; give another output folder")


def _tell_unread(place: str, counts: collections.Counter[str]) -> None:
    if counts:
        logging.info("%s: left out files of other types: %s", printable(place), kinds(counts))


def _lies_in(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))
