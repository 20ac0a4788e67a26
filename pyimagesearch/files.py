"""Files that are there whole or not at all, on this machine or in a `gs://` bucket."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import tensorflow as tf

from pyimagesearch.errors import UserError


@contextlib.contextmanager
def unfinished(path: str) -> Iterator[str]:
    """Yield a path beside `path` to write to, and remove it afterwards if it has not been renamed by then.

    Missing folders are made. The name yielded ends like `path`, so that a format told by its ending stays right.
    """
    folder, name = os.path.split(path)
    tf.io.gfile.makedirs(folder or ".")
    aside = os.path.join(folder, f".unfinished-{name}")
    try:
        yield aside
    finally:
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.remove(aside)


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[str]:
    """Yield a path to write to, which becomes `path` when the block ends well."""
    with unfinished(path) as aside:
        yield aside
        tf.io.gfile.rename(aside, path, overwrite=True)


def reason(error: Exception) -> str:
    """Return what went wrong with a file, in one line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]


def find_files(root: str, endings: tuple[str, ...]) -> list[str]:
    """Return the paths of the files below a folder whose names end so, in any case, sorted.

    Raises:
        UserError: a folder there may not be read.
    """

    def refuse(error: OSError) -> None:
        if os.path.isdir(error.filename):
            raise UserError(f"{error.filename}: {error.strerror}; make it readable, or leave it out") from error

    paths = [os.path.join(place, name) for place, _, names in os.walk(root, onerror=refuse) for name in names]
    return sorted(path for path in paths if path.lower().endswith(endings))


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return each path once, by a name of its own: its last part, without `.keras`, and those before it as needed."""
    distinct = {os.path.abspath(path): path for path in paths}
    parts = {path: printable(full).removesuffix(".keras").split(os.sep) for full, path in distinct.items()}
    for length in range(1, max(map(len, parts.values()))):
        names = {"/".join(part[-length:]): path for path, part in parts.items()}
        if len(names) == len(parts):
            return names
    return {path: path for path in parts}


def printable(path: str) -> str:
    """Return a path with its bytes that are no text, which old disks have, made visible."""
    return os.fsencode(path).decode(errors="backslashreplace")
