"""Where every run of a study stands: from the run folders and, for jobs, from the queue.

No driver is needed to look, and no Optuna.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trm_lab.errors import ConfigError
from trm_lab.paths import RESULTS, expect
from trm_lab.runs import RunFolder, State
from trm_lab.study import slurm
from trm_lab.study.attempts import live_jobs, newest_jobs
from trm_lab.study.trials import trial_files


@dataclass(frozen=True)
class Row:
    """One run of a study, as it stands."""

    variant: str
    cell: str
    """Name of the cell's folder."""
    seed: int
    folder: RunFolder
    state: State
    told: dict[str, Any]
    """What status.json says."""
    of: int
    """Updates of the whole run."""
    in_sweep: bool
    """Whether the last sweep takes the seed, or the run exists."""
    job: str = ""
    reason: str = ""
    """Why the job waits, in the queue's words."""
    live: bool = False
    """Whether its job is in the queue, or may be as the queue does not answer."""
    role: str = ""
    """search for a run that a search chose: no cell of the study."""

    @property
    def key(self) -> str:
        """The run's name in the study."""
        return f"{self.cell}/seed-{self.seed}"

    @property
    def error(self) -> str:
        """Why the run ended, if it ended badly."""
        return str((self.told.get("error") or {}).get("message") or "")


def overview(root: Path, made: dict[str, Any] | None = None) -> list[Row]:
    """Look at every run of a study's folder, as plan.json (`made`, if it is read) lists them.

    Raises:
        ConfigError: no plan, or one that cannot be read.
    """
    made, found = made or read_plan(root), []
    jobs = newest_jobs(root)
    taken = made.get("sweep_seeds") or made["seeds"]
    cells = set(made.get("sweep_cells") or (cell["cell"] for cell in made["cells"]))
    for cell in made["cells"]:
        for seed in made["seeds"]:
            folder = RunFolder(root / cell["cell"] / f"seed-{seed}")
            told = _status(folder)
            updates = told.get("updates") or cell["recipe"]["train"]["updates"]
            in_sweep = (seed in taken and cell["cell"] in cells) or folder.path.exists()
            state = _recorded(told)
            found.append(
                Row(cell["variant"], cell["cell"], seed, folder, state, told, updates, in_sweep)
            )
    found += [_trial(root, path, said) for path, said in trial_files(root)]
    asked = {row.key: jobs[row.key] for row in found if row.key in jobs and _open(row.state)}
    said, silence = _said(root, asked)
    return [_with_job(row, asked.get(row.key, ""), said, silence) for row in found]


def _trial(root: Path, path: Path, said: dict[str, Any]) -> Row:
    """Give the row of a search's run."""
    folder = RunFolder(path)
    told = _status(folder)
    cell = path.parent.relative_to(root).as_posix()
    variant, seed, of = str(said.get("variant")), int(said["seed"]), int(said["updates"])
    return Row(variant, cell, seed, folder, _recorded(told), told, of, True, role="search")


def _with_job(row: Row, job: str, said: dict[str, str], silence: str) -> Row:
    """Join what the folder and the queue say."""
    state, reason = row.state, said.get(job, silence if job else "")
    live = job in said or bool(job and silence)
    # Between nodes locks may not be seen, so that a job at work, or of which nothing is known,
    # leaves the run as it is recorded.
    at_work = state is State.RUNNING and live and (bool(silence) or not reason)
    if state in (State.RUNNING, State.LOST) and not at_work and not row.folder.busy():
        # Nobody works on it; a job that waits for its next turn will, and one that has only begun,
        # but not one at work that told how the run ended.
        ended = not reason and (row.told.get("job") or {}).get("id") == job
        state = State.WAITING if job in said and not ended else State.LOST
    return replace(row, state=state, job=job, reason=reason, live=live)


def _said(root: Path, asked: dict[str, str]) -> tuple[dict[str, str], str]:
    """Give why each of the study's jobs in the queue waits, or why nothing is known."""
    if not asked:
        return {}, ""
    try:
        live = live_jobs(root)
    except slurm.SilentError as error:
        return {}, f"SLURM does not answer: {error}"
    return {job: there.waits for job, (there, _) in live.items()}, ""


def _open(state: State) -> bool:
    return state in (State.WAITING, State.RUNNING, State.LOST)


def _status(folder: RunFolder) -> dict[str, Any]:
    """Read status.json; of one that cannot be read the reason."""
    told = folder.status()
    if told is None and folder.status_file.exists():
        return {"error": {"message": "status.json is unreadable; running again mends it"}}
    return told or {}


def _recorded(told: dict[str, Any]) -> State:
    try:
        return State(told.get("state", State.WAITING))
    except ValueError:
        return State.LOST


def last_sweep(root: Path) -> dict[str, Any]:
    """Read the last sweep on a study's folder; empty without one.

    Raises:
        ConfigError: the file cannot be read.
    """
    from trm_lab.config.source import read_yaml

    path = root / "sweep.yaml"
    data = read_yaml(path).data if path.exists() else None
    return data if isinstance(data, dict) else {}


def read_plan(root: Path) -> dict[str, Any]:
    """Read plan.json.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = root / "plan.json"
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        expect(root, RESULTS)
        by_hand = any(root.glob("*/seed-*"))
        what = f"; `trm-lab collect {root}` gathers runs made by hand" * by_hand
        made_by = what or "; `trm-lab run STUDY` makes it"
        raise ConfigError(f"{path}: no such file{made_by}") from None
    except ValueError as error:
        why = str(error)
    else:
        if isinstance(made, dict) and isinstance(made.get("cells"), list):
            return made
        why = "it has no list of cells"
    raise ConfigError(f"{path}: cannot be read: {why}; `trm-lab run STUDY` writes it anew")


def chosen(rows: list[Row], only: str | None, seed: int | None) -> list[Row]:
    """Take the rows of one cell, by its variant or folder name, and of one seed.

    Raises:
        ConfigError: none is left.
    """
    from trm_lab.config.validate import suggest

    if only is not None:
        names = {row.variant for row in rows} | {row.cell for row in rows}
        rows = [row for row in rows if only in (row.variant, row.cell)]
        if not rows:
            raise ConfigError(f"--only {only}: no such cell" + suggest(only, sorted(names)))
    if seed is not None:
        seeds = sorted({row.seed for row in rows})
        rows = [row for row in rows if row.seed == seed]
        if not rows:
            raise ConfigError(f"--seed {seed}: no such seed; there are {seeds}")
    return rows
