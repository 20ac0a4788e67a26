"""Find files, and write files that appear complete or not at all, on this machine or in a `gs://` bucket."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import tensorflow as tf

from pyimagesearch.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
"""The resolution of figures, in pixels per inch."""

_LONGEST_NAME, _LONGEST_ENDING = 255, 16  # bytes
_CONTROLS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
_UNFINISHED = ".unfinished-"  # the prefix of the names of files that are being written
_unfinished: set[str] = set()
_attempt = contextvars.ContextVar("attempt", default=0)
_changing = threading.Lock()


def is_local(path: str) -> bool:
    """Return whether a path is on this machine. Local names may be invalid UTF-8, which TensorFlow cannot open."""
    return "://" not in path


def opened_for_writing(path: str) -> BinaryIO:
    """Open a local path or a `gs://` address for writing bytes."""
    return open(path, "wb") if is_local(path) else tf.io.gfile.GFile(path, "wb")


def write_text(path: str, text: str) -> None:
    """Write a text file in UTF-8, which appears complete or not at all.

    Args:
        path: a local path or a `gs://` address.
        text: the content.
    """
    with written_whole(path) as aside, opened_for_writing(aside) as file:
        file.write(text.encode())


def read_text(path: str) -> str:
    """Return the content of a text file in UTF-8.

    Args:
        path: a local path or a `gs://` address.
    """
    with open(path, "rb") if is_local(path) else tf.io.gfile.GFile(path, "rb") as file:
        return file.read().decode()


def read_json_object(path: str, missing: str, damaged: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: a local path or a `gs://` address.
        missing: the error message if the file does not exist.
        damaged: the error message if the file is not valid JSON or not an object.

    Raises:
        UserError: the file does not exist or is damaged.
    """
    try:
        stored = json.loads(read_text(path))
    except (FileNotFoundError, tf.errors.NotFoundError) as error:
        raise UserError(missing) from error
    except ValueError as error:
        raise UserError(damaged) from error
    if not isinstance(stored, dict):
        raise UserError(damaged)
    return stored


def check_space(folder: str, needed: float) -> None:
    """Check the free disk space before files are written.

    Args:
        folder: an existing local folder.
        needed: the size of the files in bytes.

    Raises:
        UserError: the disk has less free space.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: about {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; "
            "free some disk space and repeat the command, which resumes"
        )


@contextlib.contextmanager
def unfinished(path: str) -> Iterator[str]:
    """Yield a temporary path beside `path`, and remove the file afterwards if it still exists.

    Missing folders are made. The temporary name has the ending of `path`, because some libraries choose the format by
    it. A temporary file of an earlier process that was killed is removed.

    Args:
        path: the path of the final file.
    """
    folder, _ = os.path.split(path)
    if is_local(path):
        os.makedirs(folder or ".", exist_ok=True)
    else:
        tf.io.gfile.makedirs(folder)
    aside = unfinished_path(path, _attempt.get())
    with noted_unfinished(aside):
        remove(aside)
        try:
            yield aside
        finally:
            remove(aside)


def unfinished_path(path: str, number: int) -> str:
    """Return the path of a file until it is complete.

    Args:
        path: the path of the final file.
        number: the number of the attempt, from 0; see `attempt`.
    """
    folder, name = os.path.split(path)
    return os.path.join(folder, fitting_name(f"{_UNFINISHED}{number}-{name}" if number else _UNFINISHED + name))


@contextlib.contextmanager
def attempt(number: int) -> Iterator[None]:
    """Give the unfinished files of the block, in this thread, other names than those of other attempts.

    An earlier attempt may still run, on a machine that no longer answers.

    Args:
        number: the number of the attempt, from 0.
    """
    token = _attempt.set(number)
    try:
        yield
    finally:
        _attempt.reset(token)


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[str]:
    """Yield a temporary path, which is renamed to `path` at the end of the block.

    After an exception in the block, `path` is unchanged. On this machine, it can also be a folder.

    Args:
        path: the path of the final file.
    """
    with unfinished(path) as aside:
        yield aside
        if not is_local(path):
            tf.io.gfile.rename(aside, path, overwrite=True)
        elif os.path.isdir(path):
            with unfinished(f"{path}-former") as former:  # a folder cannot be replaced at once
                os.rename(path, former)
                os.replace(aside, path)
        else:
            os.replace(aside, path)


def remove(path: str) -> None:
    """Remove a file or a local folder, if it exists."""
    with contextlib.suppress(FileNotFoundError, tf.errors.NotFoundError):
        if not is_local(path):
            tf.io.gfile.remove(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


@contextlib.contextmanager
def noted_unfinished(path: str) -> Iterator[None]:
    """Register a file or folder that `remove_unfinished` removes if the program ends within the block."""
    with _changing:
        _unfinished.add(path)
    try:
        yield
    finally:
        _unfinished.discard(path)


def remove_unfinished() -> None:
    """Remove all registered unfinished files and folders, and block new ones. To be called when the program ends."""
    _changing.acquire()
    for path in list(_unfinished):
        with contextlib.suppress(OSError, tf.errors.OpError):
            remove(path)


def fitting_name(name: str) -> str:
    """Return the name of a file, or a shorter unique name if it is longer than the 255 bytes of file systems.

    Args:
        name: the name without a folder.
    """
    data = os.fsencode(name)
    if len(data) <= _LONGEST_NAME:
        return name
    ending = os.path.splitext(data)[1]
    ending = ending if len(ending) <= _LONGEST_ENDING else b""
    mark = b"~" + hashlib.sha256(data).hexdigest()[:8].encode() + ending
    return data[: _LONGEST_NAME - len(mark)].decode(errors="ignore") + os.fsdecode(mark)


def reason(error: Exception) -> str:
    """Return the reason of an error, in one line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]


