"""Training curves: validation accuracy and loss against updates and against FLOPs."""

from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trm_lab.plots import captions, style
from trm_lab.plots.ends import name_lines
from trm_lab.plots.tables import labels, metric, planned, run_table, scale, title

X = Literal["updates", "flops"]
Y = Literal["validation", "loss"]


COLUMNS = ("run", "cell", "label", "series", "seed", "state", "update", "flops", "value")


def table(tree: xr.DataTree, y: Y = "validation") -> pd.DataFrame:
    """Give one row per run and recorded update: update, FLOPs so far, value."""
    curves = planned(tree)["curves"].to_dataset()
    runs = run_table(tree).set_index("run")
    named = labels(tree)
    stem = "" if y == "loss" else "validation_"
    frames = []
    for place, run in enumerate(curves["run"].values.astype(str)):
        row = runs.loc[run]
        values = curves["loss"][place] if y == "loss" else _validation(tree, curves, place, row)
        frame = pd.DataFrame(
            {
                "run": run,
                "cell": row["cell"],
                "label": named[row["cell"]],
                "series": row["series"],
                "seed": row["seed"],
                "state": row["state"],
                "update": curves[f"{stem}update"].values,
                "flops": curves[f"{stem}flops"][place].values,
                "value": values.values,
            }
        )
        frames.append(frame[np.isfinite(frame["value"])])
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    rows: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return rows


def _validation(tree: xr.DataTree, curves: xr.Dataset, place: int, row: pd.Series) -> xr.DataArray:
    """Give one run's validation curve at the metric's step; NaN where that was not recorded."""
    wanted = int(tree.attrs.get("metric_steps") or 0) or row["N_sup"]
    values = curves[f"validation_{metric(tree)}"][place]
    if wanted not in values["validation_step"].values:
        return xr.full_like(curves["validation_flops"][place], np.nan)
    return values.sel(validation_step=wanted)


def mean_curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Average one cell's completed runs wherever all of them were recorded."""
    done = rows[rows["state"] == "completed"]
    grouped = done.groupby("update")[["flops", "value"]]
    mean: pd.DataFrame = grouped.mean()[grouped.size() == done["run"].nunique()]
    return mean.reset_index()


@style.styled
def draw(
    tree: xr.DataTree,
    ax: Axes | None = None,
    *,
    x: X = "updates",
    y: Y = "validation",
    names: bool = True,
) -> Axes:
    """Draw a thin line per seed and a thick mean per cell; a run that did not end has a cross."""
    ax = style.axes(ax)
    rows = table(tree, y)
    if rows.empty:
        return style.note(ax, "nothing was recorded while training")
    factor, unit, _ = scale(metric(tree)) if y == "validation" else (1.0, "", "")
    column = "update" if x == "updates" else "flops"
    looks = style.looks(run_table(tree)["series"])
    for series, family in rows.groupby("series", sort=False):
        cells = list(family.groupby("cell", sort=False))
        for place, (_, mine) in enumerate(cells):
            color = style.shade(looks[str(series)].color, place, len(cells))
            label = str(mine["label"].iloc[0])
            for _, line in mine.groupby("run", sort=False):
                ax.plot(line[column], line["value"] * factor, color=color, lw=0.5, alpha=0.7,
                        label="_seed")  # fmt: skip
                if line["state"].iloc[0] in ("diverged", "failed", "lost", "cancelled"):
                    last = line.iloc[-1]
                    ax.plot(last[column], last["value"] * factor, "x", color=color, ms=5, mew=1.2,
                            label="_ended early", clip_on=False)  # fmt: skip
            mean = mean_curve(mine)
            if len(mean):
                ax.plot(mean[column], mean["value"] * factor, color=color, lw=1.6, label=label,
                        clip_on=False, zorder=3)  # fmt: skip
    most = float(rows[column].max())
    if x == "updates":
        ax.set(xlabel="Updates", xlim=(0, most))
    else:
        size, unit_x = captions.prefixed(most, "FLOP")
        ax.set(xlabel=f"Training compute ({unit_x})", xlim=(0, 1.02 * most))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value / size:g}")
    if y == "loss":
        ax.set_ylabel("Training loss")
        ax.set_ylim(bottom=0)
    else:
        ax.set_ylabel(f"Validation {title(metric(tree)).lower()} ({unit})")
        if unit == "%":
            ax.set_ylim(0, 100)
    if names:
        name_lines(ax)
    return ax


@style.styled
def panels(tree: xr.DataTree, y: Y = "validation") -> Figure:
    """Draw the same curves against updates and against FLOPs."""
    fig = style.figure(style.WIDE, 2.7)
    left, right = fig.subplots(1, 2, sharey=True)
    draw(tree, left, x="updates", y=y, names=False)
    draw(tree, right, x="flops", y=y, names=False)
    left.set_title("a   against updates")
    right.set_title("b   against training compute")
    right.set_ylabel("")
    name_lines(left)
    return fig


def caption(tree: xr.DataTree, y: Y = "validation") -> str:
    """Describe both panels in words."""
    runs = run_table(tree)
    what = "Training loss" if y == "loss" else f"Validation {title(metric(tree)).lower()}"
    early = runs[runs["state"].isin(["diverged", "failed", "lost", "cancelled"])]
    text = f"{what} while training, (a) against updates and (b) against training compute. "
    text += "Thin lines: one run per seed. Thick lines: mean of the completed seeds. "
    text += f"{(runs['state'] == 'completed').sum()} of {len(runs)} planned runs completed"
    if len(early):
        count = early.groupby("state", sort=False).size()
        named = ", ".join(f"{runs_} {state}" for state, runs_ in count.items())
        text += f"; a cross ends a run that stopped early ({named})"
    return text + "."
