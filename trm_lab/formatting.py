"""How a number is written where people read it: on the terminal and in the report."""

import math


def short(value: float) -> str:
    """Write a number briefly, a missing one as a dash: 0.083, 12.3, 236.0, 1.2e-5, 3.4e8.

    Three decimals below 10, so that accuracies of a column stand under each other.
    """
    size = abs(value)
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return f"{value}"
    if size and (size < 0.0005 or size >= 1e6):
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits}e{int(power)}"
    if size < 9.9995:
        return f"{value:.3f}"
    return f"{value:.1f}" if size < 999.95 else f"{value:.0f}"


def between(lower: float, upper: float) -> str:
    """Write an interval; one that could not be had in words."""
    if math.isnan(lower) or math.isnan(upper):
        return "no interval"
    return f"[{short(lower)}, {short(upper)}]"
