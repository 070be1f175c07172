"""Published numbers, for figures that put ours beside them.

All are single numbers without seeds or error bars (`n_runs` 1), percent as printed.  What was out
of memory, or was not reported, is a row with that status and no number.  `depth` is as printed;
`effective_depth` follows from layers, T and n, and the two differ in one row of Table 3.

TRM is arXiv 2510.04871, HRM is arXiv 2506.21734.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

TRM = "arXiv 2510.04871"
HRM = "arXiv 2506.21734"
Status = Literal["reported", "OOM", "not reported"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One published number."""

    source: str
    """Paper and table."""
    row: str
    """The row as the table names it."""
    series: str
    """TRM, HRM, or another system."""
    task: str
    percent: float | None
    """Puzzles solved, as printed."""
    status: Status = "reported"
    tries: int = 1
    """Answers allowed per puzzle."""
    params: float | None = None
    """As printed, rounded."""
    layers: int | None = None
    T: int | None = None
    n: int | None = None
    depth: int | None = None
    """As printed."""
    forwards: int | None = None
    """Forward passes per optimiser update, as printed."""
    latents: int | None = None
    note: str = ""
    n_runs: int = 1

    @property
    def puzzle_accuracy(self) -> float:
        """The number as a fraction; NaN where there is none."""
        return math.nan if self.percent is None else self.percent / 100

    @property
    def effective_depth(self) -> float:
        """Give layers x T x (n + 1); NaN where the table does not say."""
        if self.layers is None or self.T is None or self.n is None:
            return math.nan
        return self.layers * self.T * (self.n + 1)


def frame(table: Iterable[Record]) -> pd.DataFrame:
    """Give a table with one row per record; numbers that are not there are NaN."""
    rows = [
        {**asdict(r), "puzzle_accuracy": r.puzzle_accuracy, "effective_depth": r.effective_depth}
        for r in table
    ]
    numbers = ["percent", "params", "layers", "T", "n", "depth", "forwards", "latents"]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, "float64"))


_SUDOKU = "Sudoku-Extreme"


def _ablation(
    row: str,
    percent: float,
    depth: int,
    params: float,
    layers: int,
    T: int,
    n: int,
    *,
    series: str = "TRM",
    forwards: int = 1,
    note: str = "",
) -> Record:
    return Record(
        source=f"{TRM}, Table 1",
        row=row,
        series=series,
        task=_SUDOKU,
        percent=percent,
        depth=depth,
        forwards=forwards,
        params=params,
        layers=layers,
        T=T,
        n=n,
        note=note,
    )


TABLE_1 = (
    _ablation("HRM", 55.0, 24, 27e6, 4, 2, 2, series="HRM", forwards=2),
    _ablation("TRM (T=3, n=6)", 87.4, 42, 5e6, 2, 3, 6, note="token MLP; the reference row"),
    _ablation("with ACT continue loss", 86.1, 42, 5e6, 2, 3, 6, forwards=2),
    _ablation("separate networks", 82.4, 42, 10e6, 2, 3, 6),
    _ablation("no EMA", 79.9, 42, 5e6, 2, 3, 6),
    _ablation("4 layers, n=3", 79.5, 48, 10e6, 4, 3, 3, note="halves n as well"),
    _ablation("self-attention", 74.7, 42, 7e6, 2, 3, 6),
    _ablation("T=2, n=2", 73.7, 12, 5e6, 2, 2, 2, note="changes T and n"),
    _ablation("1-step gradient", 56.5, 42, 5e6, 2, 3, 6),
)
"""TRM Table 1, ablations of the reference row; the HRM row is another model altogether."""

TABLE_2 = tuple(
    Record(
        source=f"{TRM}, Table 2",
        row=row,
        series="TRM",
        task=_SUDOKU,
        percent=percent,
        latents=latents,
    )
    for row, latents, percent in (
        ("y and z", 2, 87.4),
        ("multi-scale z, n + 1 features", 7, 77.6),
        ("single z", 1, 71.9),
    )
)
"""TRM Table 2: number of latent features."""

_DEPTHS = (
    (1, 1, 9, 46.4, 7, 63.2),
    (2, 2, 24, 55.0, 20, 81.9),
    (3, 3, 48, 61.6, 42, 87.4),
    (4, 4, 80, 59.5, 72, 84.2),
    (6, 3, 84, 62.3, 78, None),
    (3, 6, 96, 58.8, 84, 85.8),
    (6, 6, 168, 57.5, 156, None),
)
"""k, T, HRM depth and percent, TRM depth and percent; no number is out of memory."""

