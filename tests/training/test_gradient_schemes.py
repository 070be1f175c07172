"""Gradient schemes in training: draws, records of the solver, the residual penalty."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.contract.tiny import GEOMETRY, leaves, tiny_batch, tiny_model, tiny_weights
from tests.training.tiny_run import EXECUTION, records, results, tiny_recipe
from trm_lab.config import (
    Implicit,
    LastCycles,
    LastUpdates,
    RandomTruncation,
    Supervision,
    WholeProgram,
)
from trm_lab.config.remarks import twins
from trm_lab.core.core import Core
from trm_lab.core.supervision import Outcome, empty_carry, refill, supervise
from trm_lab.results.folders import TRAIN, read_run
from trm_lab.runs import RunFolder
from trm_lab.tasks.build import build
from trm_lab.training import train
from trm_lab.training.stream import Stream

SOLVER = ("residual", "iterations", "unconverged")
IMPLICIT = {"model": {"T": 4, "gradient": {"kind": "implicit", "backward_iterations": 6}}}
RANDOM = {"model": {"gradient": {"kind": "random_truncation", "high": 6, "ratio": 0.7}}}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    data = build(tiny_recipe().task, tmp_path_factory.mktemp("cache"))
    return Stream(data, 4, 7, torch.device("cpu"))


def test_the_truncation_of_an_update_follows_its_law(stream: Stream) -> None:
    scheme = RandomTruncation(low=2, high=5, ratio=0.5)
    draws = [stream.gradient(update, scheme) for update in range(1, 2001)]
    assert draws == [stream.gradient(update, scheme) for update in range(1, 2001)]
    assert {type(g) for g in draws} == {LastUpdates}
    counts = np.bincount([g.k for g in draws if isinstance(g, LastUpdates)])[2:]
    expected = np.array([8, 4, 2, 1]) / 15
    np.testing.assert_allclose(counts / 2000, expected, atol=4 * np.sqrt(0.25 / 2000))
    cycles = stream.gradient(1, RandomTruncation(low=3, high=3, unit="cycle"))
    assert cycles == LastCycles(c=3)
    assert stream.gradient(1, WholeProgram()) == WholeProgram()
    other = Stream(stream.data, 4, 8, torch.device("cpu"))
    assert draws != [other.gradient(update, scheme) for update in range(1, 2001)]


def test_every_length_of_a_random_truncation_has_the_same_values(tmp_path: Path) -> None:
    """The first update's loss does not depend on the draw; what follows does."""
    found = {}
    for name, model in (("one", {"low": 1, "high": 1}), ("six", {"low": 6, "high": 6})):
        gradient = {"kind": "random_truncation", **model}
        recipe = tiny_recipe(model={"gradient": gradient}, train={"updates": 4})
        once = EXECUTION.model_copy(update={"log_every": 1})
        train(recipe, tmp_path / name, execution=once)
        found[name] = [r["loss"] for r in records(tmp_path / name) if r["kind"] == "train"]
    assert found["one"][0] == found["six"][0]
    assert found["one"][1:] != found["six"][1:]


