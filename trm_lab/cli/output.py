"""What is printed: tables on a terminal, plain lines without control characters elsewhere."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from trm_lab.formatting import short
from trm_lab.runs import State, finite

console = Console(highlight=False, soft_wrap=True, markup=False)


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a title and rows of equal keys; the keys head the columns.

    A terminal too narrow for the longest words gets lines as long as they are: it cuts nothing off.
    """
    if not rows:
        console.print(f"{title}: none")
        return
    columns = list(rows[0])
    texts = [[_text(row[column]) for column in columns] for row in rows]
    lines = [columns, *texts]
    words = [max(len(word) for line in lines for word in line[i].split() or [""])
             for i in range(len(columns))]  # fmt: skip
    if console.is_terminal and sum(words) + 2 * len(words) <= console.width:
        made = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for index, column in enumerate(columns):
            right = all(isinstance(row[column], int | float | None) for row in rows)
            made.add_column(column, justify="right" if right else "left", min_width=words[index])
        for line in texts:
            made.add_row(*line)
        console.print(made, soft_wrap=False)
        return
    print(title)
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip())


def as_json(data: Any) -> None:
    """Print data as JSON; NaN and infinities become null."""
    print(json.dumps(finite(data), indent=1, default=str, allow_nan=False))


def say(text: str) -> None:
    """Print a line."""
    console.print(text)


def announce(text: str) -> None:
    """Print a line to stderr, where it does not mix with what a program reads."""
    print(text, file=sys.stderr, flush=True)


def why(words: str, status: Mapping[str, Any]) -> str:
    """Put its type before the words of an error that ended a run, unless it is for the user.

    The words of a KeyError are but the key.  `status` is that of status.json.
    """
    kind = (status.get("error") or {}).get("type")
    if status.get("state") != State.FAILED or kind in (None, "ConfigError", "Failed"):
        return words
    return f"{kind}: {words}" if words else str(kind)


def several(count: int, noun: str) -> str:
    """Write a count with its noun: 1 cell, 1,000 puzzles."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def engineering(value: float) -> str:
    """Write a large number with its prefix: 3.06e9 is 3.06 G."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Write a time as people say it: 95 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return short(value) if isinstance(value, float) else str(value)
