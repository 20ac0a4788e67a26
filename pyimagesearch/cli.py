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
from typing import Any, NoReturn

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


def add_shared_flags(parser: argparse.ArgumentParser, start_from_file: bool = False) -> None:
    """Add the flags that training and inference have in common; with `start_from_file`, `--config` too."""
    parser.add_argument(
        "--device", choices=("gpu", "tpu"), default="gpu", help="gpu: all of them, or the CPU (%(default)s)"
    )
    parser.add_argument("--tpu", metavar="NAME|local", help="the TPU to use with --device tpu")
    parser.add_argument("--bucket", metavar="gs://...", help="where records and models are kept for a TPU")
    start = parser.add_mutually_exclusive_group()
    add_preset_flag(start)
    if start_from_file:
        start.add_argument("--config", metavar="FILE", help="or those of an earlier run, its models/config.json")
    parser.add_argument("--records", metavar="DIR", help=f"where the records are ({Paths.records})")
    parser.add_argument("--outputs", metavar="DIR", help=f"where models and pictures are kept ({Paths.outputs})")


def add_preset_flag(parser: argparse._ActionsContainer) -> None:
    """Add `--preset` to a parser or a group of flags."""
    parser.add_argument("--preset", choices=PRESETS, default="tutorial", help="the numbers to use (%(default)s)")


def add_config_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the flags of those fields of `Config`, by default of all that have one; see `config._setting`."""
    recipe = None if names else parser.add_argument_group("the recipe")
    for field in dataclasses.fields(Config):
        if field.metadata and (not names or field.name in names):
            group = recipe if recipe and field.metadata["recipe"] else parser
            group.add_argument(_flag(field), dest=field.name, help=field.metadata["help"], **_way_of_reading(field))


def _flag(field: dataclasses.Field) -> str:
    return "--" + (field.metadata["flag"] or field.name.replace("_", "-"))


def _way_of_reading(field: dataclasses.Field) -> dict[str, Any]:
    """Return the arguments of `add_argument` that turn text into a value of a field."""
    if isinstance(field.default, bool):
        return {"action": argparse.BooleanOptionalAction}
    names = {"read": "type", "metavar": "metavar", "choices": "choices"}
    given = {names[key]: value for key, value in field.metadata.items() if key in names and value is not None}
    return given | {"nargs": "*"} if field.metadata["many"] else given


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


def choose_config(args: argparse.Namespace, start: Config | None = None) -> Config:
    """Return the numbers of `start`, by default those of the preset, with those that the command line gives."""
    names = [field.name for field in dataclasses.fields(Config) if field.metadata]
    given = {name: value for name in names if (value := getattr(args, name, None)) is not None}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return dataclasses.replace(start or PRESETS[args.preset], **given | lists)


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
