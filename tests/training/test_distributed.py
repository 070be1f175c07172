"""A run on two processes is the run of one, up to the order of sums.

float64 shows that the two do the same: what differs then is rounding alone, some 1e-15, and a sum,
a draw or a decision over half of the slots instead of all would be far off.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from tests.property.test_every_axis import drawn, puzzles
from tests.training.processes import Group, together, values
from tests.training.tiny_run import EXECUTION, HRM, TOKEN_MLP, records, results, tiny_recipe
from trm_lab.config import Recipe
from trm_lab.config.loops import SampledDepth
from trm_lab.core.reasoner import Reasoner
from trm_lab.errors import ConfigError, RankLostError
from trm_lab.runs import RunFolder, State
from trm_lab.tasks.build import build
from trm_lab.training import Execution, train
from trm_lab.training.distributed import SOLO, joined
from trm_lab.training.session import Session
from trm_lab.training.stop import Stop
from trm_lab.training.stream import Stream

pytestmark = pytest.mark.slow

SELDOM = EXECUTION.model_copy(update={"checkpoint_seconds": 1e9})
CPU = torch.device("cpu")
WIDE = {"train": {"dtype": "float64"}}
FIVE = {"train": {"updates": 5}}
ONE = {"train": {"updates": 1, "schedule": {"kind": "constant", "warmup": 0}}, "eval": {"every": 1}}
RECIPES = {
    "attention": tiny_recipe(WIDE),
    "token_mlp": tiny_recipe(WIDE, TOKEN_MLP),
    "hrm": tiny_recipe(WIDE, HRM, model={"layout": {"nets": 2}}),
    "halts soon": tiny_recipe(
        WIDE, supervision={"halting": {"kind": "residual", "threshold": 0.95}}
    ),
    "averaged table": tiny_recipe(WIDE, train={"ema_table": True}),
    "muon": tiny_recipe(WIDE, train={"optimizer": {"kind": "muon", "rest": {"kind": "adamw"}}}),
    "two steps": tiny_recipe(WIDE, supervision={"loop": {"kind": "slot_carry", "steps": 2}}),
    "linked steps": tiny_recipe(
        WIDE,
        model={"gradient": "whole_program"},
        supervision={"loop": {"kind": "slot_carry", "steps": 2, "linked": True}},
    ),
    "leaves when all": tiny_recipe(
        WIDE,
        supervision={
            "loop": {"kind": "full_loop", "leave": "all"},
            "halting": {"kind": "residual", "threshold": 0.95},
            "exploration": 0.0,
        },
    ),
    "leaves when any": tiny_recipe(
        WIDE,
        supervision={
            "loop": {"kind": "full_loop", "leave": "any"},
            "halting": {"kind": "residual", "threshold": 0.95},
            "exploration": 0.0,
        },
    ),
    "implicit": tiny_recipe(
        # Without memory: Anderson's mixing would blow rounding up.
        WIDE,
        model={"gradient": {"kind": "implicit", "tolerance": 0.3, "memory": 0}, "T": 4},
    ),
    "depth per puzzle": tiny_recipe(
        WIDE, supervision={"depth": {"kind": "sampled", "high": 4, "per": "puzzle"}}
    ),
    "random hypotheses": tiny_recipe(
        WIDE, model={"initial": "random"}, supervision={"hypotheses": 2}
    ),
    "evaluates when halted": tiny_recipe(WIDE, eval={"policy": {"kind": "when_halted"}}),
}


def trained(group: Group, recipe: Recipe, path: Path, execution: Execution = EXECUTION) -> State:
    return train(recipe, path, execution=execution, group=group)


def weights(path: Path) -> dict[str, np.ndarray]:
    return load_file(RunFolder(path).weights)


def apart(path: Path, other: Path) -> float:
    """Give the largest distance between two runs' weights: trained, averaged, table, starts."""
    a, b = weights(path), weights(other)
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def moved(recipe: Recipe, path: Path) -> float:
    """Give how far the trained weights are from where they began."""
    start = Session.fresh(recipe, Stream(build(recipe.task), recipe.train.batch, 0, CPU), CPU)
    found = weights(path)
    return max(
        float(np.abs(found[f"raw/{name}"] - p.detach().numpy()).max())
        for name, p in start.weights.params.items()
    )


