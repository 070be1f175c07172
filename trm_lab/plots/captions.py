"""Phrases that every caption needs: what is held equal, how many seeds, which interval."""

import math

import pandas as pd
import xarray as xr

from trm_lab.plots.tables import PANELS, At, metric, title
from trm_lab.stats import BOOTSTRAP_SEEDS


def prefixed(value: float, unit: str) -> tuple[float, str]:
    """Give the size of the SI unit that suits a number, and its name: 2.7e12 has (1e12, TFLOP)."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return 10.0**power, prefix + unit
    return 1.0, unit


def quantity(value: float, unit: str) -> str:
    """Give a large number with an SI prefix: 2.7e12 FLOP is "2.7 TFLOP"."""
    if not math.isfinite(value):
        return f"unknown {unit}"
    size, name = prefixed(value, unit)
    return f"{value / size:.3g} {name}"


def after(runs: pd.DataFrame) -> str:
    """Say after how many updates the completed runs ended."""
    ends = runs.loc[runs["state"] == "completed", "updates"].dropna()
    if ends.empty:
        return "at the end of training"
    if ends.min() == ends.max():
        return f"after {ends.max():.0f} updates"
    return f"at the end of training ({ends.min():.0f} to {ends.max():.0f} updates)"


def held(runs: pd.DataFrame, at: At) -> str:
    """Say what is held equal in a comparison."""
    if at == "updates":
        return after(runs)
    budget = runs.attrs["budget"]
    known = f" ({quantity(budget, 'FLOP')} of training)" if math.isfinite(budget) else ""
    return f"at equal compute{known}"


def column(runs: pd.DataFrame, at: At) -> str:
    """Say what is held equal, as briefly as a table's head needs it."""
    budget = runs.attrs["budget"]
    if at == "compute" and math.isfinite(budget):
        return f"at {quantity(budget, 'FLOP')}"
    return held(runs, at)


def heading(letter: str, runs: pd.DataFrame, at: At) -> str:
    """Give the title of a panel."""
    return f"{letter}   {held(runs, at).replace(' of training)', ')')}"


def measured(tree: xr.DataTree, runs: pd.DataFrame, at: At) -> str:
    """Say what was measured, on which puzzles and when."""
    split = "final test" if at == "updates" else "validation, linear between evaluations"
    return f"{title(metric(tree))} ({split}) {held(runs, at)}"


def seeds(count: int) -> str:
    """Give a number of seeds as words."""
    return f"{count} seed" if count == 1 else f"{count} seeds"


def shortfall(row: pd.Series, at: At) -> str:
    """Say what is missing from a cell's mean; empty if nothing is."""
    found, planned = int(row[f"{at}_n"]), int(row["planned"])
    if found == planned:
        return ""
    rest = [part for part in row["states"].split(", ") if not part.endswith(" completed")]
    if int(row["completed"]) > found:
        lacks = "this number" if at == "updates" else "an evaluation up to this budget"
        rest.append(f"{int(row['completed']) - found} completed without {lacks}")
    return f"{row['label']}: {found} of {seeds(planned)} ({', '.join(rest)})"


def coverage(cells: pd.DataFrame, at: At) -> str:
    """Give n: once if it is the same in every cell, and every cell where runs are missing.

    Where no cell has a mean there is nothing to give n of.
    """
    if not cells[f"{at}_n"].any():
        some = cells["completed"].any()
        return f"n = 0, {'no completed run has this number' if some else 'no run has completed'}."
    full = sorted({int(n) for n in cells.loc[cells[f"{at}_n"] == cells["planned"], "planned"]})
    lacking = [text for _, row in cells.iterrows() if (text := shortfall(row, at))]
    each = f"n = {' or '.join(map(str, full))} {'seed' if full == [1] else 'seeds'} per cell"
    if not lacking:
        return f"{each}."
    return f"{each}, except " * bool(full) + f"{'; '.join(lacking)}."


def both(tree: xr.DataTree, runs: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Describe the panels (a) and (b), and give n once if it is the same in both."""
    whats = [f"({letter}) {measured(tree, runs, at)}" for letter, at in PANELS]
    counts = [coverage(cells, at) for _, at in PANELS]
    if counts[0] == counts[1]:
        return f"{whats[0]}; {whats[1]}; {counts[0]}"
    return " ".join(f"{what}: {count}" for what, count in zip(whats, counts, strict=True))


def interval(rows: pd.DataFrame) -> str:
    """Name the interval that the numbers of seeds chose (`trm_lab.stats.seed_interval`)."""
    many = [rows[f"{at}_n"] >= BOOTSTRAP_SEEDS for _, at in PANELS] if len(rows) else []
    if not any(here.any() for here in many):
        return "95 % t interval"
    which = (
        "" if all(here.all() for here in many) else f" (t interval below {BOOTSTRAP_SEEDS} seeds)"
    )
    return f"95 % bootstrap interval of expanded percentiles{which}"


def fitted(made: xr.Dataset, tested: xr.Dataset | None = None, *, of: str = "rows") -> str:
    """Describe what a figure of a fit shows: law, n, bands, and whether to believe it.

    `tested` is what `law.draw` was given to draw beyond the data; `of` says what a row is.
    """
    a = made.attrs
    text = f"{a.get('law_name')} law, {a.get('formula')}, {a.get('n_points')} {of}"
    if a.get("by"):
        text += f" by {a['by']}" + (f" with {a['share']} in common" if a.get("share") else "")
    text += f", {str(a.get('status')).replace('_', ' ')}"
    if a.get("interval", "none") == "none":
        text += f"; no band; {clusters(made)}"
    else:
        rows = a.get("independent", a.get("cluster")) == "row"
        text += f"; band: {level(made)} {a['interval']} over {of if rows else clusters(made)}"
    if tested is not None:
        errors = level(tested if "level" in tested.attrs else made)
        text += f"; grey band beyond the data: {errors} of the back-tested errors"
    return text + "; descriptive" * bool(a.get("descriptive"))


def headed(letter: str, made: xr.Dataset) -> str:
    """Give the title of a panel that shows a fit: its n, and the kind of its band."""
    a = made.attrs
    kind = "no" if a["interval_kind"] == "none" else a["interval_kind"]
    return f"{letter}   n = {a['n_points']}, {clusters(made)}, {kind} band"


def clusters(made: xr.Dataset) -> str:
    """Give the number of clusters of a fit, as "9 clusters (cell)"."""
    return f"{made.attrs.get('n_clusters')} clusters ({made.attrs.get('cluster')})"


def level(made: xr.Dataset) -> str:
    """Give the level of a fit's intervals, as "95 %"."""
    return f"{100 * float(made.attrs.get('level', 0.95)):g} %"


def past_the_scale(cells: pd.DataFrame, at: At) -> str:
    """Say that an interval leaves 0 to 1, where one does."""
    if (cells[f"{at}_lower"] < 0).any() or (cells[f"{at}_upper"] > 1).any():
        return " A t interval is symmetric and may pass 0 or 100 %; the drawing stops there."
    return ""
