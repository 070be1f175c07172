"""The verbs that look at a study's runs and results: status, collect, fit, report."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.cli import output
from trm_lab.cli.fitting import fit_all
from trm_lab.cli.planning import root_of
from trm_lab.runs import NOT_IN_SWEEP, State

if TYPE_CHECKING:
    import xarray as xr

    from trm_lab.study.overview import Row

BAD = (State.FAILED, State.LOST, State.CANCELLED, State.WAITING, State.RUNNING)
"""States after a drive that make the exit code 1; a diverged run is a result."""


def status(study: Path, on: Path | None, settings: list[str], runs: Path, json: bool) -> None:
    """Print the state of every run of the plan in the study's folder."""
    from trm_lab.study.overview import overview, read_plan
    from trm_lab.study.trials import spent_text

    root = root_of(study, on, settings, runs)
    made = read_plan(root)
    rows = overview(root, made)
    if json:
        output.as_json([_told(row) | {"in_sweep": row.in_sweep} for row in rows])
        return
    output.table(str(root), [_shown(row) for row in rows])
    output.say(summary(rows))
    for row in rows:
        if missed := _unconverged(row):
            which = f"{row.variant}, seed {row.seed}"
            output.say(f"{which}: {100 * missed:.3g} % of its latest solves did not converge")
    for arm in made.get("search", ()):
        if "spent" in arm:
            output.say(spent_text(arm["variant"], arm))
    for line in driver_failure(root, rows):
        output.say(line)


def driver_failure(root: Path, rows: "list[Row]") -> Iterator[str]:
    """Say how the last driver ended, if that was badly and it left something to do."""
    from trm_lab.study.driver_lock import driver_log, failure

    if any(row.state in BAD for row in rows if row.in_sweep) and (why := failure(root)):
        log = "; `trm-lab logs` shows its words" * (driver_log(root) is not None)
        yield f"the last driver ended badly: {why.splitlines()[0]}{log}"


def summary(rows: "list[Row]") -> str:
    """Count the runs of a study by their state."""
    counts = Counter(row.state for row in rows if row.in_sweep)
    left = sum(not row.in_sweep for row in rows)
    return counted(counts) + f"; {left} {NOT_IN_SWEEP}" * bool(left)


def collect(study: Path, on: Path | None, settings: list[str], runs: Path) -> None:
    """Write results.nc."""
    from trm_lab.results import collect as collect_results

    root = root_of(study, on, settings, runs)
    tree = collect_results(root)
    output.say(f"{root / 'results.nc'}: {_completed(tree)}")
    for problem in str(tree.attrs.get("problems") or "").splitlines():
        output.say(f"problem: {problem}")


def report(study: Path, on: Path | None, settings: list[str], runs: Path) -> None:
    """Write figures and report.html from results.nc as it is."""
    from trm_lab.report import build
    from trm_lab.results import open_results

    root = root_of(study, on, settings, runs)
    tree = open_results(root)
    page = build(root, tree=tree)
    output.say(f"{root / 'results.nc'}: {_completed(tree)}")
    output.say(f"report: {page}")


def _completed(tree: "xr.DataTree") -> str:
    """Say how many of the planned runs are completed, and how many others are in the results."""
    from trm_lab.results import not_in_sweep, states
    from trm_lab.results.views import planned

    kept, left = planned(tree), int(not_in_sweep(tree).sum())
    done, older = int((states(tree) == "completed")[kept].sum()), int((~kept).sum()) - left
    text = f"{done} of {int(kept.sum())} runs completed"
    text += f", {left} more {NOT_IN_SWEEP}" * bool(left)
    return text + f", {older} more of an older plan" * bool(older)


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


def _told(row: "Row") -> dict[str, Any]:
    """Give what is known of a run."""
    best = row.told.get("best") or {}
    return {
        "cell": row.variant,
        "seed": row.seed,
        "state": row.state.value,
        "update": row.told.get("update", 0),
        "of": row.of,
        "best validation puzzle accuracy": best.get("puzzle_accuracy"),
        "seconds": row.told.get("seconds"),
        "attempt": row.told.get("attempt", 0),
        "job": row.job,
        "reason": row.reason,
        "error": row.error,
    } | {
        name: value
        for name, value in (("role", row.role or None), ("unconverged", _unconverged(row)))
        if value is not None
    }


def _unconverged(row: "Row") -> float | None:
    """Give the share of solves above the tolerance in the latest record; None without a solver."""
    found: float | None = (row.told.get("solver") or {}).get("unconverged")
    return found


def _shown(row: "Row") -> dict[str, Any]:
    """Give a row of the status as a reader wants it: what went wrong in one line."""
    told = _told(row)
    told["state"] = row.state.value if row.in_sweep else NOT_IN_SWEEP
    why = told.pop("reason") or told.pop("error", "").split("\n")[0]
    told.pop("error", None)
    return told | {"why": why}


def counted(counts: Counter[State]) -> str:
    """Say how many runs are in each state."""
    return (
        ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state]) or "no runs"
    )