def assert_same_records(path: Path, other: Path) -> None:
    ours, theirs = records(path), records(other)
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            # Residuals of solves are differences, with fewer digits than the weights.
            wanted = pytest.approx(b[name], rel=1e-7) if isinstance(value, float) else b[name]
            assert value == wanted, name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """Train a recipe in one process, once."""
    known: dict[Recipe, Path] = {}

    def run(recipe: Recipe) -> Path:
        if recipe not in known:
            known[recipe] = tmp_path_factory.mktemp("alone")
            assert train(recipe, known[recipe], execution=EXECUTION) is State.COMPLETED
        return known[recipe]

    return run


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_are_one(alone, tmp_path: Path, name: str) -> None:
    recipe, path = RECIPES[name], tmp_path / "run"
    assert values(together(trained, recipe, path)) == [State.COMPLETED] * 2
    assert apart(path, alone(recipe)) < 1e-9
    assert_same_records(path, alone(recipe))
    for which in ("last", "best"):
        with (
            np.load(RunFolder(path).evaluation(which)) as ours,
            np.load(RunFolder(alone(recipe)).evaluation(which)) as theirs,
        ):
            for key in set(ours.files) - {"halt_logit"}:
                assert (ours[key] == theirs[key]).all() or ours[key].dtype.kind == "f", key
            assert ours["halt_logit"] == pytest.approx(theirs["halt_logit"], abs=1e-6)
    status = RunFolder(path).status()
    assert status["environment"]["processes"] == 2
    ours, theirs = (
        torch.load(RunFolder(p).checkpoint, weights_only=True)["carry"]
        for p in (path, alone(recipe))
    )
    assert torch.equal(ours["steps"], theirs["steps"])
    assert torch.equal(ours["halted"], theirs["halted"])
    assert all(torch.equal(ours["batch"][k], theirs["batch"][k]) for k in theirs["batch"])
    for a, b in zip(ours["z"], theirs["z"], strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "recipe",
    [
        tiny_recipe(FIVE),
        tiny_recipe(FIVE, HRM),
        tiny_recipe(ONE, TOKEN_MLP),
        tiny_recipe(FIVE, supervision={"halting": {"kind": "residual", "threshold": 0.95}}),
    ],
    ids=["attention", "hrm", "token_mlp", "halting"],
)
def test_in_float32_the_weights_agree_to_1e_5(alone, tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    assert values(together(trained, recipe, path)) == [State.COMPLETED] * 2
    assert apart(path, alone(recipe)) <= 1e-5
    # The weights have come much further than that.
    assert moved(recipe, path) > 1e-3


def test_recipes_in_which_slots_differ_are_among_them(alone) -> None:
    """Guard: decisions over the whole batch are only tried where the halves differ."""
    steps = {
        name: [r["mean_steps"] for r in records(alone(RECIPES[name])) if r["kind"] == "train"]
        for name in ("halts soon", "leaves when all", "leaves when any")
    }
    assert any(s is not None and s % 1 for s in steps["halts soon"])
    assert steps["leaves when all"] != steps["leaves when any"]


def sums(group: Group, seeds: list[int]) -> list[Any]:
    """Give the record and the weights of drawn recipes after three updates."""
    found = []
    for seed in seeds:
        recipe = widened(seed)
        stream = Stream(puzzles(recipe.task), recipe.train.batch, recipe.seed, CPU, group)
        session = Session.fresh(recipe, stream, CPU)
        for _ in range(3):
            session.advance()
        table = [] if session.weights.table is None else [session.weights.table]
        held = [p.detach().numpy() for p in [*session.weights.params.values(), *table]]
        found.append((session.record(), held))
    return found


def widened(seed: int) -> Recipe:
    """Draw a recipe across all axes, with four slots and in float64."""
    data = drawn(seed).model_dump()
    data["train"] |= {"batch": 4, "dtype": "float64"}
    return Recipe.model_validate(data)


def test_recipes_drawn_across_all_axes_are_the_same_on_two_processes() -> None:
    """Whatever is summed or decided over slots, in any combination of settings."""
    seeds = list(range(40))
    first, second = values(together(sums, seeds))
    for seed, one, other, whole in zip(seeds, first, second, sums(SOLO, seeds), strict=True):
        assert one[0] == other[0], seed
        assert all((a == b).all() for a, b in zip(one[1], other[1], strict=True)), seed
        for name, value in whole[0].items():
            wanted = value if value is None else pytest.approx(value, rel=1e-6, abs=1e-12)
            assert one[0][name] == wanted, (seed, name)
        for a, b in zip(one[1], whole[1], strict=True):
            assert a == pytest.approx(b, rel=0, abs=1e-7), seed


@pytest.mark.parametrize("size", [2, 4])
def test_processes_draw_what_one_draws(size: int) -> None:
    recipe = tiny_recipe(train={"batch": 8})
    data = build(recipe.task)
    whole = Stream(data, 8, 3, CPU)
    parts = [Stream(data, 8, 3, CPU, Group(rank, size)) for rank in range(size)]
    for step in (1, 2, 9):
        batches = [part.draw(step) for part in parts]
        for name, wanted in whole.draw(step)._asdict().items():
            assert torch.equal(torch.cat([getattr(b, name) for b in batches]), wanted)
        keys = torch.cat([part.keys(step) for part in parts])
        assert torch.equal(keys, whole.keys(step))
        for together_ in (False, True):
            least = [part.minimum(step, 0.5, 6, together=together_) for part in parts]
            assert torch.equal(torch.cat(least), whole.minimum(step, 0.5, 6, together=together_))
        depth = SampledDepth(high=9, per="puzzle")
        for part in parts:
            assert (part.cycles(step, depth) == whole.cycles(step, depth)).all()


@pytest.mark.parametrize(
    ("batch", "size", "told"),
    [
        (10, 4, "10 slots cannot be shared equally by 4 processes; use 2 or 5 processes, or a "
                "batch of 8 or 12"),
        (7, 2, "7 slots cannot be shared equally by 2 processes; use 1 or 7 processes, or a "
               "batch of 6 or 8"),
        (3, 4, "3 slots cannot be shared equally by 4 processes; use 3 processes, or a batch of 4"),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_shared_equally_is_refused(
    tmp_path: Path, batch: int, size: int, told: str
) -> None:
    recipe = tiny_recipe(train={"batch": batch})
    with pytest.raises(ConfigError) as error:
        train(recipe, tmp_path, group=Group(0, size))
    assert str(error.value) == f"train.batch: {told}"
    assert list(tmp_path.iterdir()) == []


# Checkpoints.


def broken_off(group: Group, recipe: Recipe, path: Path, k: int) -> None:
    """Train until update k is done in memory, then leave on all processes."""
    advance = Session.advance

    def stopping(session: Session) -> None:
        advance(session)
        if session.counters.update == k:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "advance", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, path, execution=EXECUTION, group=group)


@pytest.mark.parametrize("name", ["attention", "random hypotheses", "implicit"])
def test_two_processes_interrupted_and_resumed_end_in_the_same_bits(
    tmp_path: Path, name: str
) -> None:
    recipe, path, whole = RECIPES[name], tmp_path / "run", tmp_path / "whole"
    assert values(together(trained, recipe, whole)) == [State.COMPLETED] * 2
    for k in (4, 9):
        values(together(broken_off, recipe, path, k))
        assert RunFolder(path).state() is State.CANCELLED
    assert values(together(trained, recipe, path)) == [State.COMPLETED] * 2
    assert results(path) == results(whole)
    assert RunFolder(path).status()["attempt"] == 3


def test_one_process_goes_on_from_two_and_four_from_one(alone, tmp_path: Path) -> None:
    recipe, path = RECIPES["random hypotheses"], tmp_path / "run"
    values(together(broken_off, recipe, path, 4))
    broken_off(SOLO, recipe, path, 9)
    assert values(together(trained, recipe, path, size=4)) == [State.COMPLETED] * 4
    assert apart(path, alone(recipe)) < 1e-9
    assert_same_records(path, alone(recipe))


def saved(group: Group, recipe: Recipe, path: Path, k: int, until: int) -> Any:
    """Go on from a checkpoint, if there is one, to update k and write one; record at `until`."""
    data = build(recipe.task)
    session = Session.fresh(recipe, Stream(data, recipe.train.batch, 0, CPU, group), CPU)
    if group.leading(path.exists):
        session.restore(path, data.fingerprint)
    while session.counters.update < k:
        session.advance()
    session.save(path, data.fingerprint)
    while session.counters.update < until:
        session.advance()
    return session.record()


def test_a_checkpoint_between_two_records_keeps_the_sums_of_all(tmp_path: Path) -> None:
    recipe, path, other = RECIPES["implicit"], tmp_path / "two", tmp_path / "one"
    wanted = saved(SOLO, recipe, other, 2, 5)
    first, second = values(together(saved, recipe, path, 2, 5))
    assert first == second == pytest.approx(wanted, rel=1e-9)
    assert values(together(saved, recipe, path, 2, 5)) == [first, second]
    assert saved(SOLO, recipe, path, 3, 5) == pytest.approx(wanted, rel=1e-9)
    (third, _) = values(together(saved, recipe, path, 4, 5))
    assert third == pytest.approx(wanted, rel=1e-9)


def differing(group: Group, recipe: Recipe, path: Path) -> None:
    session = Session.fresh(recipe, Stream(build(recipe.task), 4, 0, CPU, group), CPU)
    if not group.first:
        p = session.weights.params["embed.tokens"].data
        p[0, 0] = torch.nextafter(p[0, 0], torch.tensor(9.0, dtype=p.dtype))
    session.save(path, "")


def test_weights_that_have_come_apart_are_never_saved(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for kind, text in together(differing, RECIPES["attention"], path):
        assert (kind, text) == (
            "RuntimeError",
            "the weights of the 2 processes are no longer the same; give the run machines of one "
            "kind",
        )
    assert not path.exists()


def asked(group: Group, recipe: Recipe, path: Path, rank: int, k: int, place: str) -> Any:
    """Train; one rank alone is asked to stop, after update k or within the evaluation of it."""
    stop, advance, solve = Stop(), Session.advance, Reasoner.step
    reached = [0]

    def advancing(session: Session) -> None:
        advance(session)
        reached[0] = session.counters.update
        if place == "update" and (group.rank, session.counters.update) == (rank, k):
            stop.request(State.WAITING, "preempted")

    def solving(*arguments: Any) -> Any:
        if place == "evaluation" and (group.rank, reached[0]) == (rank, k):
            stop.request(State.WAITING, "preempted")
        return solve(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "advance", advancing)
        patch.setattr(Reasoner, "step", solving)
        state = train(recipe, path, execution=SELDOM, stop=stop, group=group)
    return state, reached[0]


@pytest.mark.parametrize(
    ("rank", "k", "place"), [(1, 7, "update"), (0, 3, "update"), (1, 5, "evaluation")]
)
def test_a_stop_that_reaches_one_rank_stops_all_after_the_same_update(
    tmp_path: Path, rank: int, k: int, place: str
) -> None:
    recipe, path, whole = RECIPES["attention"], tmp_path / "run", tmp_path / "whole"
    told = together(asked, recipe, path, rank, k, place)
    assert values(told) == [(State.WAITING, k)] * 2
    assert torch.load(RunFolder(path).checkpoint, weights_only=True)["counters"]["update"] == k
    assert RunFolder(path).status()["error"] == {"type": "Stopped", "message": "preempted"}
    assert values(together(trained, recipe, path)) == [State.COMPLETED] * 2
    assert values(together(trained, recipe, whole)) == [State.COMPLETED] * 2
    assert results(path) == results(whole)


# What goes wrong.


def struck(group: Group, recipe: Recipe, path: Path, rank: int, how: int | str) -> State:
    """Train; one rank is hit by a signal, or fails, after update 7."""
    advance = Session.advance

    def stopping(session: Session) -> None:
        advance(session)
        if group.rank == rank and session.counters.update == 7:
            if isinstance(how, str):
                raise MemoryError(how)
            os.kill(os.getpid(), how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "advance", stopping)
        return train(recipe, path, execution=EXECUTION, group=group)


def test_a_rank_that_dies_ends_the_run_at_once(alone, tmp_path: Path) -> None:
    recipe, path = RECIPES["attention"], tmp_path / "run"
    began = time.monotonic()
    first, second = together(struck, recipe, path, 1, signal.SIGKILL, timeout=100)
    assert time.monotonic() - began < 50  # its connections break: nobody waits for the time-out
    assert second == ("died", -signal.SIGKILL)
    assert first[0] == "RankLostError"
    assert first[1].startswith(
        "rank 0 of 2, summing: another process died or did not answer in time ("
    )
    status = RunFolder(path).status()
    assert (status["state"], status["error"]["type"]) == ("lost", "RankLostError")
    # It goes on from its checkpoint.
    assert values(together(trained, recipe, path)) == [State.COMPLETED] * 2
    assert apart(path, alone(recipe)) < 1e-9


def test_the_death_of_the_first_rank_ends_the_others(tmp_path: Path) -> None:
    first, second = together(
        struck, RECIPES["attention"], tmp_path / "run", 0, signal.SIGKILL, timeout=100
    )
    assert first == ("died", -signal.SIGKILL)
    assert second[0] == "RankLostError"


def test_what_a_rank_failed_of_is_told_by_the_others(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first, second = together(struck, RECIPES["attention"], path, 1, "no memory left")
    assert second == ("MemoryError", "no memory left")
    assert first[1].startswith("rank 0 of 2, summing: rank 1: MemoryError: no memory left (")
    assert "rank 1: MemoryError: no memory left" in RunFolder(path).status()["error"]["message"]


def test_a_rank_that_stands_still_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first, second = together(struck, RECIPES["attention"], path, 1, signal.SIGSTOP, timeout=3)
    assert (first[0], second[0]) == ("RankLostError", "stopped")
    assert RunFolder(path).state() is State.LOST


def test_ranks_that_never_come_are_not_waited_for_for_ever(monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_PORT", str(port))
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RankLostError) as error, joined("cpu", timeout=1):
        pass
    told = "rank 0 of 2: the processes did not find each other within 1 s ("
    assert str(error.value).startswith(told)
    assert not torch.distributed.is_initialized()


def test_divergence_is_seen_by_all(tmp_path: Path) -> None:
    recipe = tiny_recipe(train={
        "optimizer": {"lr": 1e6}, "schedule": {"kind": "constant", "warmup": 0},
    })  # fmt: skip
    assert values(together(trained, recipe, tmp_path)) == [State.DIVERGED] * 2
    assert RunFolder(tmp_path).status()["error"]["message"] == "loss is nan by update 4"
    # A result: running again does nothing.
    assert values(together(trained, recipe, tmp_path)) == [State.DIVERGED] * 2


def own(group: Group, recipes: list[Recipe], path: Path) -> State:
    return train(recipes[group.rank], path, execution=EXECUTION, group=group)


def test_errors_of_one_rank_are_raised_by_all(tmp_path: Path) -> None:
    recipe, path = tiny_recipe(), tmp_path / "run"
    RunFolder(path).claim(recipe.with_seed(1))
    for kind, text in together(trained, recipe, path):
        assert kind == "ConfigError"
        assert text.endswith("seed 0; give another folder")
    for kind, text in together(own, [recipe, recipe.with_seed(2)], tmp_path / "other"):
        assert (kind, text) == (
            "ConfigError",
            "seed: rank 0 has 0 and rank 1 has 2; all processes of a run need the same",
        )
    held = RunFolder(tmp_path / "busy").lock()
    for kind, _ in together(trained, recipe, tmp_path / "busy"):
        assert kind == "RunBusyError"
    held.release()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: must be a whole number"),
        ({"WORLD_SIZE": "2"}, "RANK=: must be a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "0"},
         "MASTER_ADDR: not set, and WORLD_SIZE=2 needs it; start by torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
         "RANK=2: must be 0 to 1, as WORLD_SIZE=2"),
    ],
)  # fmt: skip
def test_an_incomplete_environment_is_refused(
    monkeypatch, environment: dict[str, str], told: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error, joined("cpu"):
        pass
    assert str(error.value) == told


def test_without_an_environment_there_is_one_process(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as group:
        assert group == SOLO


# The command line.


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "trm_lab", *arguments]
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        command, capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": root}
    )


def test_torchrun_trains_and_one_process_speaks(alone, tmp_path: Path) -> None:
    recipe, file, out = tiny_recipe(FIVE), tmp_path / "recipe.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(recipe.as_dict()))
    done = torchrun("train", str(file), "--out", str(out))
    assert done.returncode == 0, done.stderr
    accuracy = "validation puzzle accuracy 0.000 after 1 steps, 0.000 after 3 steps"
    loss = f"loss {records(out)[0]['loss']:.4f}"
    wanted = [f"update 5: {loss}", f"update 5: {accuracy}", f"{out}: completed"]
    assert done.stdout.splitlines() == wanted
    assert apart(out, alone(recipe)) <= 1e-5


def test_torchrun_refuses_once(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(tiny_recipe(train={"batch": 3}).as_dict()))
    done = torchrun("train", str(file), "--out", str(tmp_path / "run"))
    assert done.returncode == 1  # torchrun's own
    assert done.stdout == ""
    told = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert told == [
        "error: train.batch: 3 slots cannot be shared equally by 2 processes; use 1 or 3 "
        "processes, or a batch of 2 or 4"
    ]
