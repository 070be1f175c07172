"""Trials of a study in Optuna's journal file.

The driver is the only writer.  The journal is an index: run folders are the truth, and trials that
it lacks are added from them.  A trial carries no parameters, as the matrix is enumerated by us; it
names its run in its attributes.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from trm_lab.atomic import replacing
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

    def ask(self) -> tuple[str, int] | None:
        """Take the next waiting trial: its run's key and its number; None if none waits."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return None
        trial = self.study.ask()
        return str(trial.user_attrs[RUN]), trial.number

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
        return optuna.Trial(self.study, self.trials()[number]._trial_id)

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
    says which line it is.  Bad lines are dropped and the file before is kept; a journal that cannot
    be replayed even so is put aside, and the driver writes a new one from the run folders.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    raw = path.read_bytes() if path.exists() else b""
    if not raw:
        return []
    lines = raw.split(b"\n")
    torn = lines.pop() != b""  # a whole file ends with a line's end
    good = [line for line in lines if _whole(line)]
    bad = len(lines) - len(good)
    remarks: list[str] = []
    if torn or bad:
        kept = path.with_name(f"{path.name}.damaged-{now().replace(':', '')}")
        kept.write_bytes(raw)
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(line + b"\n" for line in good))
        what = " and ".join(
            ["a last line cut short"] * torn + [f"{bad} unreadable lines"] * bool(bad)
        )
        remarks = [f"{path}: dropped {what}; the file as it was is {kept.name}"]
    if bad and not _replays(path):
        path.unlink()
        remarks.append(f"{path}: could not be replayed and is written anew from the run folders")
    return remarks


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


def _replays(path: Path) -> bool:
    """Say whether Optuna can read the journal; a line lost in the middle may be one it needs."""
    try:
        storage = JournalStorage(JournalFileBackend(str(path.resolve())))
        return all(storage.get_all_trials(study._study_id) is not None
                   for study in storage.get_all_studies())  # fmt: skip
    except Exception:  # whatever it trips over, the journal is of no use as it is
        return False


def _attributes(run: Run) -> dict[str, str | int]:
    return {
        RUN: run.key,
        "variant": run.cell.variant,
        "series": run.cell.series,
        "seed": run.recipe.seed,
        "recipe_id": run.recipe.id,
    }
