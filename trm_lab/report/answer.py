"""The answer as sentences, with the sign that the data have."""

import math

import pandas as pd
import xarray as xr

from trm_lab.plots import captions
from trm_lab.plots.abscissa import Abscissa, abscissas, lines, values
from trm_lab.plots.contrasts import compare, contrast_table
from trm_lab.plots.tables import At, cell_table, changed, metric, planned, run_table, scale, title
from trm_lab.results import not_in_sweep
from trm_lab.stats import FEW_SEEDS

SMALL = 0.0005
"""Differences that print as 0.0 have no direction."""


def answer(tree: xr.DataTree) -> list[str]:
    """Say what the study found: what x does, then each contrast, then what is missing.

    Every direction is read from the data; nothing is said about a cell without a completed seed,
    nor about accuracies that are all 0.
    """
    runs = run_table(tree)
    cells = cell_table(tree, runs)
    if not (cells["updates_n"] > 0).any():
        return ["No run has completed: there is no answer yet.", *_missing(tree, cells)]
    solver = _bounds(tree, cells) + _unconverged(tree, cells)
    if not runs[["at_updates", "at_compute"]].fillna(0).to_numpy().any():
        name = title(metric(tree)).lower()
        nothing = f"every {name} is 0: nothing was learned yet, so nothing is compared."
        return [f"{_opening(runs, 'updates')}, {nothing}", *solver, *_missing(tree, cells)]
    said = []
    for x in abscissas(tree):
        placed = cells.assign(x=values(tree, cells, x.name), line=lines(tree, cells, x.name))
        for _, line in placed.groupby(["series", "line"], sort=False):
            said += _trend(tree, runs, line, x)
    contrasts = contrast_table(tree, runs)
    said += [_contrast(tree, runs, cells, row) for _, row in contrasts.iterrows()]
    said += _families(tree, runs, cells, contrasts)
    return said + solver + _missing(tree, cells) + _few(said)


def _trend(tree: xr.DataTree, runs: pd.DataFrame, cells: pd.DataFrame, x: Abscissa) -> list[str]:
    """Compare the cells of least and greatest x; name what else sets them apart."""
    cells = cells[cells["updates_n"] > 0].sort_values("x", kind="stable")
    if cells["x"].nunique() < 2 or cells["x"].duplicated().any():
        return []
    first, last = cells.iloc[0], cells.iloc[-1]
    name = title(metric(tree)).lower()
    said = []
    for at in ("updates", "compute"):
        row = compare(runs, first["cell"], last["cell"], at)
        if not row["n"]:
            said += [_unmeasured(runs, at, first, last)] * (at == "compute")
            continue
        if not cells[f"{at}_mean"].any():
            said.append(
                f"{_opening(runs, at)}, every {name} of {first['series']} is 0, so nothing is said."
            )
            continue
        verb = _word(row["difference"], "raised", "lowered", "left unchanged")
        others = _beside(tree, first["cell"], last["cell"], x)
        text = (
            f"{_opening(runs, at)}, {x.more} {verb} the {name} of "
            f"{first['series']}: {_value(tree, row['old'])} for {first['label']} at "
            f"{x.said(first['x'])}, {_value(tree, row['new'])} for {last['label']} "
            f"at {_brief(x, last['x'])}, {_interval(tree, row)}"
        )
        if others:
            text += f"; {' and '.join(others)} {'differs' if len(others) == 1 else 'differ'} too"
        best = cells.sort_values(f"{at}_mean", na_position="first").iloc[-1]
        if best["cell"] not in (first["cell"], last["cell"]):
            peak = _value(tree, best[f"{at}_mean"])
            text += f"; the highest mean is {peak} at {_brief(x, best['x'])}"
        said.append(f"{text}.")
    return said


def _unmeasured(runs: pd.DataFrame, at: At, first: pd.Series, last: pd.Series) -> str:
    return (
        f"{_opening(runs, at)}, no pair of seeds was measured for {first['label']} and "
        f"{last['label']}, so nothing is said."
    )


def _brief(x: Abscissa, value: float) -> str:
    return x.said(value).removeprefix("effective ")


def _beside(tree: xr.DataTree, old: str, new: str, x: Abscissa) -> list[str]:
    """Name the settings that differ between two cells, x apart (T and n); a kind by its section."""
    names = [change.partition(":")[0] for change in changed(tree, old, new)]
    kinds = [name.removesuffix(".kind") for name in names if name.endswith(".kind")]
    own = ("model.T", "model.n", x.name)
    rest = [n for n in names if n not in own and n.rpartition(".")[0] not in kinds]
    return sorted({*kinds, *rest})


def _contrast(tree: xr.DataTree, runs: pd.DataFrame, cells: pd.DataFrame, row: pd.Series) -> str:
    """Say where a variant stands against its baseline, at equal updates and at equal compute."""
    depths = dict(zip(cells["cell"], cells["effective_depth"], strict=True))
    new, old = (
        f"{row[label]} at depth {depths[row[cell]]:g}" if row[cell] in depths else row[label]
        for label, cell in (("against", "cell"), ("baseline", "baseline_cell"))
    )
    head = f"{row['title']}: "
    found = {at: compare(runs, row["baseline_cell"], row["cell"], at) for at in _BOTH}
    stands = [_stands(tree, runs, at, found[at]) for at in _BOTH if found[at]["n"]]
    if not stands:
        return f"{head}{new} and {old} have no completed seed in common, so nothing is said."
    text = f"{head}{new} stands {stands[0].replace('#', old)}"
    text += "".join(f", and {rest.replace('#', 'it')}" for rest in stands[1:])
    if not found["compute"]["n"]:
        text += f"; {captions.held(runs, 'compute')} no pair of seeds was measured"
    return f"{text}."


