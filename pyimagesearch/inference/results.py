"""Records of how each result was made, so that a second run makes only results whose source or settings changed."""

import collections
import contextlib
import enum
import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from pyimagesearch import remote
from pyimagesearch.errors import UserError
from pyimagesearch.files import is_local, printable, write_text
from pyimagesearch.inference.jobs import Job, Jobs
from pyimagesearch.inference.sizes import NATURAL, OutputSize

NAME = ".srgan-results.jsonl"
"""The file in each local folder of results. It has a line for each result; the last line of a result counts."""

REMOTE_FOLDER = ".srgan-results"
"""The folder at an address of results. It has a file of one line for each result, in the same subfolder."""


_FOLDERS = 100  # whose records are in memory


class State(enum.Enum):
    """The state of a result before a run."""

    MISSING = "missing"
    CURRENT = "made from this source with these settings"
    OUTDATED = "made from another source or with other settings"
    FOREIGN = "not made by this program, or changed afterwards"


def settings_of(
    models: Sequence[str],
    alpha: float | None,
    size: OutputSize = NATURAL,
    faithful: bool = False,
    ensemble: bool = False,
) -> dict[str, Any]:
    """Return the settings that results depend on.

    Args:
        models: the paths of the generators. The settings have checksums of the files.
        alpha: the weight of the second generator in an interpolation, from 0 to 1, or None.
        size: the size of the results.
        faithful: whether a reduced result equals its input.
        ensemble: whether a result is the mean over flips and rotations.

    Raises:
        UserError: a file cannot be read.
    """
    generators = [_sha256(path) for path in models]
    settings = {"generators": generators, "share": alpha, "outscale": size.scale, "faithful": faithful}
    others = {"width": size.width, "height": size.height, "long_side": size.long_side, "ensemble": ensemble}
    return settings | {name: value for name, value in others.items() if value}  # so results of earlier versions count


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") if is_local(path) else tf.io.gfile.GFile(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (FileNotFoundError, tf.errors.NotFoundError) as error:
        raise UserError(f"{printable(path)}: no such model; make it with train_srgan.py") from error
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{printable(path)}: cannot be read; make one with train_srgan.py") from error


class Results:
    """The results in a folder and its subfolders, with their sources and settings."""

    def __init__(self, folder: str, settings: Mapping[str, Any]) -> None:
        """Read the records of the folder.

        Args:
            folder: the folder of the results, local or an address. It need not exist.
            settings: from `settings_of`.

        Raises:
            UserError: the address cannot be read.
        """
        self.folder = folder
        self.settings = dict(settings)
        self._known: collections.OrderedDict[str, dict[str, Any]] = collections.OrderedDict()  # by folder
        self._sources: dict[str, list[Any] | None] = {}  # of the results that are being made
        self._records_of(os.path.join(folder, ""))

    def state(self, source: str, target: str) -> State:
        """Return the state of the result `target` of `source`.

        Args:
            source: the path of the input.
            target: the path of the result.
        """
        result = _identity(target)
        if not result:
            return State.MISSING
        known = self._records_of(target).get(self._name(target))
        if not known or known["result"] != result[1:]:
            return State.FOREIGN
        same = known["source"] == _identity(source) and known["settings"] == self.settings
        return State.CURRENT if same else State.OUTDATED

    def begin(self, source: str, target: str) -> None:
        """Remember the version of `source`, from which `target` will be made."""
        self._sources[target] = _identity(source)

    def note(self, source: str, target: str) -> None:
        """Record that `target` has been made from `source`, in its version at the call of `begin`, if there was one."""
        made_of = self._sources.pop(target, None) or _identity(source)
        entry = {"result": _identity(target)[1:], "source": made_of, "settings": self.settings}
        name = self._name(target)
        self._records_of(target)[name] = entry
        if not is_local(self.folder):
            remote.write(f"{self.folder}/{REMOTE_FOLDER}/{name}.json", _line(name, entry).encode())
            return
        with open(os.path.join(os.path.dirname(target), NAME), "a", encoding="utf-8") as file:
            file.write(_line(name, entry))

    def _name(self, target: str) -> str:
        relative = os.path.basename(target) if is_local(self.folder) else os.path.relpath(target, self.folder)
        return os.fsencode(relative).decode(errors="backslashreplace")

    def _records_of(self, target: str) -> dict[str, Any]:
        """Return the records of the folder of a result."""
        folder = os.path.dirname(target)
        if not is_local(self.folder):
            relative = os.path.relpath(folder, self.folder)
            folder = posixpath.join(self.folder, REMOTE_FOLDER, *([] if relative == "." else [relative]))
        if folder not in self._known:
            self._known[folder] = _read(folder)
            if len(self._known) > _FOLDERS:
                self._known.popitem(last=False)
        self._known.move_to_end(folder)
        return self._known[folder]


class Wanted:
    """The jobs whose results are missing or outdated, or with `overwrite` all jobs.

    Attributes:
        kept: how many results are kept, by their state, as counted in the last iteration.
    """

    def __init__(self, jobs: Jobs, made: Mapping[bool, Results], overwrite: bool) -> None:
        """Choose among jobs.

        Args:
            jobs: the jobs.
            made: the results of images, and under True those of videos.
            overwrite: whether all results are made again.
        """
        self._jobs, self._made, self._overwrite = jobs, made, overwrite
        self.kept: collections.Counter[State] = collections.Counter()

    def __len__(self) -> int:
        """Return the number of jobs without those that were found to be kept."""
        return len(self._jobs) - self.kept.total()

    def __iter__(self) -> Iterator[Job]:
        """Look at each result."""
        self.kept.clear()
        for job in self._jobs:
            made = self._made[job.is_video]
            state = made.state(*job)
            if self._overwrite or state in (State.MISSING, State.OUTDATED):
                made.begin(*job)
                yield job
            else:
                self.kept[state] += 1


def _read(folder: str) -> dict[str, Any]:
    """Read the records of a folder by the names of the results. Remove lines that later lines have replaced."""
    known, count = {}, 0
    for line in _lines(folder):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            name, entry = json.loads(line)
            known[name] = {key: entry[key] for key in ("result", "source", "settings")}
            count += 1
    if is_local(folder) and count > 2 * len(known):
        write_text(os.path.join(folder, NAME), "".join(_line(name, entry) for name, entry in known.items()))
    return known


def _lines(folder: str) -> Iterator[bytes]:
    if not is_local(folder):
        yield from remote.read_all(folder)
        return
    with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, NAME), "rb") as file:
        yield from file


def _identity(path: str) -> list[Any] | None:
    """Return a hash of the path, the size and the time of change of a file, or None if it does not exist."""
    if not is_local(path):
        version = remote.version(path)
        return version and [_short_hash(path), *version]
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return [_short_hash(os.path.realpath(path)), status.st_size, status.st_mtime_ns]
    return None


def _short_hash(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _line(name: str, entry: Mapping[str, Any]) -> str:
    return json.dumps([name, entry]) + "\n"
