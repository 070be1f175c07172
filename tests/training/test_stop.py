"""A run that is asked to stop leaves a checkpoint of where it is, and goes on to the same bits."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

import trm_lab.runs
from tests.training.tiny_run import EXECUTION, records, results, tiny_recipe
from trm_lab.config import Recipe
from trm_lab.core.reasoner import Reasoner
from trm_lab.runs import RunFolder, State
from trm_lab.training import Execution, train
from trm_lab.training.session import Session
from trm_lab.training.stop import Stop, Stopped

pytestmark = pytest.mark.slow

RARELY = EXECUTION.model_copy(update={"checkpoint_seconds": 1e9})
"""Checkpoints at evaluations and stops only."""
RECIPE = tiny_recipe()
HALTED = tiny_recipe(eval={"policy": {"kind": "when_halted"}})
SOLVES = 15
"""Supervision steps of all evaluations: 3 on validation after updates 5, 10 and 12, then 6 on the
test puzzles for the last weights and the best."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], dict[str, Any]]:
    known: dict[Recipe, dict[str, Any]] = {}

    def run(recipe: Recipe) -> dict[str, Any]:
        if recipe not in known:
            path = tmp_path_factory.mktemp("undisturbed")
            assert train(recipe, path, execution=EXECUTION) is State.COMPLETED
            known[recipe] = results(path)
        return known[recipe]

    return run


@contextmanager
def after(owner: type, name: str, act: Callable[[int], None]) -> Iterator[list[int]]:
    """Call `act` with the number of calls so far after every call of a method."""
    method, calls = getattr(owner, name), [0]

    def counted(*args: Any) -> Any:
        found = method(*args)
        calls[0] += 1
        act(calls[0])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield calls


def run_until(
    path: Path,
    *,
    updates: int = 10**9,
    solves: int = 10**9,
    recipe: Recipe = RECIPE,
    state: State = State.WAITING,
    execution: Execution = RARELY,
) -> tuple[State, int]:
    """Train until so many updates or steps of evaluation of this call; give the steps done."""
    stop = Stop()

    def ask(limit: int) -> Callable[[int], None]:
        return lambda calls: stop.request(state, "preempted") if calls >= limit else None

    if updates == 0:
        stop.request(state, "preempted")
    with after(Session, "advance", ask(updates)), after(Reasoner, "step", ask(solves)) as calls:
        ended = train(recipe, path, execution=execution, stop=stop, job={"id": "7_1"})
    return ended, calls[0]


def checkpointed(path: Path) -> tuple[int, int]:
    content = torch.load(RunFolder(path).checkpoint, weights_only=True)
    return content["counters"]["update"], content["validated"]


@pytest.mark.parametrize("k", range(13))
def test_a_run_stopped_at_any_update_goes_on_to_the_same_bits(
    undisturbed, tmp_path: Path, k: int
) -> None:
    state, _ = run_until(tmp_path, updates=k)
    folder = RunFolder(tmp_path)
    status = folder.status()
    assert state is State.WAITING is folder.state()
    assert status["error"] == {"type": "Stopped", "message": "preempted"}
    assert (status["update"], status["finished_utc"], status["job"]) == (k, None, {"id": "7_1"})
    if k:
        assert checkpointed(tmp_path) == (k, max((u for u in (5, 10) if u < k), default=0))
    assert train(RECIPE, tmp_path, execution=RARELY) is State.COMPLETED
    assert results(tmp_path) == undisturbed(RECIPE)
    assert folder.status()["attempt"] == 2
    assert folder.status()["remarks"] == []


