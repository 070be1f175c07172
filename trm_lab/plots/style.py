"""One look for every figure: widths in inches, text in points, a colour and a marker per series.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers; yellow is
left out, as it is too pale on white.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from trm_lab.atomic import replacing

NARROW, WIDE = 3.3, 6.8
"""Widths of one and of two text columns, in inches."""
TEXT = 7.5
"""Smallest text, in points."""
WRAP = 18
"""Letters in a line of a name beside an axis."""
GREY = "#555555"


@dataclass(frozen=True)
class Look:
    """How one series is drawn, everywhere."""

    color: str
    marker: str


FIXED = {
    "TRM": Look("#0072B2", "o"),
    "HRM": Look("#D55E00", "s"),
    "TRM one-step gradient": Look("#009E73", "^"),
}
SPARE = (
    Look("#CC79A7", "D"),
    Look("#E69F00", "v"),
    Look("#56B4E9", "P"),
    Look("#000000", "X"),
)

RC = {
    "font.size": TEXT,
    "axes.labelsize": TEXT + 0.5,
    "axes.titlesize": TEXT + 0.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.0,
    "figure.dpi": 200,
    "text.hinting": "none",
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
SAVE = {"svg.hashsalt": "trm_lab", "svg.fonttype": "path", "pdf.fonttype": 42}
FORMATS: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
"""What is written, and the metadata that would differ from day to day left out."""

styled = mpl.rc_context(RC)  # type: ignore[arg-type]  # the stub wants literal key names
"""Decorator: draw in this look, and leave the caller's settings as they were."""


def looks(series: Iterable[str]) -> dict[str, Look]:
    """Give each series its look: the known ones by name, the rest in the order given."""
    names = list(dict.fromkeys(series))
    others = [name for name in names if name not in FIXED]
    markers = [look.marker for look in SPARE]
    found = dict(FIXED)
    for i, name in enumerate(others):
        lap, place = divmod(i, len(SPARE))
        found[name] = Look(SPARE[place].color, markers[(place + lap) % len(markers)])
    return {name: found[name] for name in names}


def shade(color: str, place: int, count: int) -> str:
    """Give one of `count` shades of a colour: the first the palest, the last the colour itself."""
    white = 0.0 if count < 2 else 0.6 * (1 - place / (count - 1))
    red, green, blue = (c + (1 - c) * white for c in to_rgb(color))
    return to_hex((red, green, blue))


@styled
def figure(width: float = NARROW, height: float = 2.5) -> Figure:
    """Make an empty figure that needs no window and belongs to no pyplot state."""
    fig = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04))
    FigureCanvasAgg(fig)
    return fig


def lay_out(fig: Figure | SubFigure) -> None:
    """Give all axes of a figure their places."""
    engine = fig.get_layout_engine()
    if engine is not None and isinstance(fig, Figure):
        engine.execute(fig)


def axes(ax: Axes | None, width: float = NARROW, height: float = 2.5) -> Axes:
    """Give the axes handed in, or those of a new figure."""
    return ax if ax is not None else figure(width, height).add_subplot()


def note(ax: Axes, text: str) -> Axes:
    """Write why there is nothing to draw in the middle of empty axes."""
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY, wrap=True)
    return ax


def save(fig: Figure, stem: Path, kinds: Iterable[str] | None = None) -> list[Path]:
    """Write PDF, SVG and PNG (or `kinds`) without dates: the same figure gives the same bytes."""
    paths = []
    with mpl.rc_context(RC | SAVE):  # type: ignore[arg-type]  # as above
        lay_out(fig)
        fig.set_layout_engine("none")  # one layout for all formats
        for kind in FORMATS if kinds is None else kinds:
            metadata = FORMATS[kind]
            path = stem.with_name(f"{stem.name}.{kind}")
            with replacing(path) as part:
                fig.savefig(part, format=kind, metadata=metadata)
            paths.append(path)
    return paths
