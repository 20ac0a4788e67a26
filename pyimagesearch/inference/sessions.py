"""The files of several users of one program, which are removed when a user leaves and when the program ends."""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator

from pyimagesearch.files import noted_unfinished


class StopRequest(BaseException):  # not an Exception: `batch.run` goes on with the next file after those
    """A user has stopped a computation or has left."""


class Session:
    """The files of a user.

    Attributes:
        uploads: the paths of the files that the user has sent.
    """

    def __init__(self, root: str) -> None:
        """Begin without files.

        Args:
            root: the folder of the files of all users.
        """
        self.uploads: set[str] = set()
        self._folder = os.path.join(root, secrets.token_urlsafe())
        self._stopped = self._ended = False
        self._computing = threading.Lock()

    @contextlib.contextmanager
    def computation(self) -> Iterator[str]:
        """Yield a new folder for the results of a computation. A second computation waits for the first one.

        Raises:
            StopRequest: as `check`.
        """
        with self._computing:
            self.check()
            os.makedirs(self._folder, exist_ok=True)
            yield tempfile.mkdtemp(dir=self._folder)

    def ask(self) -> None:
        """Allow computations that begin after this call, if the user has stopped earlier ones."""
        self._stopped = False

    def stop(self) -> None:
        """Ask all computations to stop, the running one and those that wait."""
        self._stopped = True

    def check(self) -> None:
        """Check that a computation is still wanted.

        Raises:
            StopRequest: the user has stopped it or has left.
        """
        if self._stopped or self._ended:
            raise StopRequest

    def end(self, kept: Iterable[str]) -> None:
        """Stop all computations, wait for the end of the running one, and remove all files.

        Args:
            kept: uploads that stay, because another user has sent the same file.
        """
        self._ended = True
        with self._computing:
            shutil.rmtree(self._folder, ignore_errors=True)
        for path in self.uploads.difference(kept):
            with contextlib.suppress(OSError):
                os.remove(path)


class Sessions:
    """The sessions of all users, by identifier."""

    def __init__(self, root: str) -> None:
        """Begin without sessions.

        Args:
            root: the folder of the files of all users.
        """
        self._root = root
        self._sessions: dict[str, Session] = {}
        self._changing = threading.Lock()

    def __getitem__(self, identifier: str) -> Session:
        """Return a session. It begins at the first call with this identifier."""
        with self._changing:
            if identifier not in self._sessions:
                self._sessions[identifier] = Session(self._root)
            return self._sessions[identifier]

    def end(self, identifier: str) -> None:
        """End a session, if one with this identifier has begun."""
        with self._changing:
            session = self._sessions.pop(identifier, None)
            kept = {path for other in self._sessions.values() for path in other.uploads}
        if session:
            session.end(kept)


@contextlib.contextmanager
def temporary_root() -> Iterator[str]:
    """Yield a new folder for the files of all users. It is removed at the end of the block and of the program."""
    root = tempfile.mkdtemp(prefix="srgan-app-")
    with noted_unfinished(root):
        try:
            yield root
        finally:
            shutil.rmtree(root, ignore_errors=True)
