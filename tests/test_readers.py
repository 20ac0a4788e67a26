import argparse

import pytest

from pyimagesearch import readers


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (readers.positive_int, "0"),
        (readers.positive_int, "ten"),
        (readers.square, "24"),
        (readers.square, "100"),
        (readers.fraction, "1"),
        (readers.fraction, "half"),
        (readers.below_one, "1"),
        (readers.from_zero, "-1"),
        (readers.from_zero, "inf"),
        (readers.whole_number, "1.5"),
        (readers.crf, "52"),
        (readers.crf, "-1"),
        (readers.device, "cuda"),
        (readers.device, "cpu:1"),
        (readers.device, "gpu:x"),
        (readers.name_part, "a/b"),
        (readers.size, "48"),
        (readers.size, "0x64"),
        (readers.port, "0"),
        (readers.port, "65536"),
        (readers.port, "http"),
    ],
)
def test_numbers_out_of_range_are_refused(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        read(text)


def test_a_size_is_read_as_height_and_width():
    assert readers.size("48x64") == (48, 64)
