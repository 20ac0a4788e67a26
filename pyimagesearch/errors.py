"""The one exception that means: the person at the keyboard can put this right."""


class UserError(Exception):
    """Something a user caused.

    Its text is one line that names the file or flag and says what to do; the commands print it and exit with status 2.
    """


class StoppedError(Exception):
    """A signal has ended training, in good order."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
