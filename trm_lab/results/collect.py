"""A study's run folders, and plan.json where there is one, become one labelled file.

Run folders are the truth and results.nc is an index that can be made again from them at any time.
Nothing is dropped: a planned run without a folder is a row in state waiting (with `planned` 0 where
the last sweep took others: it is not in this sweep, and not missing), a run whose status.json
cannot be read is a row in state lost, and all damage is listed in the root attribute
`problems`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

import trm_lab
from trm_lab.errors import ConfigError
from trm_lab.paths import RESULTS as RESULTS_FOLDER
from trm_lab.paths import expect, missing
from trm_lab.results.files import ENGINE, write_netcdf
from trm_lab.results.folders import RunRecord, read_run
from trm_lab.results.groups import (
    Row,
    curves_group,
    eval_group,
    metric_problems,
    part,
    puzzles_group,
    runs_group,
)
from trm_lab.results.schema import SCHEMA_VERSION, STATES
from trm_lab.runs import NOT_IN_SWEEP

RESULTS = "results.nc"
_SEED = re.compile(r"seed-(\d+)")
_HISTORY_LINES = 50
"""Lines of history that are kept; a driver collects many times."""


def collect(study: Path | str) -> xr.DataTree:
    """Read a study folder, write its results.nc and give the tree.

    Raises:
        ConfigError: the folder is missing, or holds neither a plan nor runs.
    """
    folder = Path(study)
    tree = gather(folder)
    path = folder / RESULTS
    lines = [*_old_history(path), str(tree.attrs["history"])]
    tree.attrs["history"] = "\n".join(lines[-_HISTORY_LINES:])
    write_netcdf(tree, path)
    return tree


def gather(study: Path | str) -> xr.DataTree:
    """Read a study folder without writing anything.

    Raises:
        ConfigError: the folder is missing, or holds neither a plan nor runs.
    """
    folder = Path(study)
    if not folder.is_dir():
        raise missing(folder, "folder of results", "`trm-lab run STUDY` makes it")
    expect(folder, RESULTS_FOLDER)
    problems: list[str] = []
    plan = _plan(folder / "plan.json", problems)
    folders = _run_folders(folder)
    if not plan and not folders:
        raise ConfigError(
            f"{folder}: neither a plan.json that can be read nor a run folder; "
            "`trm-lab run STUDY` makes them"
        )
    rows = _rows(plan, folders, problems)
    problems += metric_problems(rows)
    groups = {
        "/runs": runs_group(rows),
        "/curves": curves_group(rows),
        "/eval": eval_group(rows),
        "/puzzles": puzzles_group(rows),
    }
    root = xr.Dataset(attrs=_provenance(folder, plan, rows, problems))
    return xr.DataTree.from_dict({"/": root, **groups})


def _plan(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"plan.json: unreadable, so taken from the folders alone: {error}")
        return {}
    if not isinstance(plan, dict) or not isinstance(plan.get("cells"), list):
        problems.append("plan.json: has no list of cells, so taken from the folders alone")
        return {}
    return plan


def _run_folders(study: Path) -> dict[tuple[str, int], Path]:
    found = {
        (path.parent.name, int(match[1])): path
        for path in study.glob("*/seed-*")
        if (match := _SEED.fullmatch(path.name)) and path.is_dir()
    }
    return dict(sorted(found.items()))


def _rows(
    plan: Mapping[str, Any], folders: Mapping[tuple[str, int], Path], problems: list[str]
) -> list[Row]:
    cells = {
        str(c["cell"]): c for c in plan.get("cells", []) if isinstance(c, dict) and "cell" in c
    }
    planned = [(cell, int(seed)) for cell in cells for seed in plan.get("seeds") or []]
    known = set(planned)
    seeds = plan.get("sweep_seeds") or plan.get("seeds") or []
    taken = set(plan.get("sweep_cells") or cells)
    names = [*planned, *(name for name in folders if name not in known)]
    metric_step = part(plan, "metric").get("steps")
    rows = []
    for cell, seed in names:
        path = folders.get((cell, seed))
        run = read_run(path) if path else None
        in_sweep = seed in seeds and cell in taken
        wanted = not plan or ((cell, seed) in known and (in_sweep or path is not None))
        row = _row(cells.get(cell, {}), cell, seed, run, metric_step, wanted)
        problems += run.problems if run else ()
        problems += _disagreements(row, cells.get(cell, {}))
        rows.append(row)
    problems += _mixed_data(rows)
    problems += _mixed_code(rows)
    return rows


def _mixed_data(rows: Sequence[Row]) -> list[str]:
    """Name the cells whose seeds were trained on different data."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        status = (row.folder.status if row.folder else None) or {}
        if found := part(status, "data").get("fingerprint"):
            seen.setdefault(row.cell, set()).add(str(found))
    return [
        f"{cell}: runs on different data: {', '.join(sorted(found))}"
        for cell, found in seen.items()
        if len(found) > 1
    ]


