"""Names written at the ends of lines, moved apart where they would overlap."""

from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

from trm_lab.plots import style

LINE = 1.22
"""Height of a line of text over its size."""
_THIN = {
    "arrowstyle": "-",
    "lw": 0.9,
    "shrinkA": 2,
    "shrinkB": 1,
    "relpos": (0, 0.5),
    "patchA": None,  # up to the text itself, not to a box around it
}


def spread(wanted: np.ndarray, sizes: np.ndarray, low: float, high: float) -> np.ndarray:
    """Give the middles nearest to those wanted for boxes of these sizes, `low` to `high`.

    Least squares under the order: an isotonic regression of the middles less the boxes before
    them.  If there is too much to place, it runs past `high`.
    """
    order = np.argsort(wanted, kind="stable")
    half = sizes[order] / 2
    before = np.concatenate([[0.0], np.cumsum(half[:-1] + half[1:])])
    free = isotonic_regression(wanted[order] - before).x
    first, last = low + half[0], high - half[-1] - before[-1]
    placed = np.empty(len(wanted))
    placed[order] = np.clip(free, first, max(first, last)) + before
    return placed


def name_lines(*panels: Axes) -> None:
    """Write the label of each line right of its axes, with a thin stroke to the line's end.

    Lines whose label begins with an underscore have no name.  All axes are of one figure, which is
    laid out first.
    """
    fig = panels[0].figure
    style.lay_out(fig)
    points = 72 / fig.dpi
    for ax in panels:
        lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
        if not lines:
            continue
        ends = [tuple(np.asarray(line.get_xydata(), dtype=float)[-1]) for line in lines]
        at = ax.transData.transform(ends) * points
        right, bottom, top = (edge * points for edge in (ax.bbox.x1, ax.bbox.y0, ax.bbox.y1))
        texts = [fill(str(line.get_label()), style.WRAP) for line in lines]
        sizes = np.array([(1 + text.count("\n")) * style.TEXT * LINE for text in texts])
        places = spread(at[:, 1], sizes, bottom, top)
        for line, text, end, (x, y), place in zip(lines, texts, ends, at, places, strict=True):
            ax.annotate(
                text,
                end,
                xytext=(right - x + 12, place - y),
                textcoords="offset points",
                va="center",
                ha="left",
                linespacing=1.05,
                annotation_clip=False,
                arrowprops=_THIN | {"color": line.get_color()},
            )