@pytest.mark.slow
@pytest.mark.parametrize("layer", [IMPLICIT, RANDOM], ids=["implicit", "random_truncation"])
def test_a_run_goes_on_bit_for_bit(layer: dict[str, Any], tmp_path: Path) -> None:
    recipe = tiny_recipe(layer)
    train(recipe, tmp_path / "whole", execution=EXECUTION)

    class Stop(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record["update"] >= 7:
            raise Stop

    rare = EXECUTION.model_copy(update={"log_every": 3})
    train(recipe, tmp_path / "rare", execution=rare)
    with pytest.raises(Stop):
        train(recipe, tmp_path / "two", execution=EXECUTION, progress=stop)
    train(recipe, tmp_path / "two", execution=EXECUTION)
    whole, two, rare_results = (results(tmp_path / n) for n in ("whole", "two", "rare"))
    assert whole == two
    assert {k: v for k, v in rare_results.items() if k != "records"} == {
        k: v for k, v in whole.items() if k != "records"
    }


@pytest.mark.slow
def test_residual_iterations_and_failures_of_the_solver_are_recorded(tmp_path: Path) -> None:
    def trained(folder: str, **gradient: Any) -> dict[str, Any]:
        layer = {"model": {"T": 4, "gradient": {"kind": "implicit", **gradient}}}
        train(tiny_recipe(layer), tmp_path / folder, execution=EXECUTION)
        made = [r for r in records(tmp_path / folder) if r["kind"] == "train"]
        for record in made:
            assert set(SOLVER) < set(record)
        solver = RunFolder(tmp_path / folder).status()["solver"]
        assert solver == {
            k: v for k, v in made[-1].items() if k.removeprefix("backward_") in SOLVER
        }
        return dict(made[-1])

    hopeless = trained("hopeless", tolerance=1e-9, backward_tolerance=1e-9, backward_iterations=3)
    assert hopeless["unconverged"] == 1
    assert hopeless["backward_unconverged"] == 1
    assert hopeless["iterations"] == 4
    assert hopeless["backward_iterations"] == 3
    assert hopeless["residual"] > 1e-9
    collected = dict(zip(TRAIN, read_run(tmp_path / "hopeless").train.values[-1], strict=True))
    for name in ("residual", "iterations", "unconverged", "backward_unconverged"):
        assert collected[name] == hopeless[name]
    easy = trained("easy", tolerance=10.0, backward_tolerance=10.0)
    assert easy["unconverged"] == 0
    assert easy["backward_unconverged"] == 0
    assert easy["iterations"] == 2
    assert easy["backward_iterations"] == 1
    free = trained("free", backward_iterations=0)
    assert free["backward_residual"] is None
    assert free["backward_unconverged"] == 0


def test_other_runs_have_no_solver_to_tell_of(tmp_path: Path) -> None:
    train(tiny_recipe(), tmp_path, execution=EXECUTION)
    assert all(not set(SOLVER) & set(record) for record in records(tmp_path))
    assert RunFolder(tmp_path).status()["solver"] is None


def supervised(gradient: Any, penalty: float) -> tuple[Outcome, list[torch.Tensor], Any]:
    model = tiny_model(gradient=gradient, T=3)
    weights, batch = tiny_weights(model, torch.float64), tiny_batch(3)
    core, rows = Core(model, GEOMETRY, torch.float64), weights.rows(batch.identifiers)
    assert rows is not None
    carry = refill(core, weights, empty_carry(core, weights, batch), batch)
    minimum = torch.zeros(3, dtype=torch.int32)
    setting = Supervision(residual_penalty=penalty)
    _, outcome = supervise(core, weights.params, setting, carry, rows.requires_grad_(), minimum)
    grads = torch.autograd.grad(
        outcome.loss, leaves(weights, rows), allow_unused=True, materialize_grads=True
    )
    moved = core.recur(weights.params, carry.z, batch.inputs, rows)
    before, after = (torch.cat([v.flatten(1) for v in z], 1) for z in (moved.before, moved.after))
    change = (after - before).square().sum(1) / after.square().sum(1)
    extra = torch.autograd.grad(
        change.sum(), leaves(weights, rows), allow_unused=True, materialize_grads=True
    )
    return outcome, list(grads), (change.detach(), extra)


@pytest.mark.parametrize("gradient", [LastUpdates(), LastCycles(), WholeProgram(), Implicit()])
def test_the_residual_penalty_adds_the_relative_change_of_the_last_cycle(gradient: Any) -> None:
    plain, grads, (change, extra) = supervised(gradient, 0.0)
    outcome, penalised, _ = supervised(gradient, 0.3)
    assert change.shape == (3,)
    assert (change > 1e-6).all()
    torch.testing.assert_close(outcome.loss - plain.loss, 0.3 * change.sum())
    assert outcome.residual is not None
    torch.testing.assert_close(outcome.residual, change.sqrt().sum())
    assert (plain.residual is None) == (not isinstance(gradient, Implicit))
    for a, b, c in zip(penalised, grads, extra, strict=True):
        torch.testing.assert_close(a, b + 0.3 * c, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_penalty_lowers_the_residual(tmp_path: Path) -> None:
    final = {}
    for weight in (1e-6, 30.0):
        recipe = tiny_recipe(supervision={"residual_penalty": weight}, train={"updates": 60})
        train(recipe, tmp_path / str(weight), execution=EXECUTION)
        final[weight] = [r for r in records(tmp_path / str(weight)) if r["kind"] == "train"][-1]
    assert final[30.0]["residual"] < 0.8 * final[1e-6]["residual"]
    assert "iterations" not in final[30.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kind": "last_cycles", "c": 5}, "whole_program"),
        ({"kind": "last_cycles", "c": 1}, {"kind": "last_updates", "k": 3}),
        ({"kind": "phantom", "k": 1, "damping": 1.0}, {"kind": "last_cycles", "c": 1}),
        ({"kind": "phantom", "k": 2}, {"kind": "phantom", "k": 9}),
        ({"kind": "random_truncation", "low": 6, "high": 9}, "whole_program"),
    ],
)
def test_recipes_called_the_same_computation_train_to_the_same_bits(
    tmp_path: Path, one: Any, other: Any
) -> None:
    pair = [tiny_recipe(model={"gradient": gradient}) for gradient in (one, other)]
    assert pair[0].id != pair[1].id
    assert twins(pair) == [[0, 1]]
    for name, recipe in zip("ab", pair, strict=True):
        train(recipe, tmp_path / name, execution=EXECUTION)
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() == (
        tmp_path / "b" / "weights.safetensors"
    ).read_bytes()
    assert records(tmp_path / "a") == records(tmp_path / "b")
