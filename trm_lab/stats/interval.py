"""What every estimate of this package comes with, and what the values behind it must be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd

FEW_SEEDS = 5
"""Below this an interval over seeds describes these seeds and no more: with 4 pairs the smallest
two-sided sign-flip p is 2 / 2**4 = 0.125."""
BOOTSTRAP_SEEDS = 8
"""From here on seeds are resampled; below, an interval leans on a normal error, since percentiles
cover too little; docs/statistics.md has the coverage that was measured."""

_ROUNDING = 1e-9
"""Share of a count by which arithmetic may have moved it off a whole number."""
_FEW = 5
"""Most labels that an error lists."""

Floats = npt.NDArray[np.float64]
Values = Sequence[float] | Floats


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval, in the unit of the values."""

    estimate: float
    lower: float
    """NaN where the data give no interval."""
    upper: float
    n: int
    """Independent units behind it."""
    method: str
    descriptive: bool
    """Too few units to generalise from."""


def student(estimate: float, error: float, df: float, level: float) -> tuple[float, float]:
    """Give the ends of Student's t interval from a standard error; NaN without degrees."""
    if not df > 0:
        return math.nan, math.nan
    half = float(stats.t.ppf(0.5 + level / 2, df)) * error
    return estimate - half, estimate + half


def finite(values: Values) -> Floats:
    """Check that the values are finite and in one dimension."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"expected finite values in one dimension, not {array!r}")
    return array


def in_one_order(a: Any, b: Any) -> tuple[Any, Any]:
    """Give b in the order of a's labels where both have labels; others are in one order already.

    A pandas Series has labels, and so has a DataArray with a coordinate.

    Raises:
        ValueError: the labels of a and b are not the same, or one of them stands twice.
    """
    first, second = _labels(a), _labels(b)
    if first is None or second is None or first.equals(second):
        return a, b
    alone = first.symmetric_difference(second, sort=False)
    if len(alone) or not (first.is_unique and second.is_unique):
        names = ", ".join(map(str, alone[:_FEW])) + ", ..." * (len(alone) > _FEW)
        raise ValueError(
            f"two Series pair by their labels: {f'one lacks {names}' if names else 'some repeat'}; "
            "make the seed or puzzle the index, or give both as numpy arrays in one order"
        )
    return np.asarray(a), np.asarray(b)[second.get_indexer(first)]


def _labels(values: Any) -> "pd.Index[Any] | None":
    if isinstance(values, Sequence | np.ndarray):
        return None
    # Imports that no other function here needs.
    import pandas as pd
    import xarray as xr

    if isinstance(values, pd.Series):
        return values.index
    if isinstance(values, xr.DataArray) and values.ndim == 1 and values.indexes:
        return values.to_series().index
    return None


def check_level(level: float, name: str = "level") -> None:
    """Check that a level of confidence, or a power, lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"{name} is a fraction between 0 and 1, not {level}")


def counted(value: float, units: str) -> int:
    """Give a count as a whole number: 0.29 x 100 is 29, and 28.5 is no count.

    Raises:
        ValueError: it is not whole, but for rounding.
    """
    if not (math.isfinite(value) and abs(value - round(value)) <= _ROUNDING * max(1, value)):
        raise ValueError(f"{value} {units}: a count is a whole number")
    return round(value)


def check_draws(draws: int) -> None:
    """Check the number of bootstrap resamples: below 100 a 95 % end is one of the extremes."""
    if draws < 100:
        raise ValueError(f"draws is at least 100, not {draws}")


def percentiles(draws: Floats, level: float) -> tuple[float, float]:
    """Give the two ends that leave (1 - level) / 2 of the draws outside on either side."""
    tail = (1 - level) / 2
    lower, upper = np.quantile(draws, [tail, 1 - tail])
    return float(lower), float(upper)
