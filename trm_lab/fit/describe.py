"""The methods paragraph and the reporting checklist of a fit, written from what was done.

Of 51 papers surveyed 23 do not say how they fitted (arXiv 2502.18969).
"""

import numpy as np
import xarray as xr

from trm_lab.fit.objectives import NAMES
from trm_lab.fit.saved import fewest_clusters, law_of
from trm_lab.fit.verdicts import STATUS
from trm_lab.laws import GROUP


def describe(made: xr.Dataset) -> str:
    """Give a paragraph for a methods section, the estimates, and a filled-in checklist.

    The checklist is that of arXiv 2502.18969: what was fitted, to what, chosen how, and how.  What
    a fit cannot know (training set-up, how checkpoints were chosen) is left to be filled in.
    """
    return "\n\n".join([methods(made), estimates(made), checklist(made)])


def methods(made: xr.Dataset) -> str:
    """Give the paragraph."""
    a = made.attrs
    share = f", with {a['share']} in common" if a["share"] else ""
    groups = f" separately by {a['by']}{share}" if a["by"] else ""
    text = (
        f"We fitted {a['law']}, {a['formula']} ({a['source']}), to {a['y_name']} of "
        f"{a['n_points']} runs{groups}, minimising the {NAMES[a['objective']]}"
    )
    if np.isfinite(a["delta"]):
        text += f" with delta = {a['delta']:g}"
    text += f"; residuals are {_residuals(a['residuals'])}."
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
    lines = []
    for name in made["param"].values:
        one = made.sel(param=name)
        lower, upper = one["ci"].values
        text = f"{name} = {float(one['coefficients']):.6g}"
        if np.isfinite(lower):
            text += f" [{lower:.4g}, {upper:.4g}]"
        if name in str(made.attrs["floor_not_identified"]).split(", "):
            text += " (not identified)"
        lines.append(f"- {text}: {one['meaning'].item()}")
    return "\n".join(lines)


def checklist(made: xr.Dataset) -> str:
    """Give the checklist, filled in as far as the fit knows."""
    a = made.attrs
    law = law_of(made)
    ranges = [
        f"{n} {made[n].values.min():.3g} to {made[n].values.max():.3g}"
        for n in law.columns_read
        if n != GROUP
    ]
    items = {
        "Form": f"{a['formula']} ({a['law']})",
        "Parameters held": a["held"] or "none",
        "Variables and their range": "; ".join(ranges),
        "How N, D and FLOPs are counted": "to be filled in, unless the columns come from a study",
        "Training set-up (sizes, learning rate, schedule)": "to be filled in",
        "Points": f"{a['n_points']} runs, {a['n_distinct_x']} distinct x",
        "Checkpoints or final values": "to be filled in",
        "Rows left out, and why": _left_out(str(a["note"])),
        "Seeds or clusters": f"{a['n_clusters']} of {a['cluster']}",
        "Objective": f"{a['objective']}, residuals {_residuals(a['residuals'])}"
        + (f", delta {a['delta']:g}" if np.isfinite(a["delta"]) else ""),
        "Optimiser and starts": f"variable projection scan, trust-region descent, {a['starts']} "
        f"starts, agreement {a['agreement']:.2f}, optima seen {a['n_basins']}",
        "Value at the optimum": f"{a['objective_value']:.10g}",
        "Validation": "see the back-test, if one was made",
        "Uncertainty": f"{a['interval']}, level {a['level']:g}, {_over(made)}"
        if a["interval"] != "none"
        else "none",
        "Identifiability": f"condition number {a['condition_number']:.3g}; {a['status']}",
        "Software": f"trm_lab {a['trm_lab_version']}, scipy {a['scipy_version']}, "
        f"numpy {a['numpy_version']}",
        "Data": f"sha256 {a['data_hash']}" if a["data_hash"] else "to be filled in",
    }
    return "\n".join(
        f"- [{'x' if 'to be filled' not in v else ' '}] {k}: {v}" for k, v in items.items()
    )


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
    parts = [part for part in note.split("; ") if "left out" in part]
    return "; ".join(parts) or "none by the fit"
