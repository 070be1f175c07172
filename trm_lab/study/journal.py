"""Trials of a study in Optuna's journal file.

The driver is the only writer.  The journal is an index: run folders are the truth, and trials that
it lacks are added from them.  A trial carries no parameters, as the matrix is enumerated by us; it
names its run in its attributes.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from trm_lab.atomic import write_bytes
from trm_lab.runs import now
from trm_lab.study.plan import Run

RUN = "run"
"""Attribute that holds a run's key."""


class Journal:
    """The Optuna study of a matrix's runs."""

    def __init__(self, storage: BaseStorage, name: str) -> None:
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        self.seen: dict[int, set[int]] = {}
        """Updates whose value is recorded, by the trial's number."""
        self.ids: dict[int, int] = {}
        """Optuna's private ids, by the trial's number."""

    def newest(self) -> dict[str, FrozenTrial]:
        """Give the newest trial of every run, by the run's key."""
        return {t.user_attrs[RUN]: t for t in self.trials() if RUN in t.user_attrs}

    def trials(self) -> list[FrozenTrial]:
        """List all trials, oldest first."""
        return self.study.get_trials(deepcopy=False)

    def enqueue(self, runs: Iterable[Run]) -> None:
        """Queue a trial for each run whose newest trial is not already waiting or running."""
        open_states = (TrialState.WAITING, TrialState.RUNNING)
        newest = self.newest()
        for run in runs:
            there = newest.get(run.key)
            if there is None or there.state not in open_states:
                self.study.enqueue_trial({}, user_attrs=_attributes(run))

    def interrupted(self) -> dict[str, int]:
        """Give the numbers of trials that an earlier driver left running, by the run's key."""
        return {key: t.number for key, t in self.newest().items() if t.state is TrialState.RUNNING}

    def take(self) -> Iterator[tuple[str, int]]:
        """Take all waiting trials: give the key of each one's run, and its number."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        for _ in waiting:  # counted once: to look before each is quadratic
            trial = self.study.ask()
            yield str(trial.user_attrs[RUN]), trial.number

    def report(self, number: int, update: int, value: float) -> None:
        """Record an intermediate value once."""
        trial = self._trial(number)
        if number not in self.seen:
            self.seen[number] = set(self.trials()[number].intermediate_values)
        if update not in self.seen[number]:
            trial.report(value, update)
            self.seen[number].add(update)

    def tell(self, number: int, value: float | None, reason: str = "") -> None:
        """Close a trial: complete with its value, or failed with a reason."""
        if value is None:
            self._trial(number).set_user_attr("reason", reason)
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self.study.tell(number, value, skip_if_finished=True)

    def _trial(self, number: int) -> optuna.Trial:
        """Take up a trial again by its number; the private id is needed nowhere else."""
        if number not in self.ids:
            self.ids = {trial.number: trial._trial_id for trial in self.trials()}
        return optuna.Trial(self.study, self.ids[number])

    def adopt(self, run: Run, value: float | None, seen: dict[int, float], reason: str) -> None:
        """Add a closed trial for a finished run that the journal does not know.

        `seen` are the intermediate values by update.
        """
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.FAIL if value is None else TrialState.COMPLETE,
                value=value,
                user_attrs=_attributes(run) | ({"reason": reason} if value is None else {}),
                intermediate_values=seen,
            )
        )


def repair(path: Path) -> list[str]:
    """Mend what a killed driver or a full disk left; say what was done.

    Optuna waits half a minute for a dead driver's lock, and neither goes on after a torn line nor
    says which line it is.  A last line cut short is dropped.  Where a line in the middle is bad the
    driver writes a new journal from the run folders: trials are numbered by their lines, so without
    one of them the values of others would go to wrong runs unnoticed.  The file before is kept.
    """
    for left in path.parent.glob(f"{path.name}.lock*"):
        left.unlink(missing_ok=True)  # the lock, and one whose release was cut short
    raw = path.read_bytes() if path.exists() else b""
    if not raw:
        return []
    lines = raw.split(b"\n")
    torn = lines.pop() != b""  # a whole file ends with a line's end
    good = [line for line in lines if _whole(line)]
    bad = len(lines) - len(good)
    if not (torn or bad):
        return []
    kept = path.with_name(f"{path.name}.damaged-{now().replace(':', '')}")
    write_bytes(kept, raw)
    if bad:
        path.unlink()
        what = (
            f"{bad} unreadable line{'s' * (bad > 1)}; a driver writes it anew from the run folders"
        )
    else:
        write_bytes(path, b"".join(line + b"\n" for line in good))
        what = "dropped a last line cut short"
    return [f"{path}: {what}; the file as it was is {kept.name}"]


def damage(path: Path) -> list[str]:
    """Name the lines of a journal that cannot be read, changing nothing."""
    raw = path.read_bytes() if path.exists() else b""
    *lines, rest = raw.split(b"\n")
    bad = [f"{path}:{n}: unreadable" for n, line in enumerate(lines, 1) if not _whole(line)]
    return bad + ([f"{path}:{len(lines) + 1}: cut short"] if rest else [])


def _whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _attributes(run: Run) -> dict[str, str | int]:
    return {
        RUN: run.key,
        "variant": run.cell.variant,
        "series": run.cell.series,
        "seed": run.recipe.seed,
        "recipe_id": run.recipe.id,
    }
