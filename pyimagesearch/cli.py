"""What all commands share.

This module adds common flags, writes log lines as `[INFO] ...`, prints errors in one line, and imports TensorFlow
without its messages.
"""

import argparse
import contextlib
import dataclasses
import functools
import gc
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any, NoReturn, TextIO

from pyimagesearch import readers
from pyimagesearch.config import PRESETS, Config, Paths
from pyimagesearch.errors import StoppedError, UserError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if os.path.dirname(os.path.realpath(sys.argv[0])) == _ROOT and threading.current_thread() is threading.main_thread():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a script without a traceback while it imports

_at_stop: list[Callable[[], None]] = []

_PATIENCE = 1.5  # seconds to wait for child processes at the end

ALPHA_HELP = "interpolate the weights of the pretrained generator (0) and SRGAN (1)"
"""The help of `--alpha`."""

ENSEMBLE_HELP = "use the mean of the results of all eight flips and rotations, in about seven times the time"
"""The help of `--ensemble`."""


@contextlib.contextmanager
def standard_error_muted() -> Iterator[None]:
    """Suppress what libraries in C++ write to standard error."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Leave what is made here out of all garbage collections. It is faster: an import makes objects, but no garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


# TensorFlow writes to file descriptor 2 during its import, at any log level.
with standard_error_muted(), uncollected():
    import tensorflow as tf

from pyimagesearch.files import printable, remove_unfinished  # noqa: E402  this imports TensorFlow

tf.get_logger().setLevel(logging.ERROR)  # its warnings are for programmers, for example about retracing
logging.getLogger("absl").setLevel(logging.WARNING)

# Errors of local and gs:// file systems when a path cannot be read or written.
_FILE_ERRORS = (
    tf.errors.AlreadyExistsError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnauthenticatedError,
)


class Parser(argparse.ArgumentParser):
    """An argument parser that prints an error in one line and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        """Print `message` on standard error and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def add_shared_flags(parser: argparse.ArgumentParser, for_training: bool = False) -> None:
    """Add the flags that training and inference share.

    Args:
        parser: the parser of the command.
        for_training: whether to add `--config` and `--fine-tune`, too.
    """
    parser.add_argument(
        "--device",
        type=readers.device,
        default="gpu",
        metavar="gpu|gpu:N|cpu|tpu",
        help="device to compute on: gpu, all GPUs or else the CPU; gpu:N, one GPU; cpu; tpu (%(default)s)",
    )
    parser.add_argument(
        "--tpu", metavar="NAME|local", help="name of the TPU for --device tpu; local: the TPU of this machine"
    )
    parser.add_argument("--bucket", metavar="gs://...", help="bucket of the records and outputs for a TPU")
    start = parser.add_mutually_exclusive_group()
    add_preset_flag(start)
    if for_training:
        start.add_argument(
            "--config", metavar="FILE", help="take the settings from the models/config.json of an earlier run"
        )
        start.add_argument(
            "--fine-tune",
            metavar="DIR",
            help="fine-tune the generators of the project on this folder of photographs for --minutes",
        )
    parser.add_argument("--records", metavar="DIR", help=f"folder of the records ({Paths.records})")
    parser.add_argument("--outputs", metavar="DIR", help=f"folder of models and images ({Paths.outputs})")


def add_computation_flags(parser: argparse._ActionsContainer, precision: str, note: str = "") -> None:
    """Add `--runtime` and `--precision` to a parser or a group of flags.

    Args:
        parser: the parser or the group.
        precision: the default of `--precision`.
        note: what the help of `--precision` adds to "auto".
    """
    parser.add_argument(
        "--runtime",
        choices=("auto", "tensorflow", "openvino"),
        default="auto",
        help="library to compute with; auto: OpenVINO on CPUs if it is installed",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default=precision,
        help=f"precision of the computation; auto: bfloat16 where it is fast{note} (%(default)s)",
    )


def add_cluster_flag(parser: argparse._ActionsContainer, work: str = "work on") -> None:
    """Add `--cluster` to a parser or a group of flags. `work` is what the command does there, for the help."""
    parser.add_argument(
        "--cluster",
        metavar="auto|ADDRESS",
        help=f"{work} the cluster of Ray at this address; auto: start Ray on this machine",
    )


def add_preset_flag(parser: argparse._ActionsContainer) -> None:
    """Add `--preset` to a parser or a group of flags."""
    parser.add_argument(
        "--preset", choices=PRESETS, default="tutorial", help="set of default values of all settings (%(default)s)"
    )


def add_config_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add flags for fields of `Config`; see `config._setting`.

    Args:
        parser: the parser of the command.
        names: the fields; by default all fields that have a flag.
    """
    recipe = None if names else parser.add_argument_group("the recipe")
    for field in dataclasses.fields(Config):
        if field.metadata and (not names or field.name in names):
            group = recipe if recipe and field.metadata["recipe"] else parser
            group.add_argument(_flag(field), dest=field.name, help=field.metadata["help"], **_reading_arguments(field))


def _flag(field: dataclasses.Field) -> str:
    return "--" + (field.metadata["flag"] or field.name.replace("_", "-"))


