"""What a driver has before it: the runs of a matrix, in the journal and in their folders."""

from typing import Protocol

from trm_lab.errors import ConfigError
from trm_lab.runs import State
from trm_lab.study.journal import Journal
from trm_lab.study.plan import Plan, Run
from trm_lab.study.values import evaluations, final_value


class Agenda(Protocol):
    """Says what to run next, and hears what came of it.  Only the driver calls it."""

    runs: dict[str, Run]
    """All that is known, by the run's key."""

    def begin(self, again: bool) -> list[Run]:
        """Give the runs to go on with, in order; `again` takes failed and cancelled ones too."""

    def more(self, free: int) -> list[Run]:
        """Give up to `free` further runs, now that there is room."""

    def reopen(self, run: Run) -> None:
        """Hear that a closed run is wanted again."""

    def report(self, run: Run, update: int, value: float) -> bool:
        """Hear of an evaluation; say whether the run is to be pruned."""

    def close(self, run: Run) -> None:
        """Hear that a run is at its end, or will not be tried again."""


class MatrixAgenda:
    """Every cell and seed of a plan, costly runs first."""

    def __init__(self, plan: Plan, runs: list[Run], journal: Journal) -> None:
        self.plan, self.journal = plan, journal
        self.runs = {run.key: run for run in runs}
        self.numbers: dict[str, int] = {}
        """The open trial of every run."""
        self.told: dict[str, float] = {}
        """Values that the journal holds of runs that go on: of one whose folder was damaged."""

    def begin(self, again: bool) -> list[Run]:
        """Bring the journal in line with the folders; give what is left."""
        left = [run for run in self.runs.values() if goes_on(run, again)]
        known = self.journal.newest()
        complete = {key: t.value for key, t in known.items() if t.value is not None}
        self.told = {run.key: complete[run.key] for run in left if run.key in complete}
        self.journal.enqueue(run for run in left if run.key not in self.told)
        self.numbers = self.journal.interrupted()
        planned = {run.key for run in self.plan.runs()}
        for key in [key for key in self.numbers if key not in planned]:
            self.journal.tell(self.numbers.pop(key), None, "not in this plan")
        self._take()
        going, spoilt = {run.key for run in left}, list[Run]()
        for key, run in self.runs.items():
            if key in going:
                continue
            if key in self.numbers:
                for update, value in evaluations(run, self.plan.study, run.folder.records()):
                    self.report(run, update, value)
                self.close(run)
            elif key not in known and run.folder.state().final:
                self._adopt(run)
            else:
                self._value(run)
            if run.folder.state() is State.LOST:
                spoilt.append(run)
        for run in spoilt:
            if run.key in complete:
                self.told[run.key] = complete[run.key]
            else:
                self.reopen(run)
        left += spoilt
        costs = {cell: account.flops_per_update for cell, account in self.plan.accounts().items()}
        return sorted(left, key=lambda r: -costs[r.cell.name] * r.recipe.train.updates)

    def more(self, free: int) -> list[Run]:
        """Give nothing: all runs are known from the beginning."""
        del free
        return []

    def reopen(self, run: Run) -> None:
        """Open a new trial for a run."""
        self.journal.enqueue([run])
        self._take()

    def _take(self) -> None:
        """Take all waiting trials."""
        for key, number in self.journal.take():
            if key in self.runs:
                self.numbers[key] = number
            else:
                self.journal.tell(number, None, "not in this plan")

    def report(self, run: Run, update: int, value: float) -> bool:
        """Record an evaluation; a cell of a matrix is never pruned."""
        if run.key not in self.told:
            self.journal.report(self.numbers[run.key], update, value)
        return False

    def close(self, run: Run) -> None:
        """Close the run's trial with its value, or as failed with the state as the reason."""
        value = self._value(run)
        if (told := self.told.pop(run.key, None)) is not None:
            if value == told:
                return  # one trial tells of it already
            self.reopen(run)
            for update, seen in evaluations(run, self.plan.study, run.folder.records()):
                self.report(run, update, seen)
        self.journal.tell(self.numbers.pop(run.key), value, run.folder.state().value)

    def _adopt(self, run: Run) -> None:
        value = self._value(run)
        seen = dict(evaluations(run, self.plan.study, run.folder.records()))
        self.journal.adopt(run, value, seen, run.folder.state().value)

    def _value(self, run: Run) -> float | None:
        """Give a completed run's value; one that cannot be read is to be evaluated again."""
        if run.folder.state() is not State.COMPLETED:
            return None
        try:
            return final_value(run, self.plan.study)
        except ConfigError as error:
            run.folder.mark(State.LOST, str(error))
            return None


def goes_on(run: Run, again: bool) -> bool:
    """Say whether a run is not at its end, and may be sent without being asked for again."""
    state = run.folder.state()
    if state.final:
        return False
    return again or state not in (State.FAILED, State.CANCELLED)
