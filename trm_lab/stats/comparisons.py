"""Many comparisons at once: Dunnett against a control, Holm over any p values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special, stats

from trm_lab.stats.interval import FEW_SEEDS, Interval, Values, check_level, finite


@dataclass(frozen=True)
class Against:
    """One arm against the control."""

    difference: Interval
    """Arm minus control, simultaneous over all arms; `n` is the seeds of the smaller of the two."""
    p: float
    """Two-sided, adjusted for the number of arms."""


def dunnett(arms: Mapping[str, Values], control: Values, level: float = 0.95) -> dict[str, Against]:
    """Compare every arm with one control by Dunnett's test (1955), two-sided.

    Independent runs and one variance in all arms.  It does not use that seeds are shared: where
    they are, `paired_dunnett` sees more.
    """
    check_level(level)
    if not arms:
        raise ValueError("no arms: give {name: values}")
    samples = {name: finite(values) for name, values in arms.items()}
    base = finite(control)
    short = [name for name, values in {**samples, "control": base}.items() if len(values) < 2]
    if short:
        raise ValueError(f"Dunnett's test takes two seeds or more in every arm: {', '.join(short)}")
    if not any(np.ptp(values) for values in (*samples.values(), base)):
        raise ValueError("Dunnett's test takes a spread: all values within each arm are equal")
    # The generator is that of scipy's multivariate t integral: fixed, for equal numbers each time.
    found = stats.dunnett(*samples.values(), control=base, rng=np.random.default_rng(0))
    ends = found.confidence_interval(level)
    lower, upper = np.asarray(ends.low), np.asarray(ends.high)
    said = {}
    for place, (name, values) in enumerate(samples.items()):
        n = min(len(values), len(base))
        difference = Interval(
            float(values.mean() - base.mean()),
            float(lower[place]),
            float(upper[place]),
            n,
            f"Dunnett over unpaired seeds, {len(samples)} arms against a control",
            descriptive=n < FEW_SEEDS,
        )
        said[name] = Against(difference, float(found.pvalue[place]))
    return said


def paired_dunnett(
    arms: Mapping[str, Mapping[int, float]], control: Mapping[int, float], level: float = 0.95
) -> dict[str, Against]:
    """Compare every arm with one control, all on the same seeds, two-sided.

    Dunnett's distribution with the arm x seed pooled variance of the two-way additive model
    (`pooled_difference`) and its (A - 1)(S - 1) degrees, A the arms with the control.  Seeds that
    some arm lacks are refused, not left out: choose them yourself.
    """
    check_level(level)
    if not arms:
        raise ValueError("no arms: give {name: {seed: value}}")
    uneven = [name for name, arm in arms.items() if set(arm) != set(control)]
    if uneven:
        raise ValueError(f"not the seeds of the control: {', '.join(uneven)}")
    seeds = sorted(control)
    n, k = len(seeds), len(arms)
    if n < 2:
        raise ValueError(f"Dunnett's test takes two seeds or more, not {n}")
    rows = [finite([arm[seed] for seed in seeds]) for arm in (control, *arms.values())]
    y = np.stack(rows)
    df = k * (n - 1)
    rest = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    error = math.sqrt(2 * float((rest**2).sum()) / df / n)
    if not error > 1e-12 * float(np.abs(y).max()):
        raise ValueError("Dunnett's test takes a spread: every seed shifts all arms alike")
    edge = _critical(k, df, level)
    said = {}
    for name, row in zip(arms, rows[1:], strict=True):
        gap = float((row - rows[0]).mean())
        difference = Interval(
            gap,
            gap - edge * error,
            gap + edge * error,
            n,
            f"Dunnett over paired seeds, {k} arms against a control, {df} degrees of freedom",
            descriptive=n < FEW_SEEDS,
        )
        said[name] = Against(difference, _outside(abs(gap) / error, k, df))
    return said


def _outside(edge: float, k: int, df: int) -> float:
    """Give the chance that any of k contrasts with one control passes +-edge: Dunnett 1955.

    Two integrals, over the control's mean z and the pooled standard deviation s:
    1 - E[(Phi(z + sqrt(2) edge s) - Phi(z - sqrt(2) edge s))**k], by the trapezoid rule in z and
    ln s, where the densities fall off so fast that it is exact to the digits that count.
    """
    z = np.linspace(-9, 9, 121)
    wide = 7 / math.sqrt(df)
    t = np.linspace(-wide - 37 / df, wide, 300)
    density = np.exp(df * t - df * np.exp(2 * t) / 2 + df / 2)
    reach = math.sqrt(2) * edge * np.exp(t)[:, None]
    # The share outside, not 1 - inside: small p keep their digits.
    one = special.ndtr(-z - reach) + special.ndtr(z - reach)
    some = -np.expm1(k * np.log1p(-np.minimum(one, 1 - 1e-16)))
    over_z = np.exp(-(z**2) / 2)
    return float(density @ some @ over_z / (density.sum() * over_z.sum()))


@cache
def _critical(k: int, df: int, level: float) -> float:
    high = 1.0
    while _outside(high, k, df) > 1 - level:
        high *= 2
    return float(optimize.brentq(lambda edge: _outside(edge, k, df) - 1 + level, 0.0, high))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p values by Holm's step-down method (1979): no assumption on their dependence.

    Rejecting where the adjusted p is below alpha keeps the chance of any false rejection below it.
    """
    if not p_values:
        return {}
    given = finite(list(p_values.values()))
    if ((given < 0) | (given > 1)).any():
        raise ValueError(f"p values lie in [0, 1], not {given!r}")
    # Half a second of import that no other function here needs.
    from statsmodels.stats.multitest import multipletests

    adjusted = multipletests(given, method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))
