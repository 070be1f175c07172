"""A table of how hard a set of puzzles is."""

import numpy as np
import numpy.typing as npt

from trm_lab.tasks.dataset import Puzzles

HEADER = "| source | puzzles | measure | mean | min | 25 % | median | 75 % | max |"
MEASURES = ("clues", "guesses", "rating")


def describe(puzzles: Puzzles) -> str:
    """Return a Markdown table of clues, guesses and rating, in total and by source.

    A measure that is unknown for all puzzles of a source has no line; where it is known for some,
    the line is about those, and its count says how many they are.
    """
    lines = [HEADER, "| --- |" + " --- |" * (HEADER.count("|") - 2)]
    sources = sorted(set(puzzles.source.tolist()))
    groups = {"all": np.ones(len(puzzles), dtype=bool)} if len(sources) != 1 else {}
    groups |= {source: puzzles.source == source for source in sources}
    columns = puzzles.arrays()
    for name, members in groups.items():
        for measure in MEASURES:
            values = columns[measure][members].astype(np.float64)
            known = values[~np.isnan(values)]
            if len(known):
                lines.append(f"| {name} | {len(known):,} | {measure} | {_spread(known)} |")
    return "\n".join(lines) + "\n"


def _spread(values: npt.NDArray[np.float64]) -> str:
    quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return f"{values.mean():.1f} | " + " | ".join(f"{value:g}" for value in quantiles)
