"""What all commands share: flags, `[INFO]` lines, errors in one line, and a quiet start of TensorFlow."""

import argparse
import contextlib
import dataclasses
import functools
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import NoReturn

from pyimagesearch import readers
from pyimagesearch.config import PRESETS, Config, Paths
from pyimagesearch.errors import StoppedError, UserError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if os.path.dirname(os.path.realpath(sys.argv[0])) == _ROOT and threading.current_thread() is threading.main_thread():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while a script imports: Ctrl-C ends it without a traceback

_PATIENCE = 1.5  # seconds


@contextlib.contextmanager
def _standard_error_muted() -> Iterator[None]:
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# While it is being imported, TensorFlow writes to file descriptor 2 whatever the log level is.
with _standard_error_muted():
    import tensorflow as tf

from pyimagesearch.files import printable, remove_unfinished  # noqa: E402  which imports TensorFlow

tf.get_logger().setLevel(logging.ERROR)  # its warnings are for programmers: of functions traced again, and so on
logging.getLogger("absl").setLevel(logging.WARNING)

# What file systems, local or gs://, answer when a path cannot be read or written.
_FILE_ERRORS = (
    tf.errors.AlreadyExistsError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnauthenticatedError,
)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors take one line and exit with status 2."""

    def error(self, message: str) -> NoReturn:
        """Print `message` on standard error and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def add_shared_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that training and inference have in common."""
    parser.add_argument(
        "--device", choices=("gpu", "tpu"), default="gpu", help="gpu: all of them, or the CPU (%(default)s)"
    )
    parser.add_argument("--tpu", metavar="NAME|local", help="the TPU to use with --device tpu")
    parser.add_argument("--bucket", metavar="gs://...", help="where records and models are kept for a TPU")
    parser.add_argument("--preset", choices=PRESETS, default="tutorial", help="the numbers to use (%(default)s)")
    parser.add_argument("--records", metavar="DIR", help=f"where the records are ({Paths.records})")
    parser.add_argument("--outputs", metavar="DIR", help=f"where models and pictures are kept ({Paths.outputs})")


def add_scaling_factor_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--scaling-factor`, which makes the records and builds the generator."""
    parser.add_argument(
        "--scaling-factor", type=int, choices=(2, 4, 8), help="how many times larger the results are (4)"
    )


def add_crop_size_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--crop-size`, which gives `Config.hr_shape`."""
    parser.add_argument("--crop-size", type=readers.square, metavar="N", help="side of the HR crops, a multiple of 8")


def find_paths(args: argparse.Namespace) -> Paths:
    """Return where records, models and pictures are: as the flags say, else in the bucket, else here.

    Raises:
        UserError: a TPU is asked for that has no bucket to read from.
    """
    if args.bucket and not args.bucket.startswith("gs://"):
        raise UserError(f"--bucket {args.bucket}: not a bucket's address; give it as gs://NAME")
    if args.device == "tpu" and args.tpu != "local" and not args.bucket:
        raise UserError("--device tpu: a TPU reads records from a bucket; name yours with --bucket gs://NAME")
    paths = Paths.in_bucket(args.bucket) if args.bucket else Paths()
    given = {name: value for name in ("records", "outputs") if (value := getattr(args, name))}
    return dataclasses.replace(paths, **given)


def choose_config(preset: str, **overrides: object) -> Config:
    """Return the preset's `Config` with those `overrides` that are not None."""
    return dataclasses.replace(PRESETS[preset], **{k: v for k, v in overrides.items() if v is not None})


def command(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap a script's `main`: log lines go to standard output, what a user can cause becomes one line and status 2."""

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
        logging.basicConfig(format="[%(levelname)s] %(message)s", level=logging.INFO, stream=sys.stdout, force=True)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return main(argv)
        except UserError as error:
            message = str(error)
        except StoppedError as stop:
            logging.info(
                "stopped by %s. %s; the same command goes on from there", signal.Signals(stop.signal).name, stop
            )
            return 128 + stop.signal
        except OSError as error:
            message = f"{error.filename or 'file system'}: {error.strerror or error}"
        except _FILE_ERRORS as error:
            message = error.message
        except UnicodeEncodeError as error:  # of a path given to TensorFlow
            message = f"{printable(str(error.object))}: is no text; rename it"
        except KeyboardInterrupt:
            return 130
        first_line, *_ = message.splitlines()
        print(f"{os.path.basename(sys.argv[0])}: {first_line}", file=sys.stderr)
        return 2

    return wrapped


def stops_at_once(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap a script's `main` so that Ctrl-C ends it at once, whatever is being computed.

    Python answers signals in its first thread alone, and not before a call of TensorFlow or another library there is
    over. So `main` has a thread of its own. What is complete stays, what is unfinished is removed.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        outcome: Future[int] = Future()

        def work() -> None:
            try:
                outcome.set_result(main(argv))
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            return outcome.result()
        except KeyboardInterrupt:
            _stop(outcome)

    return wrapped


def _stop(outcome: Future) -> NoReturn:
    """End the program, and the other processes that it has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"{os.path.basename(sys.argv[0])}: stopping; what is complete stays", file=sys.stderr, flush=True)
    if children := multiprocessing.active_children():
        for child in children:
            child.terminate()
        wait([outcome], _PATIENCE)  # for what they share to be put away
    remove_unfinished()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(130)  # the usual end of Python waits for threads and for TensorFlow