def _reading_arguments(field: dataclasses.Field) -> dict[str, Any]:
    """Return the arguments of `add_argument` that read a value of a field from text."""
    if isinstance(field.default, bool):
        return {"action": argparse.BooleanOptionalAction}
    names = {"read": "type", "metavar": "metavar", "choices": "choices"}
    given = {names[key]: value for key, value in field.metadata.items() if key in names and value is not None}
    return given | {"nargs": "*"} if field.metadata["many"] else given


def find_paths(args: argparse.Namespace) -> Paths:
    """Return the paths of records, models and images.

    They are those of the flags, or else in the bucket, or else in the current folder.

    Args:
        args: from a parser with the flags of `add_shared_flags`.

    Raises:
        UserError: a TPU of another machine has no bucket, or the bucket is not a `gs://` address.
    """
    if args.bucket and not args.bucket.startswith("gs://"):
        raise UserError(f"--bucket {args.bucket}: not the address of a bucket; write it as gs://NAME")
    if args.device == "tpu" and args.tpu != "local" and not args.bucket:
        raise UserError("--device tpu: a TPU reads records from a bucket; give --bucket gs://NAME")
    paths = Paths.in_bucket(args.bucket) if args.bucket else Paths()
    given = {name: value for name in ("records", "outputs") if (value := getattr(args, name))}
    return dataclasses.replace(paths, **given)


def choose_config(args: argparse.Namespace, start: Config | None = None) -> Config:
    """Return the settings of a run.

    Args:
        args: from a parser with the flags of `add_preset_flag` and `add_config_flags`. A given flag replaces the value
            of `start`.
        start: the other settings; by default those of the preset.
    """
    names = [field.name for field in dataclasses.fields(Config) if field.metadata]
    given = {name: value for name in names if (value := getattr(args, name, None)) is not None}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return dataclasses.replace(start or PRESETS[args.preset], **given | lists)


def own_command(argv: Sequence[str] | None = None) -> list[str]:
    """Return the program and the arguments that run this script again.

    Args:
        argv: the arguments; by default those of this process.
    """
    return [sys.executable, os.path.abspath(sys.argv[0]), *(sys.argv[1:] if argv is None else argv)]


def command(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap the `main` of a script.

    Log lines go to standard output. For an error that the user can correct, the command prints one line on standard
    error and exits with status 2.

    Args:
        main: a function of the arguments that returns the exit status.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files may not be valid UTF-8
        log_to(sys.stdout)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return main(argv)
        except UserError as error:
            message = str(error)
        except StoppedError as stop:
            logging.info(
                "stopped by %s. %s; the same command resumes from there", signal.Signals(stop.signal).name, stop
            )
            return 128 + stop.signal
        except OSError as error:
            message = f"{error.filename or 'file system'}: {error.strerror or error}"
        except _FILE_ERRORS as error:
            message = error.message
        except UnicodeEncodeError as error:  # for a path that TensorFlow cannot encode
            message = f"{printable(str(error.object))}: not valid UTF-8; rename it"
        except KeyboardInterrupt:
            return 130
        first_line, *_ = message.splitlines()
        print(f"{os.path.basename(sys.argv[0])}: {first_line}", file=sys.stderr)
        return 2

    return wrapped


def log_to(stream: TextIO) -> None:
    """Write log lines to a stream, as `[INFO] ...`. Of other libraries, only warnings and errors are written.

    Args:
        stream: standard output or standard error.
    """
    logging.basicConfig(format="[%(levelname)s] %(message)s", level=logging.INFO, stream=stream, force=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.name == "root" or record.levelno >= logging.WARNING)


def stops_at_once(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap the `main` of a script so that Ctrl-C ends it at once.

    Python handles signals only in the main thread, and only after a running call of TensorFlow or of another library
    has returned. So `main` is run in another thread. Complete files are kept, unfinished files are removed.

    Args:
        main: a function of the arguments that returns the exit status.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        outcome: Future[int] = Future()

        def work() -> None:
            try:
                outcome.set_result(main(argv))
            except BaseException as error:
                outcome.set_exception(error)

        try:  # before the start, because Ctrl-C can come during it
            threading.Thread(target=work, daemon=True).start()
            return outcome.result()
        except KeyboardInterrupt:
            _stop(outcome)

    return wrapped


@contextlib.contextmanager
def at_stop(function: Callable[[], None]) -> Iterator[None]:
    """Register a function for the block. Ctrl-C calls it, in the main thread, before the program ends."""
    _at_stop.append(function)
    try:
        yield
    finally:
        _at_stop.remove(function)


def _stop(outcome: Future) -> NoReturn:
    """End the program and its child processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"{os.path.basename(sys.argv[0])}: stopping; unfinished files are removed", file=sys.stderr, flush=True)
    if children := multiprocessing.active_children():
        for child in children:
            child.terminate()
        wait([outcome], _PATIENCE)  # for shared resources to be released
    for function in reversed(_at_stop.copy()):
        with contextlib.suppress(Exception):  # the other thread may be in the middle of what this ends
            function()
    remove_unfinished()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(130)  # a normal exit of Python would wait for threads and for TensorFlow
