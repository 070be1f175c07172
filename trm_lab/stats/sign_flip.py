"""The sign-flip test of paired differences."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trm_lab.stats.interval import Floats, Values, finite

_MOST_EXACT = 16
"""Pairs up to which all 2**n sign flips are enumerated."""
_RANDOM_FLIPS = 99_999
_USUAL = 0.05
"""The level that a reader has in mind: a test that cannot reach it says so."""


@dataclass(frozen=True)
class SignFlip:
    """A two-sided sign-flip test of paired differences."""

    p: float
    smallest_p: float
    """What n pairs can reach at best: 2 / 2**n."""
    n: int
    exact: bool
    """All sign flips were enumerated."""
    note: str
    """What so few pairs cannot show, in words; empty where p < 0.05 is within reach."""


def sign_flip_p(differences: Values) -> SignFlip:
    """Test whether paired differences are symmetric about zero: exact, two-sided (Fisher 1935).

    With n pairs p cannot fall below 2 / 2**n: 0.25 with 3, 0.0625 with 5.  Above 16 pairs the
    flips are 99,999 random ones.
    """
    values = finite(differences)
    n = len(values)
    if n == 0:
        return SignFlip(math.nan, math.nan, 0, exact=True, note=_note(0))
    if n == 1:
        return SignFlip(1.0, 1.0, 1, exact=True, note=_note(1))
    exact = n <= _MOST_EXACT
    result = stats.permutation_test(
        (values,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**n if exact else _RANDOM_FLIPS,
        batch=4096,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return SignFlip(float(result.pvalue), 2.0 / 2**n, n, exact, _note(n))


def _note(n: int) -> str:
    if n == 0:
        return "no paired seeds, no test"
    if 2.0 / 2**n < _USUAL:
        return ""
    seeds = "1 paired seed" if n == 1 else f"{n} paired seeds"
    enough = math.floor(1 - math.log2(_USUAL)) + 1
    return (
        f"{seeds} cannot reach p < {2.0 / 2**n:g}, whatever the differences; "
        f"p < {_USUAL:g} takes {enough} pairs"
    )


def _mean(values: Floats, axis: int) -> Floats:
    return np.asarray(values.mean(axis=axis))