@pytest.mark.parametrize("c", range(1, SOLVES + 1))
def test_an_evaluation_is_left_within_a_step_and_done_again(
    undisturbed, tmp_path: Path, c: int
) -> None:
    state, calls = run_until(tmp_path, solves=c)
    assert calls == c  # not one step more
    assert state is (State.COMPLETED if c == SOLVES else State.WAITING)
    update = (5, 10, 12, 12, 12)[(c - 1) // 3]
    validated = ([0, 5, 10] if c % 3 else [5, 10, 12])[(c - 1) // 3] if c <= 9 else 12
    assert checkpointed(tmp_path) == (update, validated)
    assert train(RECIPE, tmp_path, execution=RARELY) is State.COMPLETED
    assert results(tmp_path) == undisturbed(RECIPE)


@pytest.mark.parametrize("c", [1, 4, 9])
def test_an_evaluation_by_halting_is_left_and_done_again(
    undisturbed, tmp_path: Path, c: int
) -> None:
    state, calls = run_until(tmp_path, solves=c, recipe=HALTED)
    assert (state, calls) == (State.WAITING, c)
    assert train(HALTED, tmp_path, execution=RARELY) is State.COMPLETED
    assert results(tmp_path) == undisturbed(HALTED)


def test_a_run_stopped_again_and_again_ends_in_the_same_bits(undisturbed, tmp_path: Path) -> None:
    """After every update, and three times within one evaluation of each."""
    state, attempts, breaks = State.WAITING, 0, {5: [1, 2, 2], 10: [1, 1, 2], 12: [2, 2, 1]}
    while state is State.WAITING:
        attempts += 1
        update = (RunFolder(tmp_path).status() or {}).get("update", 0)
        steps = breaks[update].pop() if breaks.get(update) else 10**9
        state, _ = run_until(tmp_path, updates=1, solves=steps)
        assert attempts < 50
    assert results(tmp_path) == undisturbed(RECIPE)
    assert attempts == 12 + 9 + 1
    assert breaks == {5: [], 10: [], 12: []}
    assert RunFolder(tmp_path).status()["attempt"] == attempts


@pytest.mark.parametrize("k", [1, 5, 8, 12])
def test_a_kill_after_an_evaluation_and_before_its_checkpoint_loses_nothing(
    undisturbed, tmp_path: Path, k: int
) -> None:
    """The checkpoint in front of the evaluation is the newest; its record must not stay."""
    run_until(tmp_path, updates=k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "save", _killed)
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, tmp_path, execution=RARELY)
    assert checkpointed(tmp_path)[0] == k
    assert records(tmp_path)[-1]["kind"] == "evaluation"
    assert train(RECIPE, tmp_path, execution=RARELY) is State.COMPLETED
    assert results(tmp_path) == undisturbed(RECIPE)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_stop_with_the_last_result_written_is_too_late(tmp_path: Path) -> None:
    stop = Stop()
    with after(Reasoner, "step", lambda c: c == SOLVES and stop.request(State.WAITING, "late")):
        assert train(RECIPE, tmp_path, execution=RARELY, stop=stop) is State.COMPLETED
    assert RunFolder(tmp_path).status()["error"] is None


def test_a_stop_before_the_data_is_there_needs_no_checkpoint(tmp_path: Path) -> None:
    assert run_until(tmp_path, updates=0) == (State.WAITING, 0)
    assert not RunFolder(tmp_path).checkpoint.exists()
    assert RunFolder(tmp_path).status()["update"] == 0


def test_a_cancelled_run_says_so_and_can_go_on(undisturbed, tmp_path: Path) -> None:
    state, _ = run_until(tmp_path, updates=3, state=State.CANCELLED)
    folder = RunFolder(tmp_path)
    assert state is State.CANCELLED is folder.state()
    assert folder.status()["finished_utc"] is not None
    assert checkpointed(tmp_path) == (3, 0)
    assert train(RECIPE, tmp_path, execution=EXECUTION) is State.COMPLETED
    assert results(tmp_path) == undisturbed(RECIPE)


def test_a_word_to_cancel_is_heeded_before_any_update_and_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.ask_to_cancel()
    for attempt in (1, 2):  # as of a job that is put back
        assert run_until(tmp_path) == (State.CANCELLED, 0)
        status = folder.status()
        assert (status["update"], status["attempt"]) == (0, attempt)
        assert status["error"]["message"] == "cancelled by hand"
        assert folder.asked_to_cancel()
    assert not folder.metrics_file.exists()
    assert folder.asked_to_cancel(clear=True)
    assert train(RECIPE, tmp_path, execution=EXECUTION) is State.COMPLETED


def test_a_run_told_to_leave_asks_whether_it_is_cancelled(tmp_path: Path) -> None:
    folder, stop = RunFolder(tmp_path), Stop()

    def leave(updates: int) -> None:
        if updates == 3:  # scancel right after the word, which no heartbeat has seen yet
            folder.ask_to_cancel()
            stop.request(State.WAITING, "told to leave by SIGTERM")

    with after(Session, "advance", leave):
        assert train(RECIPE, tmp_path, execution=RARELY, stop=stop) is State.CANCELLED
    status = folder.status()
    assert (status["state"], status["checkpointed"]) == ("cancelled", 3)
    assert status["error"] == {"type": "Stopped", "message": "cancelled by hand"}
    assert folder.asked_to_cancel()


def test_an_attempt_that_ends_before_its_first_update_tells_of_the_checkpoint(
    tmp_path: Path,
) -> None:
    assert run_until(tmp_path, updates=3)[0] is State.WAITING
    assert run_until(tmp_path, updates=0) == (State.WAITING, 0)
    status = RunFolder(tmp_path).status()
    assert (status["update"], status["checkpointed"], status["attempt"]) == (0, 3, 2)
    for path in (RunFolder(tmp_path).checkpoint, RunFolder(tmp_path).previous):
        path.unlink(missing_ok=True)
    with after(Session, "advance", lambda _: 1 / 0), pytest.raises(ZeroDivisionError):
        train(RECIPE, tmp_path, execution=RARELY)
    assert RunFolder(tmp_path).status()["checkpointed"] == 0  # it is lost


def test_the_first_request_stays_but_for_a_cancel() -> None:
    stop = Stop()
    stop.check()
    assert (stop.requested, stop.state) == (False, None)
    stop.request(State.WAITING, "preempted")
    stop.request(State.WAITING, "walltime")
    assert (stop.requested, stop.state, stop.reason) == (True, State.WAITING, "preempted")
    stop.request(State.CANCELLED, "by hand")
    stop.request(State.WAITING, "preempted")
    assert (stop.state, stop.reason) == (State.CANCELLED, "by hand")
    with pytest.raises(Stopped, match="by hand") as told:
        stop.check()
    assert told.value.state is State.CANCELLED


def test_checkpoints_come_by_time_between_records_too(tmp_path: Path) -> None:
    """With a record only every 100 updates."""
    seen = []
    save = Session.save

    def saving(session: Session, *args: Any) -> None:
        save(session, *args)
        seen.append((session.counters.update, session.validated))

    seldom = EXECUTION.model_copy(update={"log_every": 100})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "save", saving)
        train(RECIPE, tmp_path, execution=seldom)
    # Before an evaluation nothing is gained; after it comes one, and none is written twice.
    after_each = [(u, 0) for u in range(5)] + [(u, 5) for u in range(5, 10)]
    assert seen == [*after_each, (10, 10), (11, 10), (12, 12)]


