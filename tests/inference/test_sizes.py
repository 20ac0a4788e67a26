import pytest

from pyimagesearch.inference.sizes import OutputSize


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (OutputSize(), (400, 1200)),
        (OutputSize(scale=1.5), (150, 450)),
        (OutputSize(width=1000), (333, 1000)),
        (OutputSize(height=77), (77, 231)),
        (OutputSize(width=64, height=64), (64, 64)),
        (OutputSize(long_side=2000), (667, 2000)),
        (OutputSize(width=1), (1, 1)),
    ],
)
def test_a_size_is_exact_and_keeps_the_aspect_ratio(size, expected):
    assert size.of(100, 300, 4) == expected


@pytest.mark.parametrize("side", range(1, 2000, 7))
def test_a_side_is_exactly_the_one_that_was_asked_for(side):
    assert OutputSize(width=side).of(313, 997, 4)[1] == side
    assert OutputSize(height=side).of(313, 997, 4)[0] == side
    assert max(OutputSize(long_side=side).of(313, 997, 4)) == side
