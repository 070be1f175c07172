"""Synthetic studies that the figures are drawn from."""

from dataclasses import replace
from itertools import combinations

import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic import DEMO, Arm, study_tree


@pytest.fixture(scope="session")
def tree() -> xr.DataTree:
    """Every run completed."""
    return study_tree()


@pytest.fixture(scope="session")
def patchy_arms() -> list[Arm]:
    """TRM (3,2) lost a seed, HRM (1,1) all of them, HRM (2,2) still runs one."""
    arms = {arm.variant: arm for arm in DEMO}
    lost = {
        "TRM (3,2)": {1: "diverged"},
        "HRM (1,1)": {0: "diverged", 1: "diverged", 2: "failed"},
        "HRM (2,2)": {2: "running"},
    }
    return [replace(arms[name], states=lost.get(name, {})) for name in arms]


@pytest.fixture(scope="session")
def patchy(patchy_arms: list[Arm]) -> xr.DataTree:
    """A study with diverged, failed and unfinished runs."""
    return study_tree(patchy_arms)


@pytest.fixture(scope="session")
def empty() -> xr.DataTree:
    """A study of which nothing has run."""
    return study_tree([replace(arm, states=dict.fromkeys(range(3), "waiting")) for arm in DEMO])


def visible_texts(figure: Figure) -> list[Text]:
    """Give every text that a reader sees."""
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text.get_alpha() != 0
    ]


@pytest.fixture(scope="session")
def legible():
    """Check that texts are large enough, inside the figure and clear of each other."""

    def check(figure: Figure) -> None:
        for _ in range(2):
            figure.draw_without_rendering()
        boxes, undrawn = [], undrawn_labels(figure)
        for text in visible_texts(figure):
            box = Text.get_window_extent(text)  # of the words, without an annotation's line
            if box.width and text not in undrawn:
                boxes.append((text.get_text(), box))
                assert text.get_fontsize() >= 7, text
        for name, box in boxes:
            assert box.x0 >= -0.5, name
            assert box.y0 >= -0.5, name
            assert box.x1 <= figure.bbox.width + 0.5, name
            assert box.y1 <= figure.bbox.height + 0.5, name
        for (one, a), (other, b) in combinations(boxes, 2):
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide < 1 or high < 0.25 * min(a.height, b.height), (one, other)

    return check


def undrawn_labels(figure: Figure) -> set[Text]:
    """Give the tick labels that matplotlib keeps and does not draw: beyond the limits, or spare."""
    undrawn = set()
    for ax in figure.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            low, high = min(limits) - 1e-9, max(limits) + 1e-9
            shown = axis.get_major_ticks()
            for tick in (*axis.majorTicks, *axis.minorTicks):
                if tick not in shown or not low <= tick.get_loc() <= high:
                    undrawn |= {tick.label1, tick.label2}
    return undrawn
