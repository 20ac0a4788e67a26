import argparse
import logging

import pytest

from pyimagesearch import cli
from pyimagesearch.errors import UserError


def shared_flags(*argv):
    parser = cli.Parser(prog="train_srgan.py")
    cli.add_shared_flags(parser)
    return parser.parse_args(["--device", *argv])


def test_log_lines_go_to_standard_output(capsys):
    @cli.command
    def main(argv):
        logging.info("4 records found")
        return 0

    assert main([]) == 0
    assert capsys.readouterr() == ("[INFO] 4 records found\n", "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("--images x: no such folder"), "--images x: no such folder"),
        (PermissionError(13, "Permission denied", "outputs"), "outputs: Permission denied"),
    ],
)
def test_what_a_user_can_cause_takes_one_line_and_status_2(capsys, monkeypatch, error, line):
    @cli.command
    def main(argv):
        raise error

    monkeypatch.setattr("sys.argv", ["/somewhere/train_srgan.py"])
    assert main([]) == 2
    assert capsys.readouterr() == ("", f"train_srgan.py: {line}\n")


def test_what_a_programmer_causes_is_raised():
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
    assert err.startswith("train_srgan.py: argument --device: invalid choice: 'abacus'") and err.count("\n") == 1


def test_flags_win_over_the_bucket_and_the_bucket_over_the_defaults():
    assert cli.find_paths(shared_flags("gpu")).records == "tfrecord"
    paths = cli.find_paths(shared_flags("tpu", "--bucket", "gs://mine", "--outputs", "here"))
    assert (paths.records, paths.outputs) == ("gs://mine/tfrecord", "here")


@pytest.mark.parametrize("flags", [["tpu"], ["tpu", "--tpu", "mine"], ["gpu", "--bucket", "mine"]])
def test_a_tpu_needs_the_address_of_a_bucket(flags):
    with pytest.raises(UserError, match="--bucket.*gs://"):
        cli.find_paths(shared_flags(*flags))


def test_overrides_that_were_not_given_leave_the_preset_alone():
    config = cli.choose_config("tutorial", seed=None, train_batch_size=3)
    assert (config.seed, config.train_batch_size) == (42, 3)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (cli.positive_int, "0"),
        (cli.positive_int, "ten"),
        (cli.square, "24"),
        (cli.square, "100"),
        (cli.fraction, "1"),
        (cli.fraction, "half"),
        (cli.below_one, "1"),
        (cli.from_zero, "-1"),
        (cli.from_zero, "inf"),
        (cli.whole_number, "1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        read(text)
