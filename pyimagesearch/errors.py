"""Exceptions that the commands report in one line."""


class UserError(Exception):
    """An error that the user can correct.

    Its text is one line. It names the file or the setting and says what to do. The commands print it and
    exit with status 2.
    """


class StoppedError(Exception):
    """A signal has stopped training, after a checkpoint was written.

    Args:
        signal: the number of the signal.
        message: what was saved, in one line.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
