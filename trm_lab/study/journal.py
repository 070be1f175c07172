"""Trials of a study in Optuna's journal file.

The driver is the only writer.  The journal is an index: run folders are the truth, and trials that
it lacks are added from them.  A trial carries no parameters, as the matrix is enumerated by us; it
names its run in its attributes.
"""

from collections.abc import Iterable
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from trm_lab.atomic import write_text
from trm_lab.study.plan import Run

RUN = "run"
"""Attribute that holds a run's key."""


class Journal:
    """The Optuna study of one study folder."""

    def __init__(self, path: Path, name: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _repair(path)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path.resolve()))),
            study_name=name,
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

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
        trial_id = self.trials()[number]._trial_id
        trial = optuna.Trial(self.study, trial_id)
        if update not in self.trials()[number].intermediate_values:
            trial.report(value, update)

    def tell(self, number: int, value: float | None, reason: str = "") -> None:
        """Close a trial: complete with its value, or failed with a reason."""
        trial_id = self.trials()[number]._trial_id
        if value is None:
            optuna.Trial(self.study, trial_id).set_user_attr("reason", reason)
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self.study.tell(number, value, skip_if_finished=True)

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


def _repair(path: Path) -> None:
    """Mend what a killed driver left: its lock, for which Optuna waits half a minute, and a torn
    last line, after which Optuna could not go on.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    text = path.read_bytes() if path.exists() else b""
    if text and not text.endswith(b"\n"):
        write_text(path, text[: text.rfind(b"\n") + 1].decode())


def _attributes(run: Run) -> dict[str, str | int]:
    return {
        RUN: run.key,
        "variant": run.cell.variant,
        "series": run.cell.series,
        "seed": run.recipe.seed,
        "recipe_id": run.recipe.id,
    }
