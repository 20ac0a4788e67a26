"""Records of how each result was made, so that a second run makes only results whose source or settings changed."""

import contextlib
import enum
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from pyimagesearch import remote
from pyimagesearch.errors import UserError
from pyimagesearch.files import is_local, printable, write_text
from pyimagesearch.inference.sizes import NATURAL, OutputSize

NAME = ".srgan-results.jsonl"
"""The file in a local folder of results. It has a line for each result; the last line of a result counts."""

REMOTE_FOLDER = ".srgan-results"
"""The folder at an address of results. It has a file of one line for each result."""


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
    """The results in a folder, with their sources and settings."""

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
        self.path = os.path.join(folder, NAME)
        self._known: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, list[Any] | None] = {}
        lines = self._read()
        if lines > 2 * len(self._known):
            self._shorten()

    def state(self, source: str, target: str) -> State:
        """Return the state of the result `target` of `source`.

        Args:
            source: the path of the input.
            target: the path of the result.
        """
        self._sources[target] = made_of = _identity(source)
        result = _identity(target)
        if not result:
            return State.MISSING
        known = self._known.get(self._name(target))
        if not known or known["result"] != result[1:]:
            return State.FOREIGN
        same = known["source"] == made_of and known["settings"] == self.settings
        return State.CURRENT if same else State.OUTDATED

    def note(self, source: str, target: str) -> None:
        """Record that `target` has been made from `source`, in the version of `source` at the call of `state`.

        Args:
            source: the path of the input.
            target: the path of the result.
        """
        made_of = self._sources.get(target) or _identity(source)
        entry = {"result": _identity(target)[1:], "source": made_of, "settings": self.settings}
        name = self._name(target)
        self._known[name] = entry
        if not is_local(self.folder):
            remote.write(f"{self.folder}/{REMOTE_FOLDER}/{name}.json", _line(name, entry).encode())
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(_line(name, entry))

    def _name(self, target: str) -> str:
        return os.fsencode(os.path.relpath(target, self.folder)).decode(errors="backslashreplace")

    def _read(self) -> int:
        """Read all complete lines, and return their number."""
        count = 0
        for line in self._lines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                name, entry = json.loads(line)
                self._known[name] = {key: entry[key] for key in ("result", "source", "settings")}
                count += 1
        return count

    def _lines(self) -> Iterator[bytes]:
        if not is_local(self.folder):
            yield from remote.read_all(f"{self.folder}/{REMOTE_FOLDER}")
            return
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            yield from file

    def _shorten(self) -> None:
        """Remove lines that later lines have replaced."""
        write_text(self.path, "".join(_line(name, entry) for name, entry in self._known.items()))


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
