"""The verbs that look at a study's runs and results: status, collect, fit, report."""

import json as json_module
from collections import Counter
from pathlib import Path
from typing import Any

from trm_lab.cli import output
from trm_lab.cli.fitting import fit_all
from trm_lab.cli.planning import root_of
from trm_lab.errors import ConfigError
from trm_lab.paths import RESULTS, expect
from trm_lab.runs import NOT_IN_SWEEP, RunFolder, State


def status(study: Path, on: Path | None, settings: list[str], runs: Path, json: bool) -> None:
    """Print the state of every run of the plan in the study's folder."""
    root = root_of(study, on, settings, runs)
    rows: list[dict[str, Any]] = []
    for cell, seed, in_sweep in _planned(root):
        folder = RunFolder(root / cell["cell"] / f"seed-{seed}")
        told = folder.status() or {}
        best, error = told.get("best") or {}, told.get("error") or {}
        rows.append(
            {
                "cell": cell["variant"],
                "seed": seed,
                "state": _state(folder, told),
                "update": told.get("update", 0),
                "of": told.get("updates", cell["recipe"]["train"]["updates"]),
                "best validation": best.get("puzzle_accuracy"),
                "seconds": told.get("seconds"),
                "attempt": told.get("attempt", 0),
                "error": error.get("message", ""),
                "in_sweep": in_sweep or folder.path.exists(),
            }
        )
    if json:
        output.as_json(rows)
        return
    counts = Counter(State(row["state"]) for row in rows if row["in_sweep"])
    output.table(str(root), [_shown(row) for row in rows])
    left = sum(not row["in_sweep"] for row in rows)
    output.say(counted(counts) + f"; {left} {NOT_IN_SWEEP}" * bool(left))


def collect(study: Path, on: Path | None, settings: list[str], runs: Path) -> None:
    """Write results.nc."""
    from trm_lab.results import collect as collect_results
    from trm_lab.results import not_in_sweep

    root = root_of(study, on, settings, runs)
    tree = collect_results(root)
    left = int(not_in_sweep(tree).sum())
    output.say(f"{root / 'results.nc'}: {tree['runs'].sizes['run'] - left} runs"
               + f", {left} more {NOT_IN_SWEEP}" * bool(left))  # fmt: skip
    for problem in str(tree.attrs.get("problems") or "").splitlines():
        output.say(f"problem: {problem}")


def report(study: Path, on: Path | None, settings: list[str], runs: Path) -> None:
    """Write figures and report.html from results.nc as it is."""
    from trm_lab.report import build

    output.say(f"report: {build(root_of(study, on, settings, runs))}")


def conclude(root: Path) -> list[str]:
    """Collect, fit and report; give the answer."""
    from trm_lab.report import build
    from trm_lab.report.answer import answer
    from trm_lab.results import collect as collect_results
    from trm_lab.results import open_results

    collect_results(root)
    fit_all(root)
    tree = open_results(root)
    build(root, tree=tree)
    return answer(tree)


def _state(folder: RunFolder, told: dict[str, Any]) -> str:
    """Give the recorded state; a run that nobody works on any more is lost, whatever it says."""
    state = str(told.get("state", State.WAITING.value))
    if state == State.RUNNING and not folder.busy():
        return State.LOST.value
    return state


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row of the status as a reader wants it."""
    state = row["state"] if row["in_sweep"] else NOT_IN_SWEEP
    return {k: v for k, v in row.items() if k != "in_sweep"} | {"state": state}


def _planned(root: Path) -> list[tuple[dict[str, Any], int, bool]]:
    """List the study's cells and seeds, and whether the last sweep takes them."""
    path = root / "plan.json"
    try:
        made = json_module.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        expect(root, RESULTS)
        by_hand = any(root.glob("*/seed-*"))
        what = f"; `trm-lab collect {root}` gathers runs made by hand" * by_hand
        made_by = what or "; `trm-lab run STUDY` makes it"
        raise ConfigError(f"{path}: no such file{made_by}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    seeds = made.get("sweep_seeds") or made["seeds"]
    cells = set(made.get("sweep_cells") or (cell["cell"] for cell in made["cells"]))
    return [
        (cell, seed, seed in seeds and cell["cell"] in cells)
        for cell in made["cells"]
        for seed in made["seeds"]
    ]


def counted(counts: Counter[State]) -> str:
    """Say how many runs are in each state."""
    return (
        ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state]) or "no runs"
    )
