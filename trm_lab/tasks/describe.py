"""A table of how hard a set of puzzles is."""

from typing import Any

import numpy as np

from trm_lab.tasks.dataset import Puzzles

QUANTILES = {"min": 0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "max": 1}
HEADER = f"| source | puzzles | measure | mean | {' | '.join(QUANTILES)} |"
MEASURES = ("clues", "guesses", "rating")


def describe(puzzles: Puzzles) -> str:
    """Return a Markdown table of clues, guesses and rating, in total and by source."""
    lines = [HEADER, "| --- |" + " --- |" * (HEADER.count("|") - 2)]
    for row in spread(puzzles):
        quantiles = " | ".join(f"{row[name]:g}" for name in QUANTILES)
        lines.append(f"| {row['source']} | {row['puzzles']:,} | {row['measure']} | "
                     f"{row['mean']:.1f} | {quantiles} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def spread(puzzles: Puzzles) -> list[dict[str, Any]]:
    """Give mean and quantiles of clues, guesses and rating, in total and by source.

    A measure that is unknown for all puzzles of a source has no line; where it is known for some,
    the line is about those, and its count says how many they are.
    """
    rows = []
    sources = sorted(set(puzzles.source.tolist()))
    groups = {"all": np.ones(len(puzzles), dtype=bool)} if len(sources) != 1 else {}
    groups |= {source: puzzles.source == source for source in sources}
    columns = puzzles.arrays()
    for name, members in groups.items():
        for measure in MEASURES:
            values = columns[measure][members].astype(np.float64)
            known = values[~np.isnan(values)]
            if len(known):
                quantiles = np.quantile(known, list(QUANTILES.values())).tolist()
                rows.append(
                    {"source": name, "puzzles": len(known), "measure": measure,
                     "mean": float(known.mean()), **dict(zip(QUANTILES, quantiles, strict=True))}
                )  # fmt: skip
    return rows
