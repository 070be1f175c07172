"""Which figures a report has, each with its caption and the table behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from trm_lab.plots import accuracy, curves, forest, steps, style
from trm_lab.plots.abscissa import abscissas


@dataclass(frozen=True)
class Picture:
    """One figure of the report."""

    stem: str
    """Name of its files, without the ending."""
    title: str
    caption: str
    figure: Figure
    table: pd.DataFrame
    """The numbers that are drawn."""


def pictures(tree: xr.DataTree, fits: Sequence[xr.Dataset]) -> list[Picture]:
    """Draw every figure that the study has data for."""
    drawn = [
        Picture(
            f"accuracy_by_{x.stem}",
            f"Accuracy by {x.title}",
            accuracy.caption(tree, fits, x),
            accuracy.panels(tree, fits, x),
            accuracy.table(tree, x),
        )
        for x in abscissas(tree)
    ]
    contrasts = forest.table(tree)
    if len(contrasts):
        drawn.append(
            Picture(
                "contrasts",
                "Contrasts with the baseline",
                forest.caption(tree),
                forest.panels(tree),
                contrasts,
            )
        )
    return [
        *drawn,
        Picture(
            "accuracy_by_steps",
            "Accuracy by evaluation steps",
            steps.caption(tree),
            steps.panels(tree),
            steps.table(tree),
        ),
        Picture(
            "training_curves",
            "Validation accuracy while training",
            curves.caption(tree),
            curves.panels(tree),
            curves.table(tree),
        ),
        Picture(
            "training_loss",
            "Training loss",
            curves.caption(tree, "loss"),
            curves.panels(tree, "loss"),
            curves.table(tree, "loss"),
        ),
    ]


def save(picture: Picture, folder: Path) -> str:
    """Write a figure in all formats and give its SVG for the inside of an HTML page."""
    files = style.save(picture.figure, folder / picture.stem)
    return inline((folder / f"{picture.stem}.svg").read_text("utf-8"), picture) if files else ""


def inline(svg: str, picture: Picture) -> str:
    """Cut an SVG file down to what a page needs: no prolog, no metadata, identifiers of its own.

    Identifiers are unique in a page, and matplotlib's repeat from figure to figure.
    """
    body = svg[svg.index("<svg") :]
    start, _, rest = body.partition("<metadata>")
    body = start + rest.partition("</metadata>")[2] if rest else body
    head, _, inside = body.partition(">")
    box = head.partition('viewBox="')[2].partition('"')[0]
    width = box.split()[2]
    for mark in ('id="', 'href="#', "url(#"):
        inside = inside.replace(mark, f"{mark}{picture.stem}-")
    inside = inside.replace("xlink:href", "href")
    return (
        f'<svg viewBox="{box}" style="max-width: {width}pt" role="img" '
        f'aria-label="{picture.title}">{inside}'
    )