def fault(error: Exception) -> str:
    """Return a line for an error that is a fault of this program and not of a file."""
    logging.debug("a fault", exc_info=error)
    return f"a fault of this program ({type(error).__name__}: {reason(error)}); please report it, with the file"


class Found(NamedTuple):
    """The files below a folder.

    Attributes:
        files: sorted paths of the files with the wanted endings.
        others: sorted paths of the other files that are not hidden.
    """

    files: list[str]
    others: list[str]


def walk_files(root: str, endings: tuple[str, ...]) -> Iterator[Found]:
    """Find the files below a folder, one folder after the other, so that few are in memory.

    Links to folders are followed; each folder is searched once.

    Args:
        root: the folder.
        endings: the endings of the wanted names, in lower case. Upper case matches, too.

    Yields:
        The files of each folder.

    Raises:
        UserError: a subfolder is not readable.
    """

    def refuse(error: OSError) -> None:
        if os.path.isdir(error.filename):
            raise UserError(f"{error.filename}: {error.strerror}; make it readable or remove it") from error

    seen = {os.path.realpath(root)}
    for place, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [folder for folder in sorted(folders) if _is_new(os.path.join(place, folder), seen)]
        found = Found([], [])
        for name in sorted(names):
            if name.lower().endswith(endings) and not name.startswith(_UNFINISHED):
                found.files.append(os.path.join(place, name))
            elif not name.startswith("."):
                found.others.append(os.path.join(place, name))
        yield found


def find_files(root: str, endings: tuple[str, ...]) -> Found:
    """Return all files that `walk_files` finds, in the order of their paths."""
    folders = list(walk_files(root, endings))
    files, others = (sorted(path for found in folders for path in found[kind]) for kind in (0, 1))
    return Found(files, others)


def _is_new(folder: str, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    return real not in seen and not seen.add(real)


def count_endings(paths: Iterable[str]) -> collections.Counter[str]:
    """Return the number of files by the ending of their names, in lower case."""
    return collections.Counter(os.path.splitext(os.path.basename(path))[1].lower() for path in paths)


def kinds(counts: collections.Counter[str]) -> str:
    """Return the counts of `count_endings` as text, such as `2 .txt, 1 without an ending`."""
    return ", ".join(f"{count} {printable(ending) or 'without an ending'}" for ending, count in counts.most_common())


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return a short unique name for each file.

    The name is the last part of the path without `.keras`, with as many earlier parts as needed. A file that is given
    twice is returned once.

    Args:
        paths: paths of files.

    Returns:
        The paths by their names, in the given order.
    """
    distinct = {os.path.realpath(path): path for path in reversed(paths)}
    parts = {
        path: printable(os.path.abspath(path)).removesuffix(".keras").split(os.sep)
        for path in dict.fromkeys(distinct[os.path.realpath(path)] for path in paths)
    }
    for length in range(1, max(map(len, parts.values()))):
        names = {"/".join(part[-length:]): path for path, part in parts.items()}
        if len(names) == len(parts):
            return names
    return {path: path for path in parts}


def printable(path: str) -> str:
    """Return a path as one line of text. Bytes that are not UTF-8 and control characters are escaped."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return _CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def save_figure(figure: Figure, path: str) -> None:
    """Save a figure as a PNG file at a local path or a `gs://` address."""
    with written_whole(path) as aside, opened_for_writing(aside) as file:
        figure.savefig(file, dpi=DPI, format="png")
