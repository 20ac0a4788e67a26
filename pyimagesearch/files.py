"""Files that are there whole or not at all, on this machine or in a `gs://` bucket."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import tensorflow as tf

from pyimagesearch.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
"""The resolution of figures, in pixels an inch."""

_LONGEST_NAME, _LONGEST_ENDING = 255, 16  # bytes
_CONTROLS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
_UNFINISHED = ".unfinished-"  # begins the names of files that are being written
_unfinished: set[str] = set()
_changing = threading.Lock()


def is_local(path: str) -> bool:
    """Return whether a path is of this machine, where names may be no text, which TensorFlow does not take."""
    return "://" not in path


def opened_for_writing(path: str) -> BinaryIO:
    """Open a file for writing bytes, on this machine or at a `gs://` address."""
    return open(path, "wb") if is_local(path) else tf.io.gfile.GFile(path, "wb")


@contextlib.contextmanager
def unfinished(path: str) -> Iterator[str]:
    """Yield a path beside `path` to write to, and remove it afterwards if it has not been renamed by then.

    Missing folders are made. The name yielded ends like `path`, so that a format told by its ending stays right. What
    a program that was killed has left there is removed.
    """
    folder, name = os.path.split(path)
    if is_local(path):
        os.makedirs(folder or ".", exist_ok=True)
    else:
        tf.io.gfile.makedirs(folder)
    aside = os.path.join(folder, fitting_name(_UNFINISHED + name))
    with noted_unfinished(aside):
        _remove(aside)
        try:
            yield aside
        finally:
            _remove(aside)


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[str]:
    """Yield a path to write a file, or on this machine a folder, to, which becomes `path` when the block ends well."""
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


def _remove(path: str) -> None:
    """Remove a file, or a folder of this machine with all in it, if it is there."""
    with contextlib.suppress(FileNotFoundError, tf.errors.NotFoundError):
        if not is_local(path):
            tf.io.gfile.remove(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


@contextlib.contextmanager
def noted_unfinished(path: str) -> Iterator[None]:
    """Know within the block that the file or folder `path` is to be removed if the program is ended."""
    with _changing:
        _unfinished.add(path)
    try:
        yield
    finally:
        _unfinished.discard(path)


def remove_unfinished() -> None:
    """Remove all files and folders that are noted as unfinished, and let none be begun again: the program ends."""
    _changing.acquire()
    for path in list(_unfinished):
        with contextlib.suppress(OSError, tf.errors.OpError):
            _remove(path)


def fitting_name(name: str) -> str:
    """Return a file's name, or if it has more than the 255 bytes that file systems allow, a shorter one of its own."""
    data = os.fsencode(name)
    if len(data) <= _LONGEST_NAME:
        return name
    ending = os.path.splitext(data)[1]
    ending = ending if len(ending) <= _LONGEST_ENDING else b""
    mark = b"~" + hashlib.sha256(data).hexdigest()[:8].encode() + ending
    return data[: _LONGEST_NAME - len(mark)].decode(errors="ignore") + os.fsdecode(mark)


def reason(error: Exception) -> str:
    """Return what went wrong with a file, in one line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]


def fault(error: Exception) -> str:
    """Return, in one line, that it is not a file's fault that nothing could be made of it."""
    logging.debug("a fault", exc_info=error)
    return f"a fault of this program ({type(error).__name__}: {reason(error)}); please report it, with the file"


class Found(NamedTuple):
    """The paths of the files below a folder, sorted: `files` of the kinds asked for, and visible `others`."""

    files: list[str]
    others: list[str]


def find_files(root: str, endings: tuple[str, ...]) -> Found:
    """Find the files below a folder; folders that are links are gone into, but none twice.

    Args:
        root: the folder.
        endings: what the names of the files that are asked for end with, in any case.

    Raises:
        UserError: a folder there may not be read.
    """

    def refuse(error: OSError) -> None:
        if os.path.isdir(error.filename):
            raise UserError(f"{error.filename}: {error.strerror}; make it readable, or leave it out") from error

    found, seen = Found([], []), {os.path.realpath(root)}
    for place, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [folder for folder in sorted(folders) if _is_new(os.path.join(place, folder), seen)]
        for name in names:
            if name.lower().endswith(endings) and not name.startswith(_UNFINISHED):
                found.files.append(os.path.join(place, name))
            elif not name.startswith("."):
                found.others.append(os.path.join(place, name))
    return Found(sorted(found.files), sorted(found.others))


def _is_new(folder: str, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    return real not in seen and not seen.add(real)


def kinds(paths: Iterable[str]) -> str:
    """Return how many files of each ending there are, in words, such as `2 .txt, 1 without an ending`."""
    endings = (os.path.splitext(os.path.basename(path))[1].lower() for path in paths)
    counts = collections.Counter(printable(ending) or "without an ending" for ending in endings)
    return ", ".join(f"{count} {ending}" for ending, count in counts.most_common())


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return each file once, by a name of its own: its last part, without `.keras`, and those before it as needed."""
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
    """Return a path in one line, with its bytes that are no text, which old disks have, and line ends made visible."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return _CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def save_figure(figure: Figure, path: str) -> None:
    """Save a figure as PNG, here or at a `gs://` address."""
    with written_whole(path) as aside, opened_for_writing(aside) as file:
        figure.savefig(file, dpi=DPI, format="png")
