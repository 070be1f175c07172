"""What a number of seeds can show: t tests of the mean difference, by the noncentral t.

Student 1908, noncentral t as in Cohen 1988, chapter 2.  Two-sided throughout.
"""

import math
from dataclasses import dataclass

from scipy import optimize, stats

from trm_lab.stats.interval import FEW_SEEDS, Values, check_level, finite, in_one_order

_MOST_SEEDS = 10_000_000


@dataclass(frozen=True)
class Detectable:
    """The smallest true difference that a t test over n seeds finds with the asked power."""

    effect: float
    lower: float
    """The effect at the ends of the interval of the standard deviation: a handful of seeds does
    not know its own spread."""
    upper: float
    sd: float
    """Of the paired differences, or within an arm when unpaired."""
    n: int
    """Pairs, or seeds in each arm."""
    paired: bool
    power: float
    level: float
    descriptive: bool
    """The standard deviation comes from fewer than 5 pairs, or 5 seeds in an arm."""


def t_power(effect: float, sd: float, n: int, *, paired: bool, level: float = 0.95) -> float:
    """Give the chance that the t test over n seeds finds a true difference at 1 - level.

    paired: n pairs, sd of the differences.  Unpaired: n seeds in each arm, sd within an arm.
    """
    check_level(level)
    if n < 2:
        raise ValueError(f"a t test takes 2 seeds or more, not {n}")
    if not sd > 0:
        raise ValueError(f"the standard deviation is positive, not {sd}")
    df, scale = (n - 1, 1) if paired else (2 * n - 2, 2)
    return _power(abs(effect) / sd * math.sqrt(n / scale), df, level)


def detectable_effect(
    a: Values,
    b: Values,
    *,
    paired: bool,
    n: int | None = None,
    power: float = 0.8,
    level: float = 0.95,
) -> Detectable:
    """Give the minimal detectable effect from the spread of two arms over their seeds.

    The effect is for `n` seeds, by default as many as the (smaller) arm has; with more, this plans
    the next study.  `lower` and `upper` come from the chi-squared interval of the spread.
    """
    check_level(level)
    check_level(power, "power")
    if paired and len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values do not pair")
    first, second = map(finite, in_one_order(a, b) if paired else (a, b))
    fewest = min(len(first), len(second))
    if fewest < 2:
        raise ValueError(f"a spread takes 2 seeds or more in each arm, not {fewest}")
    if paired:
        known = fewest - 1
        sd = float((first - second).std(ddof=1))
    else:
        known = len(first) + len(second) - 2
        squares = sum(float(((x - x.mean()) ** 2).sum()) for x in (first, second))
        sd = math.sqrt(squares / known)
    n = fewest if n is None else n
    unit = _unit_effect(n, paired, power, level)
    ends = [
        sd * math.sqrt(known / float(stats.chi2.ppf(tail, known)))
        for tail in (0.5 + level / 2, 0.5 - level / 2)
    ]
    return Detectable(
        unit * sd, unit * ends[0], unit * ends[1], sd, n, paired, power, level,
        descriptive=fewest < FEW_SEEDS,
    )  # fmt: skip


def seeds_needed(
    effect: float, sd: float, *, paired: bool, power: float = 0.8, level: float = 0.95
) -> int:
    """Give the fewest seeds (pairs, or seeds in each arm) that find an effect with this power.

    `sd` as in `t_power`.  Take the upper end of the spread to plan safely.
    """
    check_level(power, "power")
    if effect == 0:
        raise ValueError("an effect of 0 is found by no number of seeds")
    low, high = 1, 2
    while t_power(effect, sd, high, paired=paired, level=level) < power:
        low, high = high, 2 * high
        if high > _MOST_SEEDS:
            raise ValueError(f"more than {_MOST_SEEDS} seeds for an effect of {effect:g}")
    while high - low > 1:
        middle = (low + high) // 2
        if t_power(effect, sd, middle, paired=paired, level=level) < power:
            low = middle
        else:
            high = middle
    return high


def _unit_effect(n: int, paired: bool, power: float, level: float) -> float:
    """Give the detectable effect in units of the standard deviation."""
    if n < 2:
        raise ValueError(f"a t test takes 2 seeds or more, not {n}")
    df, scale = (n - 1, 1) if paired else (2 * n - 2, 2)
    if power <= 1 - level:
        raise ValueError(f"power {power} is what no effect gives at level {level}: ask for more")
    high = 1.0
    while _power(high, df, level) < power:
        high *= 2
    root = optimize.brentq(lambda x: _power(x, df, level) - power, 0.0, high, xtol=1e-12)
    return float(root) * math.sqrt(scale / n)


def _power(shift: float, df: int, level: float) -> float:
    edge = float(stats.t.ppf(0.5 + level / 2, df))
    if shift == 0:
        return 1 - level
    found = float(stats.nct.sf(edge, df, shift))
    # The wrong sign has less than Phi(-shift): nothing at 6, from where scipy's nct may be NaN.
    return found + float(stats.nct.cdf(-edge, df, shift)) if shift < 6 else found
