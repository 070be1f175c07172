"""What the figure scripts share: their arguments, and the files that they write."""

import argparse
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from trm_lab.errors import ConfigError
from trm_lab.plots import style
from trm_lab.results import open_results


def study(description: str | None) -> tuple[xr.DataTree, Path]:
    """Read the command line: the results of a study, and the folder for the figure."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("study", type=Path, help="folder of the study, runs/<study>")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the files")
    given = parser.parse_args()
    try:
        return open_results(given.study), given.out
    except ConfigError as error:
        parser.error(str(error))


def write(figure: Figure, caption: str, table: pd.DataFrame, stem: Path) -> None:
    """Write the figure as PDF, SVG and PNG, its caption as text and its numbers as CSV."""
    for path in style.save(figure, stem):
        print(path)
    stem.with_suffix(".txt").write_text(f"{caption}\n", encoding="utf-8")
    table.to_csv(stem.with_suffix(".csv"), index=False)
