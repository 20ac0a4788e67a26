"""What made each result, so that a second run makes again what is now asked for differently, and nothing else."""

import contextlib
import enum
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from pyimagesearch.errors import UserError
from pyimagesearch.files import is_local, printable, written_whole

NAME = ".srgan-results.jsonl"
"""The file in a folder of results that tells what made them, a line each; of two of one result, the later counts."""


class State(enum.Enum):
    """What is known of a result."""

    MISSING = "not there"
    CURRENT = "made of this source by these settings"
    OUTDATED = "made of another source or by other settings"
    FOREIGN = "not known to be made by this program, or changed since"


def settings_of(
    models: Sequence[str], share: float | None, outscale: float | None, faithful: bool = False
) -> dict[str, Any]:
    """Return what results depend on besides their source.

    Args:
        models: the paths of the generators; what counts is what the files hold.
        share: of the second in their mixture.
        outscale: how many times larger the results are, None for what the generator makes.
        faithful: whether results, reduced again, are their inputs.

    Raises:
        UserError: a file cannot be read.
    """
    generators = [_sha256(path) for path in models]
    return {"generators": generators, "share": share, "outscale": outscale, "faithful": faithful}


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") if is_local(path) else tf.io.gfile.GFile(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (FileNotFoundError, tf.errors.NotFoundError) as error:
        raise UserError(f"{printable(path)}: no such model; make it with train_srgan.py") from error
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{printable(path)}: cannot be read; make one with train_srgan.py") from error


class Results:
    """The results in a folder, and what made them."""

    def __init__(self, folder: str, settings: Mapping[str, Any]) -> None:
        """Read what the folder tells.

        Args:
            folder: where the results are; it need not be there yet.
            settings: from `settings_of`.
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
        """Return what is known of the result `target`, if it is to be made of `source`."""
        self._sources[target] = made_of = _identity(source)
        if not os.path.exists(target):
            return State.MISSING
        known = self._known.get(self._name(target))
        if not known or known["result"] != _identity(target)[1:]:
            return State.FOREIGN
        same = known["source"] == made_of and known["settings"] == self.settings
        return State.CURRENT if same else State.OUTDATED

    def note(self, source: str, target: str) -> None:
        """Note that the result `target` has just been made of `source`, as that was when `state` was asked."""
        made_of = self._sources.get(target) or _identity(source)
        entry = {"result": _identity(target)[1:], "source": made_of, "settings": self.settings}
        self._known[self._name(target)] = entry
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(_line(self._name(target), entry))

    def _name(self, target: str) -> str:
        return os.fsencode(os.path.relpath(target, self.folder)).decode(errors="backslashreplace")

    def _read(self) -> int:
        """Read all lines that are whole, and return their number."""
        count = 0
        with contextlib.suppress(FileNotFoundError), open(self.path, encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    name, entry = json.loads(line)
                    self._known[name] = {key: entry[key] for key in ("result", "source", "settings")}
                    count += 1
        return count

    def _shorten(self) -> None:
        """Leave out the lines that later ones have replaced."""
        with written_whole(self.path) as aside, open(aside, "w", encoding="utf-8") as file:
            file.writelines(_line(name, entry) for name, entry in self._known.items())


def _identity(path: str) -> list[Any] | None:
    """Return what tells a file from others and from what it was before, without its name; None if it is not there."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        place = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
        return [place, status.st_size, status.st_mtime_ns]
    return None


def _line(name: str, entry: Mapping[str, Any]) -> str:
    return json.dumps([name, entry]) + "\n"