def _mixed_code(rows: Sequence[Row]) -> list[str]:
    """Name the classes of other packages that runs of this study were trained with two texts of."""
    seen: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        status = (row.folder.status if row.folder else None) or {}
        for kind, told in part(part(status, "environment"), "own").items():
            if isinstance(told, Mapping) and (source := told.get("source")):
                seen.setdefault(str(kind), {}).setdefault(str(source), set()).add(row.name)
    return [
        f"{kind}: runs with different code: "
        + ", ".join(f"{source} in {len(runs)} as {min(runs)}" for source, runs in found.items())
        for kind, found in sorted(seen.items())
        if len(found) > 1
    ]


def _row(
    entry: Mapping[str, Any],
    cell: str,
    seed: int,
    run: RunRecord | None,
    metric_step: int | None,
    planned: bool,
) -> Row:
    """Join plan and folder: names come from the plan, what was run comes from the folder."""
    status: Mapping[str, Any] = (run.status if run else None) or {}
    recipe = (run.recipe if run else None) or {**part(entry, "recipe"), "seed": seed}
    own = part(recipe, "supervision").get("N_sup")
    return Row(
        cell=cell,
        seed=seed,
        variant=str(entry.get("variant") or status.get("variant") or ""),
        series=str(entry.get("series") or status.get("series") or ""),
        recipe_id=str(status.get("recipe_id") or entry.get("recipe_id") or ""),
        baseline=bool(entry.get("baseline")),
        planned=planned,
        recipe=recipe,
        accounting=part(status, "accounting") or part(entry, "accounting"),
        metric_step=metric_step or own,
        folder=run,
    )


def _disagreements(row: Row, entry: Mapping[str, Any]) -> list[str]:
    found = []
    if row.recipe.get("seed", row.seed) != row.seed:
        found.append(f"{row.name}: recipe.yaml has seed {row.recipe['seed']}")
    expected = str(entry.get("recipe_id") or row.recipe_id)
    if row.recipe_id != expected:
        found.append(f"{row.name}: ran recipe {row.recipe_id}, but the plan has {expected}")
    return found


def _provenance(
    folder: Path, plan: Mapping[str, Any], rows: Sequence[Row], problems: Sequence[str]
) -> dict[str, Any]:
    statuses = [row.folder.status for row in rows if row.folder and row.folder.status]
    environments = [part(status, "environment") for status in statuses]
    study = str(plan.get("study") or folder.resolve().name)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    metric = part(plan, "metric")
    states = [
        row.folder.state if row.folder else "waiting" if row.planned else NOT_IN_SWEEP
        for row in rows
    ]
    counts = ", ".join(f"{states.count(s)} {s}" for s in (*STATES, NOT_IN_SWEEP) if s in states)
    return {
        "title": f"Results of the study {study}",
        "schema_version": SCHEMA_VERSION,
        "created_utc": now,
        "study": study,
        "question": str(plan.get("question") or ""),
        "hypothesis": str(plan.get("hypothesis") or ""),
        "metric": str(metric.get("name") or "puzzle_accuracy"),
        "metric_steps": int(metric.get("steps") or 0),
        "study_yaml": str(plan.get("study_yaml") or ""),
        "sweep_yaml": str(plan.get("sweep_yaml") or ""),
        "plan_json": json.dumps(plan, ensure_ascii=False) if plan else "",
        "trm_lab_version": trm_lab.__version__,
        "git_commit": _all(e.get("git_commit") for e in environments),
        "git_dirty": int(any(e.get("git_dirty") for e in environments)),
        "python": _all(e.get("python") for e in environments),
        "torch": _all(e.get("torch") for e in environments),
        "hosts": _all(s.get("host") for s in statuses),
        "history": f"{now} trm-lab {trm_lab.__version__} collect: {len(rows)} runs ({counts})",
        "problems": "\n".join(problems),
    }


def _all(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values if value}))


def _old_history(path: Path) -> list[str]:
    """Lines of the file that is replaced; none if it is missing or unreadable."""
    if not path.exists():
        return []
    try:
        with xr.open_dataset(path, engine=ENGINE) as root:
            return str(root.attrs.get("history", "")).splitlines()
    except (OSError, ValueError):
        return []
