"""The tables of the report, as rows of text for reading; the CSV files hold the same numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from trm_lab.formatting import between, short
from trm_lab.plots import captions
from trm_lab.plots.contrasts import contrast_table
from trm_lab.plots.tables import At, cell_table, metric, plan, run_table, scale, title


@dataclass(frozen=True)
class Table:
    """A table as text: one header per column."""

    stem: str
    title: str
    """Empty where the section has the title."""
    note: str
    header: list[str]
    rows: list[list[str]]
    data: pd.DataFrame
    """The same rows in full precision."""


def number(value: Any, digits: int = 1) -> str:
    """Write a number; a missing one is a dash."""
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    text = f"{value:,.{digits}f}" if digits else f"{value:,.0f}"
    return text.replace(",", "\N{THIN SPACE}").replace("-", "\N{MINUS SIGN}")


def interval(middle: float, lower: float, upper: float, factor: float, digits: int = 1) -> str:
    """Write an estimate and its interval."""
    text = number(middle * factor, digits)
    if math.isfinite(lower):
        text += f" [{number(lower * factor, digits)},"
        text += f"\N{NO-BREAK SPACE}{number(upper * factor, digits)}]"
    return text


def signed(text: str) -> str:
    """Put a plus sign before a difference above zero."""
    return text if text[0] in "\N{MINUS SIGN}–" else f"+{text}"


def cells(tree: xr.DataTree) -> Table:
    """Give where every cell stands, what became of its runs, and its two accuracies."""
    runs = run_table(tree)
    data = cell_table(tree, runs)
    factor, unit, _ = scale(metric(tree))
    name = title(metric(tree))
    rows = []
    for _, row in data.iterrows():
        seeds = f"{row['completed']} of {row['planned']}"
        lost = [part for part in row["states"].split(", ") if not part.endswith("completed")]
        rows.append(
            [
                str(row["label"]),
                str(row["series"]),
                *(number(row[k], 0) for k in ("T", "n", "effective_depth", "graph_updates")),
                number(row["params"], 0),
                f"{seeds}; {', '.join(lost)}" if lost else seeds,
                *(_accuracy(row, at, factor) for at in _BOTH),
                number(row["seconds"]),
            ]
        )
    header = ["Variant", "Series", "T", "n", "Effective depth", "Graph updates", "Params"]
    header += [
        "Seeds completed",
        *(f"{name} {captions.column(runs, at)}, {unit}" for at in _BOTH),
    ]
    note = (
        f"Mean [{captions.interval(data)} over seeds], not clipped to 0-100. After training: "
        "final test, last weights. At equal training compute (FLOP): validation puzzles, linear "
        "between evaluations. Diverged, failed and unfinished runs are counted and enter no mean. "
        "Seconds: mean over completed runs, wall clock."
    )
    return Table("cells", "Cells", note, [*header, "Seconds per run"], rows, data)


_BOTH: tuple[At, ...] = ("updates", "compute")


def _accuracy(row: pd.Series, at: At, factor: float) -> str:
    text = _of(row, at, "mean", factor)
    return text if row[f"{at}_n"] == row["completed"] else f"{text} (n = {row[f'{at}_n']})"


def _of(row: pd.Series, at: At, name: str, factor: float) -> str:
    return interval(row[f"{at}_{name}"], row[f"{at}_lower"], row[f"{at}_upper"], factor)


def contrasts(tree: xr.DataTree) -> Table:
    """Give every planned comparison, paired by seed."""
    runs = run_table(tree)
    data = contrast_table(tree, runs)
    factor, _, unit = scale(metric(tree))
    rows = [
        [
            str(row["title"]),
            str(row["against"]),
            str(row["baseline"]),
            str(row["changed"]).replace("->", "→") or "–",
            *(
                text
                for at in _BOTH
                for text in (
                    signed(_of(row, at, "difference", factor)),
                    str(row[f"{at}_n"]),
                )
            ),
        ]
        for _, row in data.iterrows()
    ]
    header = ["Contrast", "Variant", "Baseline", "What differs"]
    for at in _BOTH:
        header += [f"Difference {captions.column(runs, at)}, {unit}", "n"]
    note = (
        f"Variant minus baseline: mean [{captions.interval(data)}] of the differences paired by "
        "seed, n pairs."
    )
    return Table("contrasts", "Contrasts", note, header, rows, data)


def fits(tree: xr.DataTree, found: Sequence[xr.Dataset]) -> Table:
    """Give every fitted law with its parameters."""
    series = {entry["name"]: entry for entry in plan(tree).get("fits") or []}
    rows, data = [], []
    for fit in found:
        a = fit.attrs
        label = f"{a.get('name')} ({series.get(a.get('name'), {}).get('series') or 'all runs'})"
        state = str(a.get("status")).replace("_", " ")
        state += ", stale: made from other data, run trm-lab fit" * int(a.get("stale", 0))
        state += ", descriptive" * int(a.get("descriptive", 0))
        state += f"; {a['note']}" if a.get("note") else ""
        values: list[dict[str, Any]] = [
            {
                "fit": a.get("name"),
                "law": a.get("law_name"),
                "parameter": str(name),
                "estimate": float(fit["coefficients"][place]),
                "lower": float(fit["ci"][place, 0]),
                "upper": float(fit["ci"][place, 1]),
                "status": a.get("status"),
                "descriptive": int(a.get("descriptive", 0)),
                "stale": int(a.get("stale", 0)),
            }
            for place, name in enumerate(fit["param"].values)
        ]
        data += values
        parameters = "; ".join(
            f"{v['parameter']} = {short(v['estimate'])} {between(v['lower'], v['upper'])}"
            for v in values
            if math.isfinite(v["estimate"])
        )
        rows.append(
            [
                label,
                f"{a.get('law_name')}: {a.get('formula')}",
                f"{a.get('y_name')} by {a.get('x_name')}",
                parameters.replace("-", "\N{MINUS SIGN}") or "–",
                "none"
                if a.get("interval") == "none"
                else f"{100 * float(a.get('level', 0.95)):g} % {a.get('interval')}",
                f"{a.get('n_points')} / {a.get('n_clusters')}",
                state,
            ]
        )
    header = ["Fit", "Law", "Axes", "Parameters", "Interval", "Runs / clusters", "Status"]
    return Table("fits", "Fits", "", header, rows, pd.DataFrame(data))


def failures(tree: xr.DataTree) -> Table:
    """List every planned run that is not completed, with its error if it has one."""
    runs = run_table(tree)
    every = tree["runs"].to_dataset()
    errors: dict[str, str] = {}
    if "error" in every:
        errors = dict(zip(every["run"].values, every["error"].values, strict=True))
    short = runs[runs["state"] != "completed"]
    data = short[["run", "variant", "seed", "state", "updates"]].assign(
        error=[str(errors.get(run, "")) for run in short["run"]]
    )
    rows = [
        [str(r["run"]), str(r["variant"]), str(r["seed"]), str(r["state"]), number(r["updates"], 0),
         str(r["error"]) or "–"]
        for _, r in data.iterrows()
    ]  # fmt: skip
    header = ["Run", "Variant", "Seed", "State", "Updates done", "Error"]
    return Table("failures", "", "", header, rows, data)
