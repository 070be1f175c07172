"""The trials of one arm of a search: an Optuna study of its own, so that arms do not mix.

A trial names its run in its attributes.  Suggestions are counted against the arm's budget; a trial
that only tries a suggestion again, and one that a killed driver left half-suggested, are not.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from trm_lab.config.search import SMALLER, Choice
from trm_lab.config.study import Study
from trm_lab.study import sampling
from trm_lab.study.journal import RUN
from trm_lab.study.matrix import Cell

AGAIN, VOID, DECIDED, WAS = "again", "void", "pruned_at", "was"
"""Attributes: the number of the trial that is tried again; half-suggested; the update at which it
was decided to prune, since a pruner that is asked twice may not say the same; the number before the
storage was made again."""


class Arm:
    """An arm and its trials."""

    def __init__(self, cell: Cell, study: Study, storage: BaseStorage, prefix: str) -> None:
        assert study.search is not None
        self.cell, self.search = cell, study.search
        self.name = f"{prefix}/{cell.name}-{digest(cell, study)}"
        """The Optuna study's.  Trials of another space or of other settings are not this arm's."""
        self.distributions = sampling.distributions(self.search)
        self.warmup = sampling.warmup(self.search, cell.recipe.train.updates)
        self.several = self.search.objectives is not None
        self.quiet = optuna.samplers.RandomSampler(seed=0)
        self.study = optuna.create_study(
            storage=storage,
            study_name=self.name,
            directions=sampling.directions(self.search),
            sampler=self.quiet,
            pruner=sampling.pruner(self.search, cell.recipe.train.updates),
            load_if_exists=True,
        )

    def trials(self) -> list[FrozenTrial]:
        """List all trials, oldest first."""
        return self.study.get_trials(deepcopy=False)

    def suggestions(self) -> list[FrozenTrial]:
        """List the trials that count against the budget."""
        return [t for t in self.trials() if not {AGAIN, VOID} & set(t.user_attrs)]

    @property
    def left(self) -> int:
        """Suggestions that the budget still has."""
        return self.search.trials - len(self.suggestions())

    def ask(self) -> FrozenTrial:
        """Take the next suggestion, or a trial that waits to be tried again."""
        asked = len(self.suggestions())
        self.study.sampler = sampling.sampler(self.search, asked)
        number = self.study.ask(self.distributions).number
        self.study.sampler = self.quiet
        return self.trials()[number]

    def note(self, number: int, run: str, seed: int, recipe_id: str) -> None:
        """Name the run of a trial."""
        trial = self._trial(number)
        told = {RUN: run, "arm": self.cell.variant, "seed": seed, "recipe_id": recipe_id}
        known = self.trials()[number].user_attrs
        for key, value in told.items():
            if known.get(key) != value:
                trial.set_user_attr(key, value)

    def report(self, number: int, update: int, value: float, *, judge: bool = True) -> bool:
        """Record an intermediate value once; say whether the trial is to be pruned.

        Without `judge` it is recorded alone, as for a run that another trial stands for.
        """
        known = self.trials()[number]
        decided = DECIDED in known.user_attrs
        if self.several or update in known.intermediate_values or not math.isfinite(value):
            return decided
        trial = self._trial(number)
        trial.report(value, update)
        if decided or not judge or update < self.warmup or not trial.should_prune():
            return decided
        trial.set_user_attr(DECIDED, update)
        return True

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] = (), reason: str = ""
    ) -> None:
        """Close a trial."""
        if reason:
            self._trial(number).set_user_attr("reason", reason)
        told = list(values) if state is TrialState.COMPLETE else None
        self.study.tell(number, told, state=state, skip_if_finished=True)

    def void(self, number: int) -> None:
        """Close a trial that has no whole suggestion."""
        self._trial(number).set_user_attr(VOID, True)
        self.tell(number, TrialState.FAIL, reason="the driver was killed while it asked")

    def again(self, number: int) -> None:
        """Queue a closed trial's suggestion once more."""
        old = self.trials()[number]
        first = old.user_attrs.get(AGAIN, number)
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=old.params,
                distributions=self.distributions,
                user_attrs={AGAIN: first, RUN: old.user_attrs[RUN]},
            )
        )

    def restore(self, told: Sequence[tuple[int, str, Mapping[str, Choice]]]) -> None:
        """Add the trials that the storage lacks, as still running: numbers, runs and suggestions.

        Those of other parameters than the arm's are left out.
        """
        known = Counter(t.user_attrs.get(RUN) for t in self.suggestions())
        for number, run, suggested in sorted(told, key=lambda one: one[0]):
            if known[run] > 0:
                known[run] -= 1
            elif set(suggested) == set(self.distributions):
                self.study.add_trial(
                    create_trial(
                        state=TrialState.RUNNING,
                        params=dict(suggested),
                        distributions=self.distributions,
                        user_attrs={RUN: run, WAS: number},
                    )
                )

    def winners(self, top: int) -> list[FrozenTrial]:
        """Give the best complete trials, one per run; of several objectives those of the front."""
        if self.several:
            found = self.study.best_trials
        else:
            found = [t for t in self.trials() if t.state is TrialState.COMPLETE]
        first = (self.search.objectives or ("puzzle_accuracy",))[0]
        sign = 1 if first in SMALLER else -1
        found = sorted(found, key=lambda t: (sign * t.values[0], t.number))
        best: dict[str, FrozenTrial] = {}
        for trial in found:
            best.setdefault(trial.user_attrs[RUN], trial)
        return list(best.values())[:top]

    def _trial(self, number: int) -> optuna.Trial:
        """Take up a trial again by its number; the private id is needed nowhere else."""
        return optuna.Trial(self.study, self.trials()[number]._trial_id)


def digest(cell: Cell, study: Study) -> str:
    """Give 8 hex digits of what makes trials comparable: space, settings, seed and objective."""
    assert study.search is not None
    said = study.search.model_dump(mode="json", include={"parameters", "objectives"})
    metric = study.metric.model_dump(mode="json")
    text = json.dumps([said, metric, cell.recipe.id, study.seeds], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