TABLE_3 = tuple(
    Record(
        source=f"{TRM}, Table 3",
        row=f"{series}, k={k}, T={T}",
        series=series,
        task=_SUDOKU,
        percent=percent,
        status="OOM" if percent is None else "reported",
        layers=layers,
        T=T,
        n=n,
        depth=depth,
        note="printed depth is 1 above the formula" if k == T == 1 else "",
    )
    for k, T, hrm_depth, hrm, trm_depth, trm in _DEPTHS
    for series, layers, n, depth, percent in (
        ("HRM", 4, k, hrm_depth, hrm),
        ("TRM", 2, 2 * k, trm_depth, trm),
    )
)
"""TRM Table 3: depth of recursion; HRM has n = k and 4 layers, TRM n = 2k and 2 layers."""

_TASKS = ((_SUDOKU, 4, 1), ("Maze-Hard", 4, 1), ("ARC-AGI-1", 5, 2), ("ARC-AGI-2", 5, 2))
"""Task, number of TRM's table, tries."""
_COPIED = "copied from the HRM paper, not run again"
_MAIN: tuple[tuple[str, str, float | None, str, tuple[float | None, ...]], ...] = (
    ("Direct prediction", "direct", 27e6, "", (0.0, 0.0, 21.0, 0.0)),
    ("HRM", "HRM", 27e6, "", (55.0, 74.5, 40.3, 5.0)),
    ("TRM-Att", "TRM", 7e6, "", (74.7, 85.3, 44.6, 7.8)),
    ("TRM-MLP", "TRM", 19e6, "", (87.4, 0.0, 29.6, 2.4)),
    ("DeepSeek R1", "LLM", 671e9, "", (0.0, 0.0, 15.8, 1.3)),
    ("Claude 3.7", "LLM", None, "8K on puzzles, 16K on ARC", (0.0, 0.0, 28.6, 0.7)),
    ("o3-mini-high", "LLM", None, "", (0.0, 0.0, 34.5, 3.0)),
    ("Gemini 2.5 Pro 32K", "LLM", None, "", (None, None, 37.0, 4.9)),
    ("Grok-4-thinking", "LLM", 1.7e12, "", (None, None, 66.7, 16.0)),
    ("Bespoke (Grok-4)", "LLM", 1.7e12, "", (None, None, 79.6, 29.4)),
)
"""Row, series, parameters, note, percent on each task."""


def _origin(series: str, table: int, percent: float | None) -> str:
    """Say which numbers TRM took over: HRM's and direct prediction's, and LLMs' on puzzles."""
    taken = series in ("direct", "HRM") or (series == "LLM" and table == 4)
    return _COPIED if taken and percent is not None else ""


MAIN_RESULTS = tuple(
    Record(
        source=f"{TRM}, Table {table}",
        row=row,
        series=series,
        task=task,
        percent=percent,
        status="not reported" if percent is None else "reported",
        tries=tries,
        params=5e6 if (row, task) == ("TRM-MLP", _SUDOKU) else params,
        note="; ".join(filter(None, [note, _origin(series, table, percent)])),
    )
    for row, series, params, note, percents in _MAIN
    for (task, table, tries), percent in zip(_TASKS, percents, strict=True)
)
"""TRM Tables 4 (puzzles) and 5 (ARC-AGI, two tries)."""

HRM_RESULTS = tuple(
    Record(
        source=HRM,
        row=row,
        series=series,
        task=task,
        percent=percent,
        tries=2 if task.startswith("ARC") else 1,
        params=27e6,
        note=note,
    )
    for row, series, task, percent, note in (
        ("HRM", "HRM", _SUDOKU, 55.0, "as copied by TRM, Table 4"),
        ("HRM", "HRM", "Maze-Hard", 74.5, "as copied by TRM, Table 4"),
        ("HRM", "HRM", "ARC-AGI-1", 40.3, ""),
        ("HRM", "HRM", "ARC-AGI-2", 5.0, "as copied by TRM, Table 5"),
        ("Direct prediction", "direct", _SUDOKU, 0.0, "8 layers, same size"),
        ("Direct prediction", "direct", "Maze-Hard", 0.0, "8 layers, same size"),
        ("Direct prediction", "direct", "Sudoku-Extreme-Full", 16.9, "8 layers, same size"),
    )
)
"""HRM's own numbers on the same tasks; its depth, width and halting studies are figures only."""

TABLES = {
    "TRM Table 1": TABLE_1,
    "TRM Table 2": TABLE_2,
    "TRM Table 3": TABLE_3,
    "TRM Tables 4 and 5": MAIN_RESULTS,
    "HRM": HRM_RESULTS,
}
"""Everything above by its name."""
