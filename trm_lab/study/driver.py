"""The driver: brings the runs of a plan to an end.

It owns the Optuna journal and is the only one to write it.  Run folders are the truth: a run that
is complete there is not run again, and one that was cut off goes on from its checkpoint.  Killed at
any moment, a driver started again finds its jobs and goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trm_lab.runs import State
from trm_lab.study.agenda import Agenda
from trm_lab.study.attempts import attempted, forgive, forgiven_since, in_vain, progress, tail
from trm_lab.study.dispatch import Executor, Job, Orphan
from trm_lab.study.driver_lock import sole_driver
from trm_lab.study.executors import build_executor
from trm_lab.study.index import Say, agenda_of
from trm_lab.study.machine import installed
from trm_lab.study.matrix import no_cell
from trm_lab.study.plan import Plan, Run
from trm_lab.study.slurm import SilentError
from trm_lab.study.steering import strays
from trm_lab.study.values import evaluations
from trm_lab.tasks.build import build

CANCEL_SECONDS = 10.0
"""Time that local workers get to write their checkpoints when the driver is interrupted."""
SETTLE_LOOKS = 5
"""Looks of a single round; a job is gone after some of them without it."""


@dataclass(frozen=True)
class Event:
    """Something that changed, for whoever watches."""

    run: Run
    state: State
    detail: str = ""


Listener = Callable[[Event], None]
Tick = Callable[[], None]
"""Called at every look."""


def drive(
    plan: Plan,
    only: str | None = None,
    listen: Listener | None = None,
    tick: Tick | None = None,
    *,
    say: Say | None = None,
    once: bool = False,
    again: bool = True,
) -> Counter[State]:
    """Run what is left of a plan and give the number of runs in each state.

    `only` takes the cells whose variant or folder name it is.  `once` hears what ended, sends what
    there is room for and leaves the jobs to themselves.  `again`: a user asks, so that failed and
    cancelled runs are sent again, with all their attempts before them; else they stay as they are.

    Raises:
        ConfigError: another driver works on the study, `only` names nothing, data cannot be had,
            or the jobs are refused.
    """
    runs = select(plan, only)
    refuse(plan, runs)
    plan.root.mkdir(parents=True, exist_ok=True)
    with sole_driver(plan.root), agenda_of(plan, only, runs, say or _quiet) as agenda:
        if not plan.arms:  # a search writes its plan once it knows which winners it has
            plan.write()
        driver = _Driver(plan, agenda, listen or _quiet, tick, say or _quiet)
        driver.begin(again)
        driver.tell_of_others(only is None)
        try:
            driver.round()
            if once:
                driver.settle()
            while not once and driver.busy:
                time.sleep(driver.executor.poll_seconds)
                driver.round()
        except BaseException as error:
            driver.leave(State.CANCELLED if isinstance(error, KeyboardInterrupt) else State.WAITING)
            raise
    return Counter(run.folder.state() for run in agenda.runs.values())


def select(plan: Plan, only: str | None) -> list[Run]:
    """Give the plan's runs, or those of one cell; of a search none, as they are not known yet.

    Raises:
        ConfigError: no such cell.
    """
    runs = list(plan.runs())
    if only is None:
        return runs
    if plan.arms:
        if not any(only in (arm.variant, arm.name) for arm in plan.arms):
            raise no_cell("--only", only, plan.arms)
        return []
    chosen = [run for run in runs if only in (run.cell.variant, run.cell.name)]
    if not chosen:
        raise no_cell("--only", only, plan.cells)
    return chosen


def refuse(plan: Plan, runs: list[Run]) -> None:
    """Refuse runs of a plan that could not start, before anything is written for it.

    Raises:
        ConfigError: data or a tracker's package cannot be had.
    """
    recipes = [run.recipe for run in runs] + [arm.recipe for arm in plan.arms]
    if plan.sweep.executor.kind != "slurm":  # nodes may have what this machine lacks
        installed(plan.sweep.execution.trackers)
    for task in dict.fromkeys(recipe.task for recipe in recipes):
        build(task)  # once, before many workers would each do it


def _quiet(_: object) -> None:
    return None


@dataclass(eq=False)
class _Active:
    """A run that was sent."""

    run: Run
    job: Job
    read: int = 0
    """Bytes of metrics.jsonl that were read."""
    ends_as: State | None = None
    """The state that it was told to end in: cancelled or pruned."""


class _Driver:
    def __init__(
        self, plan: Plan, agenda: Agenda, listen: Listener, tick: Tick | None, say: Say
    ) -> None:
        self.plan, self.agenda, self.listen = plan, agenda, listen
        self.tick = tick or (lambda: None)
        self.executor: Executor = build_executor(
            plan.sweep.executor, plan.sweep.execution, plan.root, plan.study.name
        )
        self.say, self.silence = say, ""
        self.ready: list[Run] = []
        self.ended: list[Run] = []
        """Runs that ended badly; a user may ask for them again meanwhile."""
        self.active: dict[str, _Active] = {}
        self.starts: dict[str, int] = {}
        """Progress of the runs that were last given to the executor, before they were."""

    @property
    def busy(self) -> bool:
        return bool(self.ready or self.active)

    def begin(self, again: bool) -> None:
        """Find out what is left, and which of it is under way."""
        left = self.agenda.begin(again)
        keyed = {run.key: run for run in left}
        for key, job in self.executor.adopt(left, again).items():
            self.active[key] = _Active(keyed[key], job)
            self.listen(Event(keyed[key], State.RUNNING))
        self.ready = [run for run in left if run.key not in self.active]
        others = [run for key, run in self.agenda.runs.items() if key not in keyed]
        self.ended = [run for run in others if run.folder.state().ended_badly]
        if again:
            for run in self.ready:
                forgive(run.folder)
                run.folder.asked_to_cancel(clear=True)
                if run.folder.state().ended_badly:
                    run.folder.mark(State.WAITING, "")  # for whoever looks meanwhile

    def tell_of_others(self, whole: bool) -> None:
        """Tell of jobs of the study in the queue for which this driver does not wait.

        They are of runs that the `whole` plan knows nothing of, or sent by another sweep.
        """
        there = self.plan.sweep.executor.kind == "slurm"
        if self.executor.silence or (there and not whole):
            return
        if jobs := strays(self.plan.root, self.agenda.runs if there else ()):
            first, *more = sorted(key for keys in jobs.values() for key in keys)
            told = first + f" and {len(more)} more" * bool(more)
            why = "not in this plan" if there else "not waited for here"
            self.say(f"{self.plan.root}: in the queue, but {why}: {told}; "
                     f"`scancel {' '.join(jobs)}` takes out what is not wanted")  # fmt: skip

    def round(self) -> None:
        """Send what there is room for, and look at what was sent."""
        self.drop_cancelled()
        self.fill()
        self.hear()
        for run in [run for run in self.ended if run.folder.state() is State.WAITING]:
            self.ended.remove(run)
            self.agenda.reopen(run)
            self.ready.append(run)
        if not self.busy:  # what ended may have brought up more to do
            self.ready += self.agenda.more(self.executor.room([]))
        self.tick()

    def settle(self) -> None:
        """Look until every job that has left the queue is known to be gone: all in one round."""
        for _ in range(SETTLE_LOOKS):
            if not self.active:
                break
            time.sleep(min(1.0, self.executor.poll_seconds))
            self.hear()
        self.fill()

    def hear(self) -> None:
        """Look at what was sent, if anything was or is to be."""
        if not self.busy:
            return
        self.follow(self.executor.refresh())
        if self.executor.silence != self.silence:
            self.silence = self.executor.silence
            self.say(f"{self.plan.root}: {self.silence or 'SLURM answers again'}")
        for active in list(self.active.values()):
            self.look(active)

    def fill(self) -> None:
        """Send what there is room for, but nothing while the fate of what was sent is unknown."""
        free = self.executor.room([active.job for active in self.active.values()])
        self.ready += self.agenda.more(free - len(self.ready))
        if free <= 0 or not self.ready or self.executor.unsure:
            return
        # Before they are sent: the first of them may have come further by the time all are.
        self.starts = {run.key: progress(run.folder) for run in self.ready[:free]}
        self.follow(self.executor.submit(self.ready[:free]))

    def follow(self, sent: Mapping[str, Job]) -> None:
        """Take up runs that were sent."""
        taken = [run for run in self.ready if run.key in sent]
        self.ready = [run for run in self.ready if run.key not in sent]
        for run in taken:
            job = sent[run.key]
            attempted(run.folder, job.id, job.log, self.starts[run.key])
            self.active[run.key] = _Active(run, job)
            self.listen(Event(run, State.RUNNING))

    def look(self, active: _Active) -> None:
        run = active.run
        done = active.job.done()  # before the records are read: none is written after it
        self.report(active)
        if run.folder.asked_to_cancel():
            active.ends_as = active.ends_as or State.CANCELLED
            if not done:
                self.stop(active, active.ends_as)
        if not done:
            return
        if run.folder.busy():  # our process has ended, but one of an earlier driver works on
            active.job = Orphan(run)
            return
        del self.active[run.key]
        self.close(active)

    def report(self, active: _Active) -> None:
        records, active.read = active.run.folder.records_since(active.read)
        for update, value in evaluations(active.run, self.plan.study, records):
            if self.agenda.report(active.run, update, value):
                self.stop(active, State.PRUNED)

    def stop(self, active: _Active, state: State) -> None:
        """Let a run end in a state: by word, and with its job if no other run lives in that."""
        active.ends_as = active.ends_as or state
        active.run.folder.ask_to_cancel()
        self.cancel(active.job)

    def cancel(self, job: Job) -> None:
        """Cancel a job; a controller that does not answer is asked again in the next round."""
        try:
            job.cancel()
        except SilentError as error:
            self.say(f"{self.plan.root}: {job.id} is not cancelled yet: {error}")

    def close(self, active: _Active) -> None:
        """Say what came of a run whose process is gone, and send it again if it can go on."""
        run, job, state = active.run, active.job, active.run.folder.state()
        wanted = active.ends_as or (State.CANCELLED if job.cancelled() else None)
        retried = state is State.WAITING and forgiven_since(run.folder, job.id)
        if wanted is State.CANCELLED and retried:
            wanted = None  # taken back before we looked
        if wanted is not None and not state.final:
            why = "cancelled in the queue" if active.ends_as is None else f"{wanted.value} as asked"
            run.folder.mark(wanted, why)
        elif not (state.final or state in (State.FAILED, State.CANCELLED)):
            # Killed, out of memory, out of time, preempted, or never started.
            failure = job.failure() or "the process ended without a word"
            told = (run.folder.status() or {}).get("error") or {}
            why = str(told.get("message") or failure) if state is State.WAITING else failure
            tries = in_vain(run.folder)
            if tries < self.executor.max_attempts:
                run.folder.revoke()  # should it live on somewhere, it must not write any more
                self.cancel(job)
                run.folder.mark(State.WAITING if state is State.WAITING else State.LOST, why)
                self.ready.append(run)
                self.listen(Event(run, State.WAITING, f"{why}; goes on from its checkpoint"))
                return
            why = f"{why}; {tries} attempts came no further"
            run.folder.mark(State.FAILED, why, tail(run.folder, job.log))
        run.folder.asked_to_cancel(clear=True)
        self.agenda.close(run)
        if not run.folder.state().final:
            self.ended.append(run)
        error = (run.folder.status() or {}).get("error") or {}
        self.listen(Event(run, run.folder.state(), str(error.get("message") or "")))

    def drop_cancelled(self) -> None:
        """Let go of runs that were cancelled before they were sent."""
        # The word stays with those that may have been sent: their job is to heed it.
        waiting = [run for run in self.ready if run.key not in self.executor.unsure]
        for run in [run for run in waiting if run.folder.asked_to_cancel(clear=True)]:
            self.ready.remove(run)
            run.folder.mark(State.CANCELLED, "cancelled before it began")
            self.agenda.close(run)
            self.ended.append(run)
            self.listen(Event(run, State.CANCELLED))

    def leave(self, state: State) -> None:
        """Stop local workers, whose runs end in a state; jobs of a cluster are found again."""
        if self.plan.sweep.executor.kind != "local":
            return
        ours = list(self.active.values())
        deadline = time.monotonic() + CANCEL_SECONDS
        while ours and time.monotonic() < deadline:
            for active in ours:
                active.job.cancel()  # again and again: one that is still starting may not hear
            time.sleep(0.1)
            ended = [active for active in ours if active.job.done()]
            ours = [active for active in ours if active not in ended]
            for folder in (active.run.folder for active in ended):
                by_us = folder.state() is State.CANCELLED and not folder.asked_to_cancel()
                if by_us and state is State.WAITING:
                    folder.mark(state, "its driver failed")
