"""The methods paragraph and the reporting checklist of a fit, written from what was done.

Of 51 papers surveyed 23 do not say how they fitted (arXiv 2502.18969).
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from trm_lab.fit.objectives import NAMES
from trm_lab.fit.saved import estimated, fewest_clusters, law_of
from trm_lab.fit.verdicts import STATUS, ZERO


def describe(made: xr.Dataset) -> str:
    """Give a paragraph for a methods section, the estimates, and a filled-in checklist.

    The checklist is that of arXiv 2502.18969: what was fitted, to what, chosen how, and how.  What
    a fit cannot know (training set-up, how checkpoints were chosen) is left to be filled in.
    """
    return "\n\n".join([methods(made), estimates(made), checklist(made)])


def methods(made: xr.Dataset) -> str:
    """Give the paragraph."""
    a = made.attrs
    verb = "fitted" if estimated(made) else "could not fit"
    text = (
        f"We {verb} {a['law']}, {a['formula']} ({a['source']}), to {a['y_name']} of "
        f"{a['n_points']} {_points(made)}{_groups(made)}, minimising {NAMES[a['objective']]}"
    )
    if np.isfinite(a["delta"]):
        text += f" with delta = {a['delta']:g}"
    if a.get("weights_name"):
        text += f", rows weighted by {a['weights_name']}"
    text += f"; residuals are {_residuals(a['residuals'])}."
    if not estimated(made):
        text += f" There are no estimates. Status: {a['status']} ({STATUS.get(a['status'], '')})."
        return text + (f" Note: {a['note']}." if a["note"] else "")
    text += (
        " The nonlinear parameters were scanned with the linear ones solved for (variable "
        f"projection), and {a['starts']} starts from the scan and from resampled data were "
        f"descended with analytic slopes; {a['agreement']:.0%} of them reached the best optimum "
        f"({a['n_basins']} seen). Status: {a['status']} ({STATUS.get(a['status'], '')})."
    )
    if a["interval"] != "none":
        text += f" Intervals are {a['level']:.0%}, {a['interval']}, {_over(made)}"
        text += f", {made.sizes['draw']} draws, seed {a['seed']}." if made.sizes["draw"] else "."
    else:
        text += " No interval is given."
    if a["descriptive"]:
        text += " The result is descriptive."
    if a["note"]:
        text += f" Note: {a['note']}."
    return text


def estimates(made: xr.Dataset) -> str:
    """Give one line per parameter; amplitudes come with their exponents or not at all."""
    if not estimated(made):
        return "- no estimates"
    lines = []
    for one in rounded(made):
        text = f"{one.name} = {one.value:.6g}"
        if one.held:
            text += " (held)"
        elif np.isfinite(one.lower):
            text += f" [{one.lower:.4g}, {one.upper:.4g}]"
        if one.name in str(made.attrs["floor_not_identified"]).split(", "):
            text += " (not identified)"
        lines.append(f"- {text}: {made['meaning'].sel(param=one.name).item()}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Rounded:
    """A parameter as it is printed."""

    name: str
    value: float
    lower: float
    upper: float
    held: bool


def rounded(made: xr.Dataset) -> list[Rounded]:
    """Give estimates and intervals to print: what a descent left beside a bound of 0 is 0.

    Amplitudes are read where their column is 1, far from the data, and may be of any size: they
    stay as they are.
    """
    law = law_of(made)
    X = {name: made[name].values.astype(float) for name in law.columns_read}
    size = float(np.abs(made["y"].values).max(initial=0.0))
    moved = law.moved_by(X, law.centre(X)) if made.sizes["row"] else set()
    known = {p.name: p for p in law.parameters}
    result = []
    for name, value, ci in zip(
        made["param"].values.tolist(), made["coefficients"].values, made["ci"].values, strict=True
    ):
        one = known[name.partition("[")[0]]
        own = next(p for p in law.own_parameters if p.name == one.name)
        at, low, high = float(value), float(ci[0]), float(ci[1])
        if own.lower == 0 and not own.log and own.name not in moved:
            least = ZERO * (size if own.linear else min(size, 1.0))
            at, low, high = (0.0 if abs(end) < least else end for end in (at, low, high))
        result.append(Rounded(name, at, low, high, one.fixed))
    return result


def unit(made: xr.Dataset) -> str:
    """Name what was fitted: the runs of a study, or the rows of a table."""
    return "runs" if made.attrs.get("study") else "rows"


def fit_error(made: xr.Dataset) -> str:
    """Give the root mean square error where the fit took its residuals, and of what it is."""
    a = made.attrs
    if a["residuals"] == "log":
        r = made["residuals"].values
        return f"rmse {np.sqrt(np.mean(r**2)) if len(r) else np.nan:.3g} of ln {a['y_name']}"
    return f"rmse {a['rmse']:.3g} of {a['y_name']}"


def checklist(made: xr.Dataset) -> str:
    """Give the checklist, filled in as far as the fit knows."""
    a = made.attrs
    law = law_of(made)
    ranges = [
        f"{n} {made[n].values.min():.3g} to {made[n].values.max():.3g}"
        for n in law.columns_read
        if made.sizes["row"]
    ]
    counted = "as in the study's results (docs/results.md)" if a.get("study") else "to be filled in"
    items = {
        "Form": f"{a['formula']} ({a['law']})",
        "Parameters held": a["held"] or "none",
        "Variables and their range": "; ".join(ranges),
        "How N, D and FLOPs are counted": counted,
        "Training set-up (sizes, learning rate, schedule)": "to be filled in",
        "Points": f"{a['n_points']} {_points(made)}, {a['n_distinct_x']} distinct x",
        "Checkpoints or final values": "to be filled in",
        "Rows left out, and why": _left_out(str(a["note"])),
        "Seeds or clusters": f"{a['n_clusters']} of {a['cluster']}",
        "Objective": f"{a['objective']}, residuals {_residuals(a['residuals'])}"
        + (f", delta {a['delta']:g}" if np.isfinite(a["delta"]) else "")
        + (f", weights {a['weights_name']}" if a.get("weights_name") else ""),
        "Optimiser and starts": f"variable projection scan, trust-region descent, {a['starts']} "
        f"starts, agreement {a['agreement']:.2f}, optima seen {a['n_basins']}",
        "Value at the optimum": f"{a['objective_value']:.10g}",
        "Validation": "to be filled in from `backtest`; a fit holds none",
        "Uncertainty": f"{a['interval']}, level {a['level']:g}, {_over(made)}"
        if a["interval"] != "none"
        else "none",
        "Identifiability": f"condition number {a['condition_number']:.3g}; {a['status']}",
        "Software": f"trm_lab {a['trm_lab_version']}, scipy {a['scipy_version']}, "
        f"numpy {a['numpy_version']}",
        "Data": f"sha256 {a['data_hash']}" if a["data_hash"] else "to be filled in",
    }
    if not estimated(made):
        for one in ("Optimiser and starts", "Value at the optimum", "Identifiability"):
            items[one] = f"to be filled in: no estimates ({a['status']})"
    return "\n".join(
        f"- [{'x' if 'to be filled' not in v else ' '}] {k}: {v}" for k, v in items.items()
    )


def _points(made: xr.Dataset) -> str:
    """Name the runs or rows that were fitted, and which of a study's they are."""
    chosen = [f"{key} {made.attrs[key]}" for key in ("series", "variants") if made.attrs.get(key)]
    return f"{unit(made)} ({'; '.join(chosen)})" if chosen else unit(made)


def _groups(made: xr.Dataset) -> str:
    """Say which parameters groups have in common; all groups are fitted together."""
    by, share = made.attrs["by"], made.attrs["share"]
    if not by:
        return ""
    own = f"{share} in common, all others once per {by}" if share else f"all once per {by}"
    return f" by {by} (parameters: {own})"


def _over(made: xr.Dataset) -> str:
    """Say what an interval takes as independent."""
    a = made.attrs
    if a.get("independent", a["cluster"]) == a["cluster"]:
        text = f"over {a['n_clusters']} clusters ({a['cluster']})"
        least = fewest_clusters(made)
        return text + (f", {least} in the smallest group" if least < a["n_clusters"] else "")
    text = f"over {a['n_points']} rows taken as independent"
    if a["n_clusters"] < a["n_points"]:
        text += f", though {a['n_clusters']} clusters ({a['cluster']}) hold several"
    return text


def _residuals(space: str) -> str:
    return {"log": "of the logarithm", "raw": "of the value", "count": "of counts"}[space]


def _left_out(note: str) -> str:
    parts = [p for p in note.split("; ") if "left out" in p and "resamples" not in p]
    return "; ".join(parts) or "none by the fit"
