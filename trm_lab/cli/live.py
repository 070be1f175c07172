"""Progress of a study: one live table on a terminal, one line per change elsewhere."""

import time
from types import TracebackType
from typing import NamedTuple

from rich.live import Live as RichLive
from rich.table import Table

from trm_lab.accounting import account
from trm_lab.cli.output import console, duration, say, several, why
from trm_lab.runs import State
from trm_lab.study.cost import cost
from trm_lab.study.driver import Event
from trm_lab.study.plan import Plan, Run
from trm_lab.study.search_ahead import most_runs

REDRAW_SECONDS = 1.0
SPEAK_SECONDS = 30.0
"""Least time between two lines of overall progress where there is no terminal."""


class _Progress(NamedTuple):
    """What a run's status.json says, which is short; its records are not."""

    share: float
    best: str
    started: bool


class Live:
    """Shows what a driver does."""

    def __init__(self, plan: Plan, runs: list[Run], only: str | None = None) -> None:
        self.name = plan.matrix.study.name
        self.search = plan.study.search
        self.arms = sum(only in (None, arm.variant, arm.name) for arm in plan.taken if plan.arms)
        self.most = self.arms * most_runs(self.search, len(plan.seeds)) if self.search else 0
        self.runs = {run.key: run for run in runs}
        self.states = {run.key: run.folder.state() for run in runs}
        accounts = plan.accounts()
        self.estimates = {run.key: cost(run.recipe, accounts[run.cell.name]) for run in runs}
        self.costs = {key: estimate.training for key, estimate in self.estimates.items()}
        self.before = self._done({key: self._progress(key).share for key in self.runs})
        self.began = self.drawn = time.monotonic()
        self.live = RichLive(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Live":
        done = sum(state.final for state in self.states.values())
        already = f", {done} already done" if done else ""
        left = [self.estimates[key] for key, state in self.states.items() if not state.final]
        ahead = (
            f"; about {duration(sum(e.seconds for e in left))} of one core, "
            f"{duration(sum(e.evaluation_seconds for e in left))} of it evaluation"
        )
        runs = f"{len(self.runs)} runs"
        if self.search:
            runs = (f"a search in {several(self.arms, 'arm')}, at most {self.search.trials} trials "
                    "each, then their winners")  # fmt: skip
        say(f"{self.name}: {runs}{already}" + ahead * bool(left))
        if console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if console.is_terminal:
            self.live.stop()

    def changed(self, event: Event) -> None:
        """Tell of a run that started, ended or waits to go on."""
        key = event.run.key
        if key not in self.runs:  # a search finds out as it goes
            self.runs[key] = event.run
            self.estimates[key] = cost(event.run.recipe, account(event.run.recipe))
            self.costs[key] = self.estimates[key].training
        self.states[key] = event.state
        if event.state is State.RUNNING:
            return
        if event.state is State.WAITING:
            say(f"{event.run.cell.variant}, seed {event.run.recipe.seed}: {event.detail}")
            return
        finished = sum(s not in (State.WAITING, State.RUNNING) for s in self.states.values())
        status = event.run.folder.status() or {}
        best = status.get("best") or {}
        seconds = status.get("seconds")
        facts = [event.state.value]
        if best.get("puzzle_accuracy") is not None:
            facts.append(f"best validation puzzle accuracy {best['puzzle_accuracy']:.3f}")
        if seconds:
            facts.append(f"{duration(seconds)} of training")
        if reason := why(event.detail, status):
            facts.append(reason)
        of = f" of at most {self.most}" if self.search else f"/{len(self.runs)}"
        say(f"[{finished}{of}] {event.run.cell.variant}, seed "
            f"{event.run.recipe.seed}: {', '.join(facts)}")  # fmt: skip

    def tick(self) -> None:
        """Redraw, or speak, if it is time."""
        now = time.monotonic()
        if now - self.drawn < (REDRAW_SECONDS if console.is_terminal else SPEAK_SECONDS):
            return
        self.drawn = now
        sent = {key: self._progress(key) for key, s in self.states.items() if s is State.RUNNING}
        if not sent:
            return
        progress = {key: p for key, p in sent.items() if p.started}
        ahead = self._ahead({key: p.share for key, p in sent.items()})
        queued = f"{len(sent) - len(progress)} queued" * (len(progress) < len(sent))
        if not console.is_terminal:
            parts = ", ".join(
                f"{self.runs[k].cell.variant} seed {self.runs[k].recipe.seed} {_doing(p.share)}"
                for k, p in progress.items()
            )
            say("; ".join(filter(None, [f"running: {parts}" * bool(parts), queued])) + ahead)
            return
        title = "; ".join(filter(None, [self.name, queued])) + ahead
        table = Table(box=None, pad_edge=False, title=title, title_justify="left")
        for column in ("run", "done", "best"):
            table.add_column(column)
        for key, (share, best, _) in progress.items():
            run = self.runs[key]
            bar = "#" * round(20 * share) + "." * (20 - round(20 * share))
            table.add_row(
                f"{run.cell.variant}, seed {run.recipe.seed}", f"{bar} {_doing(share)}", best
            )
        self.live.update(table, refresh=True)

    def _progress(self, key: str) -> "_Progress":
        run = self.runs[key]
        status = run.folder.status() or {}
        best = (status.get("best") or {}).get("puzzle_accuracy")
        return _Progress(
            (status.get("update") or 0) / run.recipe.train.updates,
            "" if best is None else f"puzzle accuracy {best:.3f}",
            status.get("state") == State.RUNNING,
        )

    def _ahead(self, shares: dict[str, float]) -> str:
        """Say how long the rest takes at the pace so far."""
        total, done = sum(self.costs.values()), self._done(shares)
        now_done = done - self.before
        elapsed = time.monotonic() - self.began
        if now_done < 0.02 * total:
            return ""
        return f"; about {duration(elapsed * (total - done) / now_done)} left"

    def _done(self, shares: dict[str, float]) -> float:
        """FLOPs behind us: whole runs that ended, and shares of the others."""
        ended = [key for key, s in self.states.items() if s not in (State.WAITING, State.RUNNING)]
        rest = {key: share for key, share in shares.items() if key not in ended}
        return sum(self.costs[key] for key in ended) + sum(
            self.costs[key] * share for key, share in rest.items()
        )


def _doing(share: float) -> str:
    """Say how far the training is; a run whose last update is recorded is being tested."""
    return f"{share:.0%}" if share < 1 else "trained, evaluating"