def test_a_clock_that_is_moved_changes_nothing(
    undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards(datetime):
        years = iter(range(2090, 1970, -1))

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(next(cls.years), 1, 1, tzinfo=tz or UTC)

    monkeypatch.setattr(trm_lab.runs, "datetime", Backwards)
    for update, when in ((3, 0), (4, 4_000_000_000)):
        assert run_until(tmp_path, updates=update)[0] is State.WAITING
        for path in tmp_path.rglob("*"):
            os.utime(path, (when, when))
    assert train(RECIPE, tmp_path, execution=EXECUTION) is State.COMPLETED
    assert results(tmp_path) == undisturbed(RECIPE)
    status = RunFolder(tmp_path).status()
    assert status["finished_utc"] < status["started_utc"]
    assert 0 < status["seconds"] < 60


SCRIPT = """
import sys
from tests.training.tiny_run import EXECUTION, tiny_recipe
from trm_lab.training import train
from trm_lab.training.stop import stopped_by_signals
recipe = tiny_recipe(train={"updates": 60})
with stopped_by_signals() as stop:
    state = train(recipe, sys.argv[1], execution=EXECUTION, stop=stop,
                  progress=lambda r: print(r["update"], flush=True))
print(state.value)
"""
LONGER = tiny_recipe(train={"updates": 60})


def signalled(path: Path, line: int, *signals: int) -> tuple[int, str]:
    """Train in a process that gets signals after so many records; give its end and last line."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."},
    ) as process:  # fmt: skip
        for _ in range(line):
            assert process.stdout.readline(), process.stderr.read()
        for number in signals:
            process.send_signal(number)
        rest = process.stdout.read().splitlines()
        return process.wait(), rest[-1] if rest else ""


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_three_times_at_random_ends_in_the_same_bits(
    undisturbed, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    for attempt in range(1, 4):
        end, _ = signalled(tmp_path, draw.randrange(1, 12), signal.SIGKILL)
        status = RunFolder(tmp_path).status()
        assert (end, status["state"], status["attempt"]) == (-signal.SIGKILL, "running", attempt)
    assert train(LONGER, tmp_path, execution=EXECUTION) is State.COMPLETED
    assert results(tmp_path) == undisturbed(LONGER)


@pytest.mark.parametrize(
    ("number", "state"), [(signal.SIGTERM, State.WAITING), (signal.SIGINT, State.CANCELLED)]
)
def test_a_signal_stops_a_run_with_a_checkpoint(
    undisturbed, tmp_path: Path, number: int, state: State
) -> None:
    assert signalled(tmp_path, 5, number) == (0, state.value)
    status = RunFolder(tmp_path).status()
    assert status["error"]["type"] == "Stopped"
    assert checkpointed(tmp_path)[0] == status["update"] < 60
    assert train(LONGER, tmp_path, execution=EXECUTION) is State.COMPLETED
    assert results(tmp_path) == undisturbed(LONGER)
