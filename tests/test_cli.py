import dataclasses
import gc
import io
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from conftest import random_image, save

from pyimagesearch import cli
from pyimagesearch.config import PRESETS
from pyimagesearch.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def shared_flags(*argv):
    parser = cli.Parser(prog="train_srgan.py")
    cli.add_shared_flags(parser)
    return parser.parse_args(["--device", *argv])


def test_the_objects_of_the_imports_are_not_garbage_collected_and_others_are():
    assert gc.isenabled() and gc.get_freeze_count() > 100_000


def test_log_lines_go_to_standard_output(capsys):
    @cli.command
    def main(argv):
        logging.info("4 records found")
        return 0

    assert main([]) == 0
    assert capsys.readouterr() == ("[INFO] 4 records found\n", "")


def test_of_other_libraries_only_warnings_are_logged(capsys):
    @cli.command
    def main(argv):
        logging.getLogger("botocore.credentials").info("Found credentials in environment variables.")
        logging.getLogger("botocore.credentials").warning("Credentials expire soon.")
        return 0

    assert main([]) == 0
    assert capsys.readouterr().out == "[WARNING] Credentials expire soon.\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("--images x: no such folder"), "--images x: no such folder"),
        (PermissionError(13, "Permission denied", "outputs"), "outputs: Permission denied"),
    ],
)
def test_a_user_error_takes_one_line_and_status_2(capsys, monkeypatch, error, line):
    @cli.command
    def main(argv):
        raise error

    monkeypatch.setattr("sys.argv", ["/somewhere/train_srgan.py"])
    assert main([]) == 2
    assert capsys.readouterr() == ("", f"train_srgan.py: {line}\n")


def test_an_error_of_the_program_is_raised():
    @cli.command
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main([])


def test_a_wrong_flag_takes_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        shared_flags("abacus")
    assert stop.value.code == 2
    _, err = capsys.readouterr()
    assert err.startswith("train_srgan.py: argument --device: 'abacus' is not one of gpu,") and err.count("\n") == 1


def test_flags_win_over_the_bucket_and_the_bucket_over_the_defaults():
    assert cli.find_paths(shared_flags("gpu")).records == "tfrecord"
    paths = cli.find_paths(shared_flags("tpu", "--bucket", "gs://mine", "--outputs", "here"))
    assert (paths.records, paths.outputs) == ("gs://mine/tfrecord", "here")


@pytest.mark.parametrize("flags", [["tpu"], ["tpu", "--tpu", "mine"], ["gpu", "--bucket", "mine"]])
def test_a_tpu_needs_the_address_of_a_bucket(flags):
    with pytest.raises(UserError, match="--bucket.*gs://"):
        cli.find_paths(shared_flags(*flags))


def test_overrides_that_were_not_given_leave_the_preset_alone():
    parser = cli.Parser()
    cli.add_preset_flag(parser)
    cli.add_config_flags(parser)
    config = cli.choose_config(parser.parse_args(["--batch-size", "3"]))
    assert config == dataclasses.replace(PRESETS["tutorial"], train_batch_size=3)
    fast = cli.choose_config(parser.parse_args(["--no-bn"]), PRESETS["fast"])
    assert fast == PRESETS["fast"]


def test_a_command_can_have_the_flags_of_some_settings_only():
    parser = cli.Parser()
    cli.add_config_flags(parser, "hr_shape")
    assert vars(parser.parse_args(["--crop-size", "64"])) == {"hr_shape": (64, 64, 3)}


def test_names_that_are_not_utf8_can_be_logged(monkeypatch, capfd):
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", out)

    @cli.command
    def main(argv=None):
        logging.info("written: %s", os.fsdecode(b"caf\xe9"))
        return 0

    assert main() == 0
    out.flush()
    assert out.buffer.getvalue() == b"[INFO] written: caf\\udce9\n" and capfd.readouterr().err == ""


STUCK = """
import hashlib, os, sys
sys.path.insert(0, {root!r})
from pyimagesearch import cli
from pyimagesearch.files import written_whole

@cli.command
@cli.stops_at_once
def main(argv=None):
    with written_whole("result.txt") as aside, open(aside, "w") as file:
        file.write("half of")
        file.flush()
        print("begun", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # which Python cannot interrupt, for minutes

sys.exit(main())
"""


def test_ctrl_c_ends_a_command_at_once_and_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-c", STUCK.format(root=str(ROOT))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout.readline() == "begun\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert time.monotonic() - start < 2
    assert process.returncode == 130 and said == "-c: stopping; unfinished files are removed\n"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_processes_of_a_command_too(tmp_path):
    for seed in range(12):
        save(tmp_path / "photos" / f"{seed}.png", random_image(1500, 1200, seed))
    flags = ["--images", "photos", "--records", "records", "--preset", "demo", "--processes", "2"]
    command = [sys.executable, ROOT / "create_tfrecords.py", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while process.poll() is None and not list((tmp_path / "records").rglob("*.tfrec")):
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()  # which waits for all that write there
    assert time.monotonic() - start < 2
    assert process.returncode == 130 and said == "create_tfrecords.py: stopping; unfinished files are removed\n"
    assert not list((tmp_path / "records").glob("manifest.json"))


def test_ctrl_c_while_a_command_starts_leaves_no_traceback():
    command = [sys.executable, ROOT / "export.py", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and "tensorflow" not in pathlib.Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == (b"", b"") and process.returncode == -signal.SIGINT


def test_what_a_command_raises_or_returns_is_the_same_in_a_thread_of_its_own(capsys):
    @cli.command
    @cli.stops_at_once
    def main(argv=None):
        return {"return": lambda: 7, "raise": lambda: raise_error(UserError("no")), "exit": lambda: sys.exit(3)}[argv]()

    def raise_error(error):
        raise error

    assert main("return") == 7 and main("raise") == 2 and capsys.readouterr().err.endswith(": no\n")
    with pytest.raises(SystemExit, match="3"):
        main("exit")
