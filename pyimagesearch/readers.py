"""Functions that read values from text, for the `type=` of `argparse`.

Each raises an `ArgumentTypeError` whose text names the value and the allowed range.
"""

import contextlib
from argparse import ArgumentTypeError


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def device(text: str) -> str:
    """Read a device: gpu, gpu:N, cpu or tpu."""
    name, _, number = text.partition(":")
    if text not in ("gpu", "cpu", "tpu") and not (name == "gpu" and number.isdecimal()):
        raise ArgumentTypeError(f"{text!r} is not one of gpu, gpu:0, gpu:1 ..., cpu, tpu")
    return text


def name_part(text: str) -> str:
    """Read a part of a file name."""
    if "/" in text or "\0" in text:
        raise ArgumentTypeError(f"{text!r} cannot be part of a file name")
    return text


def crop_side(text: str) -> int:
    """Read the side of a crop in pixels: a multiple of 8, at least 32, for all scaling factors and networks."""
    side = positive_int(text)
    if side < 32 or side % 8:
        raise ArgumentTypeError(f"{text!r} is not a multiple of 8 of at least 32")
    return side


def square(text: str) -> tuple[int, int, int]:
    """Read the side of a crop as `crop_side` does; return the shape (side, side, 3)."""
    side = crop_side(text)
    return side, side, 3


def seed_number(text: str) -> int:
    """Read a whole number from 0 to 2^32 - 1."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def positive_float(text: str) -> float:
    """Read a number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number above 0")


def from_zero(text: str) -> float:
    """Read a number of at least 0."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number of at least 0")


def whole_number(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def fraction(text: str) -> float:
    """Read a number above 0 and below 1."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number between 0 and 1")


def below_one(text: str) -> float:
    """Read a number of at least 0 and below 1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number from 0 to 1")


def crf(text: str) -> int:
    """Read the quality of a video: 0, the best, to 51, the worst."""
    if not text.isdecimal() or int(text) > 51:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to 51")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Read a height and a width in pixels, such as `48x64`."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ArgumentTypeError(f"{text!r} is not a height and a width in pixels, such as 48x64")
    height, width = map(int, sides)
    return height, width


def port(text: str) -> int:
    """Read the number of a port."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ArgumentTypeError(f"{text!r} is not a port, a whole number from 1 to 65535")
    return int(text)
