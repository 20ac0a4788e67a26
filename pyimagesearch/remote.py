"""Read and write files at addresses such as `s3://BUCKET/NAME`, through fsspec, which is optional."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from glob import has_magic
from typing import TYPE_CHECKING, Any

from pyimagesearch.errors import UserError
from pyimagesearch.files import is_local, noted_unfinished, printable, reason

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_VERSION_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")  # the names in S3, GCS and others


def walk(address: str) -> Iterator[list[str]]:
    """Find a file, all files below a folder, or the files that match a pattern.

    Args:
        address: such as `s3://BUCKET/FOLDER` or `s3://BUCKET/FOLDER/*.png`.

    Yields:
        The sorted addresses of the files of one folder after the other, so that few are in memory.

    Raises:
        UserError: the place cannot be listed.
    """
    with _told(f"{address}: cannot be listed"):
        system, path = _opened(address)
        is_pattern = has_magic(path) and not system.exists(path)
        for files in [system.glob(path)] if is_pattern else _walk(system, path):
            yield sorted(map(system.unstrip_protocol, files))


def _walk(system: "AbstractFileSystem", path: str) -> Iterator[list[str]]:
    is_empty, folders = True, [path]
    while folders:
        folder = folders.pop()
        files, inner = [], []
        with contextlib.suppress(FileNotFoundError):
            for entry in system.ls(folder, detail=True):
                kind = inner if entry["type"] == "directory" else files
                kind.append(entry["name"])
        folders += sorted({name for name in inner if name.rstrip("/") != folder.rstrip("/")}, reverse=True)
        files = [name for name in files if not name.endswith("/")]  # an object that stands for a folder
        is_empty = is_empty and not files
        yield files
        system.invalidate_cache(folder)  # until now, `version` has used the listing
    if is_empty and system.isfile(path):  # HTTP does not list a file
        yield [path]


def version(address: str) -> list[Any] | None:
    """Return the size of a file and what tells its versions apart, or None if it does not exist.

    Raises:
        UserError: the place cannot be read.
    """
    with _told(f"{address}: cannot be read"):
        system, path = _opened(address)
        try:
            known: Mapping[str, Any] = system.info(path)
        except FileNotFoundError:
            return None
        return [known["size"], next((str(known[key]) for key in _VERSION_KEYS if known.get(key)), "")]


def read_all(folder: str) -> list[bytes]:
    """Return the contents of all files in a folder, without its subfolders.

    Raises:
        UserError: the folder cannot be read.
    """
    with _told(f"{folder}: cannot be read"):
        system, path = _opened(folder)
        paths = system.find(path, maxdepth=1) or system.find(f"{path}/none")  # which raises if there is no such bucket
        return list(system.cat(paths, on_error="omit").values()) if paths else []


def write(address: str, content: bytes) -> None:
    """Write a whole file.

    Raises:
        UserError: it cannot be written.
    """
    with _told(f"{address}: cannot be written"):
        system, path = _opened(address)
        system.pipe_file(path, content)


@contextlib.contextmanager
def fetched(path: str) -> Iterator[str]:
    """Yield the path of a temporary copy of a file at an address, or a local path itself.

    Errors in the block that name the copy name the address instead.

    Raises:
        UserError: the file cannot be read.
    """
    if is_local(path):
        yield path
        return
    with _stand_in(path) as copy:
        with _told("cannot be read"):
            system, place = _opened(path)
            system.get_file(place, copy)
        yield copy


@contextlib.contextmanager
def uploaded(path: str) -> Iterator[str]:
    """Yield a temporary path for a file that is uploaded as a whole at the end of the block, or a local path itself.

    After an exception in the block, nothing is uploaded.

    Raises:
        OSError: the file cannot be uploaded.
    """
    if is_local(path):
        yield path
        return
    with _stand_in(path) as copy:
        yield copy
        try:
            system, place = _opened(path)
            system.put_file(copy, place)
        except Exception as error:  # each file system has its own errors
            raise OSError(reason(error)) from error


@contextlib.contextmanager
def _stand_in(address: str) -> Iterator[str]:
    """Yield a path in a temporary folder, with the name of the file at the address."""
    with tempfile.TemporaryDirectory() as folder, noted_unfinished(folder):
        path = os.path.join(folder, os.path.basename(address))
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(path, address)) from error


def _opened(address: str) -> tuple["AbstractFileSystem", str]:
    """Return the file system of an address, and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise UserError("needs fsspec; install it with pip install -r requirements-remote.txt") from error
    return fsspec.core.url_to_fs(address)


@contextlib.contextmanager
def _told(problem: str) -> Iterator[None]:
    """Turn the errors of file systems, of which each has its own, into an error of one line."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{printable(problem)}: {reason(error)}") from error