_BOTH: tuple[At, ...] = ("updates", "compute")


def _stands(tree: xr.DataTree, runs: pd.DataFrame, at: At, row: dict[str, float]) -> str:
    factor, _, unit = scale(metric(tree))
    if row["old"] == row["new"] == 0:
        return f"with # at {_value(tree, 0.0)} {captions.held(runs, at)} (nothing was learned)"
    size = f"{abs(row['difference']) * factor:.1f} {unit} "
    where = _word(row["difference"], f"{size}above #", f"{size}below #", "level with #")
    return f"{where} {captions.held(runs, at)} ({_interval(tree, row)})"


def _families(
    tree: xr.DataTree, runs: pd.DataFrame, cells: pd.DataFrame, contrasts: pd.DataFrame
) -> list[str]:
    """Compare two series at the deepest depth they share, where the plan has no such contrast."""
    family = dict(zip(cells["cell"], cells["series"], strict=True))
    pairs = (
        zip(contrasts["baseline_cell"], contrasts["cell"], strict=True) if len(contrasts) else []
    )
    asked = {frozenset((family.get(a), family.get(b))) for a, b in pairs}
    done = cells[(cells["updates_n"] > 0) & ~cells.duplicated(["series", "effective_depth"], False)]
    names = list(dict.fromkeys(done["series"]))
    said = []
    for name in names[1:]:
        old, new = (
            done[done["series"] == s].set_index("effective_depth") for s in (names[0], name)
        )
        shared = sorted(set(old.index) & set(new.index))
        if not shared or frozenset((names[0], name)) in asked:
            continue
        a, b = old.loc[shared[-1]], new.loc[shared[-1]]
        row = compare(runs, a["cell"], b["cell"], "updates")
        if row["n"]:
            stands = _stands(tree, runs, "updates", row).replace(
                "#", f"{a['series']} ({a['label']})"
            )
            said.append(
                f"Not a planned contrast: at effective depth {shared[-1]:g}, {name} ({b['label']}) "
                f"stands {stands}."
            )
    return said


def _missing(tree: xr.DataTree, cells: pd.DataFrame) -> list[str]:
    """Say which means rest on fewer seeds than planned, and how many runs a sweep left out."""
    count = int(not_in_sweep(tree).sum())
    elsewhere = [f"{count} more runs of the study are not in this sweep."] if count else []
    lacking = [text for _, row in cells.iterrows() if (text := captions.shortfall(row, "updates"))]
    if not lacking:
        return [f"All {int(cells['planned'].sum())} planned runs completed.", *elsewhere]
    means = bool((cells["updates_n"] > 0).any())
    head = "Not every planned run is in these means" if means else "Completed so far"
    return [f"{head}: {'; '.join(lacking)}.", *elsewhere]


def _bounds(tree: xr.DataTree, cells: pd.DataFrame) -> list[str]:
    """Name the cells whose depth is a bound, as their solver may stop before it."""
    runs = planned(tree)["runs"].to_dataset()
    if "model.gradient.kind" not in runs:
        return []
    kinds = dict(zip(runs["cell"].values, runs["model.gradient.kind"].values, strict=True))
    named = [str(row["label"]) for _, row in cells.iterrows() if kinds[row["cell"]] == "implicit"]
    if not named:
        return []
    return [
        "The depth of an implicit gradient is the most that its solver may take; its training "
        f"compute is what it took: {', '.join(named)}."
    ]


def _unconverged(tree: xr.DataTree, cells: pd.DataFrame) -> list[str]:
    """Name the cells whose test accuracies rest on solves that did not converge, and the worst."""
    kept = planned(tree)
    found = kept["eval"].to_dataset()
    if "unconverged" not in found:
        return []
    missed = pd.DataFrame(found["unconverged"].sel(weights="last").transpose("run", "step").values)
    worst = missed.groupby(kept["runs"].to_dataset()["cell"].values).mean().max(axis=1)
    named = [
        f"{row['label']} {100 * worst[row['cell']]:.3g} %"
        for _, row in cells.iterrows() if worst.get(row["cell"], 0) > 0
    ]  # fmt: skip
    if not named:
        return []
    return [
        "Implicit solves of the final test did not converge, and were used as they were; share of "
        f"the puzzles at the worst step: {', '.join(named)}."
    ]


def _few(said: list[str]) -> list[str]:
    """Explain the word descriptive where it was used."""
    if not any("descriptive" in text for text in said):
        return []
    return [f"Descriptive: from fewer than {FEW_SEEDS} seeds, so it speaks of these seeds alone."]


def _opening(runs: pd.DataFrame, at: At) -> str:
    text = captions.held(runs, at)
    return text[0].upper() + text[1:]


def _word(difference: float, more: str, less: str, same: str) -> str:
    if abs(difference) < SMALL:
        return same
    return more if difference > 0 else less


def _value(tree: xr.DataTree, value: float) -> str:
    factor, unit, _ = scale(metric(tree))
    return f"{value * factor:.1f} {unit}".strip()


def _interval(tree: xr.DataTree, row: dict[str, float]) -> str:
    """Give difference, interval, pairs, and what they allow."""
    factor, _, unit = scale(metric(tree))
    count = int(row["n"])
    text = f"{row['difference'] * factor:+.1f} {unit}"
    text = text.replace("+0.0", "0.0").replace("-0.0", "0.0")
    if math.isfinite(row["lower"]):
        text += f" [{row['lower'] * factor:.1f}, {row['upper'] * factor:.1f}]"
    text += f", {count} paired {'seed' if count == 1 else 'seeds'}"
    text = text.replace("-", "\N{MINUS SIGN}")
    if row["lower"] <= 0 <= row["upper"]:
        text += ", the interval includes zero"
    return text + (", descriptive" if count < FEW_SEEDS else "")
