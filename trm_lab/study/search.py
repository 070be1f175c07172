"""What a driver has before it in a search: suggestions of every arm, then its winners.

Runs of trials live below `trials/`, so that nothing which reads a study's cells ever meets them:
they were chosen by their outcome.  A trial is judged on validation puzzles.  The winners are run
again with fresh seeds, and those runs are the study's cells.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from trm_lab.errors import ConfigError
from trm_lab.runs import Labels, RunFolder, State
from trm_lab.study.agenda import MatrixAgenda, goes_on
from trm_lab.study.arm import AGAIN, DECIDED, WAS, Arm
from trm_lab.study.attempts import forgive
from trm_lab.study.journal import RUN, Journal
from trm_lab.study.matrix import Cell, checked, slug
from trm_lab.study.plan import Plan, Run
from trm_lab.study.search_ahead import unpruned
from trm_lab.study.space import brief, label, overlay, settings
from trm_lab.study.trials import TRIALS, spent_text, told_in, write_trial
from trm_lab.study.values import evaluations, judged, objectives


class SearchAgenda:
    """The trials of all arms, and the runs that confirm their winners."""

    def __init__(
        self, plan: Plan, only: str | None, storage: BaseStorage, name: str,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        assert plan.study.search is not None
        self.plan, self.search, self.say = plan, plan.study.search, say
        self.journal = Journal(storage, name)
        self.arms = [Arm(cell, plan.study, storage, name) for cell in plan.arms]
        names = {cell.name for cell in plan.taken if only in (None, cell.variant, cell.name)}
        self.chosen = [arm for arm in self.arms if arm.cell.name in names]
        self.runs: dict[str, Run] = {}
        self.open: dict[str, list[tuple[Arm, int]]] = {}
        """The trials that wait for a run; the first one stands for it."""
        self.closed: dict[str, list[tuple[Arm, int]]] = {}
        self.matrices: dict[str, MatrixAgenda] = {}
        """What takes care of a run that confirms."""
        self.winners: dict[str, tuple[Cell, ...]] = {}
        """By the arm's Optuna study, once its budget is spent."""
        self.spent: dict[str, dict[str, Any]] = {}
        """What came of the budget, likewise."""
        self.names = {
            path.name.rpartition("-")[2]: f"{TRIALS}/{path.name}"
            for path in sorted((plan.root / TRIALS).glob("*-????????"))
        }
        """Folders of trials by the 8 hex digits of their recipe: a recipe has one."""
        self.again = False

    def begin(self, again: bool) -> list[Run]:
        """Bring the storage in line with the folders; give what is left."""
        self.again = again
        for remark in unpruned(self.search, self.plan.sweep):
            self.say(f"remark: {remark}")
        left: list[Run | None] = []
        for arm in self.chosen:
            arm.restore(told_in(self.plan.root, arm.name))
            trials = list(arm.trials())
            left += [self._take_up(arm, arm.ask()) for t in trials if t.state is TrialState.WAITING]
            left += [self._take_up(arm, t) for t in trials if t.state is TrialState.RUNNING]
            newest = {t.user_attrs[RUN]: t for t in trials if RUN in t.user_attrs}
            left += [self._known(arm, t) for t in newest.values() if t.state.is_finished()]
        ready = [run for run in left if run is not None]
        return ready + self._confirm(anew=True)

    def more(self, free: int) -> list[Run]:
        """Give the runs of further suggestions, each arm in turn, and of winners."""
        if free <= 0:
            return []
        ready = self._confirm()
        while len(ready) < free and (arm := self._next()):
            run = self._take_up(arm, arm.ask())
            ready += [run] if run else self._confirm()
        return ready

    def _next(self) -> Arm | None:
        """Give the arm with the most suggestions left, of those that may have one more trial."""
        at_once, waits = self.search.at_once, Counter(self._waiting())
        asks = [arm for arm in self.chosen if at_once is None or waits[arm.name] < at_once]
        arm = max(asks, key=lambda arm: arm.left, default=None)
        return arm if arm and arm.left > 0 else None

    def _waiting(self) -> Iterator[str]:
        """Name the arm of every trial that waits for a run."""
        return (arm.name for waiting in self.open.values() for arm, _ in waiting)

    def reopen(self, run: Run) -> None:
        """Try a suggestion again."""
        if run.key in self.matrices:
            self.matrices[run.key].reopen(run)
            return
        for arm, number in self.closed.pop(run.key, []):
            arm.again(number)
            self._open(arm, arm.ask(), run)

    def report(self, run: Run, update: int, value: float) -> bool:
        """Record an evaluation; say whether every arm that waits for the run would prune it."""
        if run.key in self.matrices:
            return self.matrices[run.key].report(run, update, value)
        return _report(self.open[run.key], update, value)

    def close(self, run: Run) -> None:
        """Tell the outcome to all trials that wait for the run."""
        if run.key in self.matrices:
            self.matrices[run.key].close(run)
            return
        waiting = self.closed[run.key] = self.open.pop(run.key)
        state, values, reason = self._outcome(run)
        records = [] if state is TrialState.FAIL else run.folder.records()
        seen = list(evaluations(run, self.plan.study, records))
        for update, value in seen:
            _report(waiting, update, value)
        for arm, number in waiting:
            arm.tell(number, state, values, reason)

    def _outcome(self, run: Run) -> tuple[TrialState, list[float], str]:
        state = run.folder.state()
        if state is State.PRUNED:
            return TrialState.PRUNED, [], ""
        if state is not State.COMPLETED:
            return TrialState.FAIL, [], state.value
        values = objectives(run, self.plan.study)
        if not all(map(math.isfinite, values)):
            return TrialState.FAIL, [], f"objectives are {values}"
        return TrialState.COMPLETE, values, ""

    def _take_up(self, arm: Arm, trial: FrozenTrial) -> Run | None:
        """Give a trial's run if there is something to run."""
        if set(trial.params) != set(arm.distributions):
            arm.void(trial.number)
            return None
        try:
            run = self._run(arm, trial)
        except ConfigError as error:
            arm.tell(trial.number, TrialState.FAIL, reason=str(error))
            return None
        return self._open(arm, trial, run)

    def _open(self, arm: Arm, trial: FrozenTrial, run: Run) -> Run | None:
        key, folder = run.key, run.folder
        self.runs[key] = run
        arm.note(trial.number, key, run.recipe.seed, run.recipe.id)
        if AGAIN not in trial.user_attrs:
            told_as = trial.user_attrs.get(WAS, trial.number)
            write_trial(run, arm.name, told_as, trial.params)
        others = self.open.setdefault(key, [])
        others.append((arm, trial.number))
        if len(others) > 1:
            return None
        if DECIDED in trial.user_attrs and not (folder.state().final or folder.busy()):
            folder.mark(State.PRUNED, "pruned as asked")
        if not goes_on(run, self.again):
            self.close(run)
            return None
        if folder.state().ended_badly:
            forgive(folder)
        return run

    def _known(self, arm: Arm, trial: FrozenTrial) -> Run | None:
        """Count the run of a closed trial; try it again if it ended badly and that is wanted."""
        run = self._run(arm, trial)
        self.runs[run.key] = run
        self.closed.setdefault(run.key, []).append((arm, trial.number))
        if run.folder.state().final or not self.again or run.key in self.open:
            return None
        arm.again(trial.number)
        return self._open(arm, arm.ask(), run)

    def _run(self, arm: Arm, trial: FrozenTrial) -> Run:
        """Build the run of a suggestion.

        Raises:
            ConfigError: it is no possible recipe.
        """
        cell = self._cell(arm, trial, label(arm.cell.variant, self.search, trial.params))
        name = self.names.setdefault(cell.recipe.id[:8], f"{TRIALS}/{cell.name}")
        cell = replace(cell, name=name, series=f"{cell.series}, searched")
        seed = self.plan.study.seeds[0]
        labels = Labels(self.plan.study.name, cell.variant, cell.series, name)
        folder = RunFolder(self.plan.root / name / f"seed-{seed}")
        return Run(cell, cell.recipe.with_seed(seed), folder, labels)

    def _cell(self, arm: Arm, trial: FrozenTrial, variant: str) -> Cell:
        assert arm.cell.written is not None
        written = overlay(arm.cell.written(), settings(self.search, trial.params))
        recipe, problems = checked(self.plan.study, written)
        if recipe is None or problems:
            raise ConfigError("; ".join(problems))
        name = slug(variant, recipe)
        return replace(arm.cell, name=name, variant=variant, recipe=recipe)

    def _confirm(self, *, anew: bool = False) -> list[Run]:
        """Give the runs of the winners of arms that have come to their end since.

        The plan is written when it has changed, or `anew`.
        """
        waits = set(self._waiting())
        ended = [
            arm for arm in self.arms
            if arm.name not in self.winners and arm.left <= 0 and arm.name not in waits
        ]  # fmt: skip
        if not (ended or anew):
            return []
        for arm in ended:
            self.spent[arm.name] = self._spent(arm)
            self.say(spent_text(arm.cell.variant, self.spent[arm.name]))
            self.winners[arm.name] = tuple(self._winners(arm))
        cells = [cell for arm in self.arms for cell in self.winners.get(arm.name, ())]
        matrix = replace(self.plan.matrix, cells=tuple(cells))
        self.plan = replace(self.plan, matrix=matrix, found=tuple(map(self._found, self.arms)))
        self.plan.write()
        new = {c.name for arm in ended if arm in self.chosen for c in self.winners[arm.name]}
        runs = [run for run in self.plan.runs() if run.cell.name in new]
        agenda = MatrixAgenda(self.plan, runs, self.journal)
        for run in runs:
            self.runs[run.key], self.matrices[run.key] = run, agenda
        return agenda.begin(self.again) if runs else []

    def _spent(self, arm: Arm) -> dict[str, Any]:
        """Count what an arm's suggestions came to; name the best, and why one was impossible."""
        counts, why, met = Counter[str](), "", set[str]()
        valued = {t.user_attrs[RUN] for t in arm.trials() if t.state is TrialState.COMPLETE}
        for trial in arm.suggestions():
            key = str(trial.user_attrs.get(RUN, ""))
            if not key:
                counts["impossible"] += 1
                why = why or str(trial.user_attrs.get("reason", ""))
            elif key in met:
                counts["repeated"] += 1
            else:
                state = RunFolder(self.plan.root / key).state()
                lacks = state is State.COMPLETED and key not in valued
                counts["without a value" if lacks else state.value] += 1
                met.add(key)
        best = ""
        for trial in arm.winners(1):
            values = judged(self.plan.study, trial.values)
            best = f"{brief(self.search, trial.params)}: {values}"
        return {"spent": dict(counts), "impossible": why, "best": best}

    def _winners(self, arm: Arm) -> Iterator[Cell]:
        best = arm.winners(self.search.confirm.top)
        if not best:
            self.say(
                f"{arm.cell.variant}: no trial was completed, so there is no winner to confirm"
            )
        for rank, trial in enumerate(best, start=1):
            if rank == 1:  # the one that contrasts and fits mean
                yield self._cell(arm, trial, arm.cell.variant)
                continue
            cell = self._cell(arm, trial, f"{arm.cell.variant}, rank {rank}")
            yield replace(cell, arm=cell.variant, series=f"{cell.series}, rank {rank}")

    def _found(self, arm: Arm) -> dict[str, Any]:
        """Give what plan.json says of an arm."""
        best = arm.winners(self.search.confirm.top) if arm.name in self.winners else []
        return {
            "variant": arm.cell.variant,
            "optuna": arm.name,
            "trials": self.search.trials,
            **self.spent.get(arm.name, {}),
            "winners": [
                {"cell": cell.name, "trial": trial.number, "values": trial.values,
                 "parameters": settings(self.search, trial.params)}
                for cell, trial in zip(self.winners.get(arm.name, ()), best, strict=True)
            ],
        }  # fmt: skip


def _report(waiting: Sequence[tuple[Arm, int]], update: int, value: float) -> bool:
    """Record a value in all trials; say whether the first one of every arm is to be pruned."""
    verdicts: dict[str, bool] = {}
    for arm, number in waiting:
        verdict = arm.report(number, update, value, judge=arm.name not in verdicts)
        verdicts.setdefault(arm.name, verdict)
    return all(verdicts.values())
