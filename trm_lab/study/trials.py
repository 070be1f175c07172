"""The file that says of a run which trials of a search it stands for: trial.json.

The storage can be made again from these files; nobody needs Optuna to read them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.atomic import write_text

if TYPE_CHECKING:  # who looks at a study reads these files, and needs no plan and no laws
    from trm_lab.config.search import Choice
    from trm_lab.study.plan import Run

TRIALS = "trials"
"""Folder of the runs of trials below the study's."""
FILE = "trial.json"


def write_trial(run: "Run", search: str, number: int, suggested: "Mapping[str, Choice]") -> None:
    """Add a trial to those that a run stands for, once."""
    told = (_read(run.folder.path / FILE) or {}).get("trials", [])
    entry = {"search": search, "number": number, "parameters": dict(suggested)}
    if any((t["search"], t["number"]) == (search, number) for t in told):
        return
    said = {
        "variant": run.cell.variant,
        "seed": run.recipe.seed,
        "updates": run.recipe.train.updates,
        "trials": [*told, entry],
    }
    write_text(run.folder.path / FILE, json.dumps(said, indent=1) + "\n")


def trial_files(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Read the trial.json of every run below a study's folder; unreadable ones are left out."""
    for path in sorted((root / TRIALS).glob(f"*/seed-*/{FILE}")):
        told = _read(path)
        if told is not None:
            yield path.parent, told


def told_in(root: Path, search: str) -> "list[tuple[int, str, dict[str, Choice]]]":
    """Give number, run and suggestion of every trial of a search that the folders know."""
    return [
        (entry["number"], folder.relative_to(root).as_posix(), entry["parameters"])
        for folder, told in trial_files(root)
        for entry in told["trials"]
        if entry["search"] == search
    ]


def spent_text(variant: str, told: dict[str, Any]) -> str:
    """Say what came of an arm's budget and what won, from what plan.json tells of the arm."""
    counts = told["spent"]
    why = {"impossible": f" ({told['impossible'].splitlines()[0]})"} if told["impossible"] else {}
    parts = ", ".join(f"{count} {what}{why.get(what, '')}" for what, count in counts.items())
    best = f"; best {told['best']}" if told.get("best") else ""  # older plans do not tell it
    return f"{variant}: {sum(counts.values())} suggestions: {parts}{best}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(told, dict) and {"variant", "seed", "updates", "trials"} <= set(told)
    return told if whole else None
