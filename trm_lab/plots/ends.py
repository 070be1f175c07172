"""Names written at the ends of lines, moved apart where they would overlap."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from scipy.optimize import isotonic_regression

from trm_lab.plots import style
from trm_lab.plots.names import brief, distinct, wrapped

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


def name_lines(*panels: Axes, prefix: str = "") -> None:
    """Write the label of each line right of its axes, with a thin stroke to the line's end.

    What all labels of a panel share is left out.  Lines whose label begins with an underscore have
    no name; given a prefix, those have one whose label begins with it: the rest of that label.  All
    axes are of one figure, which is laid out first, and grows where names need it.
    """
    named = [(ax, lines) for ax in panels if (lines := _named(ax, prefix))]
    texts = [
        [wrapped(name) for name in distinct(brief(list(lines.values())))] for _, lines in named
    ]
    sizes = [
        np.array([(1 + text.count("\n")) * style.TEXT * LINE for text in own]) for own in texts
    ]
    _make_room([ax for ax, _ in named], [float(own.sum()) for own in sizes])
    for (ax, lines), own, heights in zip(named, texts, sizes, strict=True):
        ends = [tuple(np.asarray(line.get_xydata(), dtype=float)[-1]) for line in lines]
        whole = ax.bbox.height * _points(ax)
        at = ax.transAxes.inverted().transform(ax.transData.transform(ends))[:, 1]
        places = spread(at * whole, heights, 0, whole) / whole
        beside = ax.transAxes + ScaledTranslation(12 / 72, 0, ax.figure.dpi_scale_trans)
        for line, text, end, place in zip(lines, own, ends, places, strict=True):
            ax.annotate(
                text,
                end,
                xytext=(1, place),
                textcoords=beside,
                va="center",
                ha="left",
                linespacing=1.05,
                annotation_clip=False,
                arrowprops=_THIN | {"color": line.get_color()},
            )


def _named(ax: Axes, prefix: str) -> dict[Line2D, str]:
    labels = {line: str(line.get_label()) for line in ax.get_lines()}
    return {
        line: label.removeprefix(prefix)
        for line, label in labels.items()
        if (label.startswith(prefix) if prefix else not label.startswith("_"))
    }


def _points(ax: Axes) -> float:
    """Give the points of a pixel."""
    return 72 / ax.figure.dpi


def _make_room(panels: Sequence[Axes], needed: Sequence[float]) -> None:
    """Lay out the figure, as tall as it must be for axes of the heights needed, in points."""
    for fig in {ax.figure for ax in panels}:
        style.lay_out(fig)
    lacks = [most - ax.bbox.height * _points(ax) for ax, most in zip(panels, needed, strict=True)]
    if max(lacks, default=0) > 0 and isinstance(fig := panels[0].figure, Figure):
        spec = panels[0].get_subplotspec()
        rows = spec.get_gridspec().nrows if spec else 1
        fig.set_figheight(fig.get_figheight() + rows * max(lacks) / 72)
        style.lay_out(fig)
