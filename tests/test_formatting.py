import math

import pytest

from trm_lab.cli.output import engineering
from trm_lab.formatting import between, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"), (1 / 12, "0.083"), (-0.5, "-0.500"), (0.0005, "0.001"), (9.9994, "9.999"),
        (9.9996, "10.0"), (236.0, "236.0"), (999.96, "1000"), (12345.6, "12346"), (1e-5, "1.0e-5"),
        (-3.14159e-12, "-3.1e-12"), (1e6, "1.0e6"), (2.5e10, "2.5e10"),
        (math.nan, "-"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_numbers_are_written_briefly(value: float, text: str):
    assert short(value) == text


def test_an_interval_that_could_not_be_had_is_said():
    assert between(0.25, 12.0) == "[0.250, 12.0]"
    assert between(math.nan, math.nan) == "no interval"


def test_large_numbers_have_a_prefix():
    assert [engineering(v) for v in (3.06e9, 999.6, 1.5e12, 12.0)] == [
        "3.06 G", "1 k", "1.5 T", "12",
    ]  # fmt: skip
