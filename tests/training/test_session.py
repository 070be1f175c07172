"""The state of a run in memory: what one update changes, and what a checkpoint brings back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny_run import HRM, TOKEN_MLP, tiny_recipe
from trm_lab.config import Recipe
from trm_lab.errors import ConfigError
from trm_lab.tasks.build import build
from trm_lab.training.optimizers import rate
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream

CPU = torch.device("cpu")


def fresh(recipe: Recipe) -> Session:
    data = build(recipe.task)
    return Session.fresh(recipe, Stream(data, recipe.train.batch, recipe.seed, CPU), CPU)


def state(session: Session) -> list[torch.Tensor]:
    """Every tensor that a session holds."""
    weights = session.weights
    held = [*weights.params.values(), *weights.initial, *(session.shadow or {}).values()]
    held += [t for t in (weights.table, session.shadow_table) if t is not None]
    for moments in session.optimizer.state_dict()["state"].values():
        held += moments.values()
    carry = session.carry
    return [*held, *carry.z, carry.steps, carry.halted, *carry.batch, session.sums, session.started]


@pytest.mark.parametrize(
    "recipe", [tiny_recipe(), tiny_recipe(TOKEN_MLP), tiny_recipe(HRM)], ids=["att", "mlp", "hrm"]
)
@pytest.mark.parametrize("k", [0, 1, 4])
def test_a_session_saved_at_any_update_goes_on_bit_for_bit(
    recipe: Recipe, k: int, tmp_path: Path
) -> None:
    """Between two records too, with sums still open."""
    first = fresh(recipe)
    for _ in range(k):
        first.advance()
    first.save(tmp_path / "last.pt", "data")
    second = fresh(recipe)
    second.restore(tmp_path / "last.pt", "data")
    for session in (first, second):
        for _ in range(4):
            session.advance()
    for a, b in zip(state(first), state(second), strict=True):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
    assert first.record() == second.record()
    assert first.counters == second.counters
    assert first.since == second.since == k + 4


def test_a_checkpoint_decides_all_that_it_holds(tmp_path: Path) -> None:
    """Not what a fresh session happens to draw: another torch may draw otherwise."""
    path = tmp_path / "last.pt"
    source = fresh(tiny_recipe())
    for _ in range(3):
        source.advance()
    source.best = {"update": 2, "puzzle_accuracy": 0.25}
    source.save(path, "data")

    def shift(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return ~value if value.dtype == torch.bool else value + 1
        if isinstance(value, dict):
            return {k: shift(v) for k, v in value.items()}
        return [shift(v) for v in value] if isinstance(value, list) else value

    content = torch.load(path, weights_only=True)
    kept = {k: content[k] for k in ("recipe_id", "seed", "fingerprint", "counters", "since")}
    torch.save(shift(content) | kept, path)
    target = fresh(tiny_recipe())
    target.restore(path, "data")
    for ours, theirs in zip(state(target), state(source), strict=True):
        assert torch.equal(ours, shift(theirs))
    assert target.best == source.best
    assert target.counters == source.counters


@pytest.mark.parametrize(
    ("field", "value"), [("recipe_id", "00"), ("seed", 9), ("fingerprint", "other")]
)
def test_a_checkpoint_of_something_else_is_refused(field: str, value: Any, tmp_path: Path) -> None:
    path, recipe = tmp_path / "last.pt", tiny_recipe()
    fresh(recipe).save(path, "data")
    torch.save({**torch.load(path, weights_only=True), field: value}, path)
    ours = {"recipe_id": recipe.id, "seed": 0, "fingerprint": "data"}[field]
    session = fresh(recipe)
    before = [t.clone() for t in state(session)]
    with pytest.raises(ConfigError) as error:
        session.restore(path, "data")
    assert str(error.value) == (
        f"{path}: checkpoint has {field} {value}, this run {ours}; the recipe or its data changed "
        "since; give another folder"
    )
    assert all(torch.equal(a, b) for a, b in zip(state(session), before, strict=True))


def test_a_checkpoint_of_the_first_release_is_read(tmp_path: Path) -> None:
    """It knows of no averaged table."""
    path, first, second = tmp_path / "last.pt", fresh(tiny_recipe()), fresh(tiny_recipe())
    for _ in range(2):
        first.advance()
    first.save(path, "data")
    content = torch.load(path, weights_only=True)
    del content["ema_table"]
    torch.save(content, path)
    second.restore(path, "data")
    for session in (first, second):
        session.advance()
    assert all(torch.equal(a, b) for a, b in zip(state(first), state(second), strict=True))
    assert second.shadow_table is None


def test_the_averaged_table_follows_its_formula_and_is_what_evaluation_sees() -> None:
    plain, averaged = fresh(tiny_recipe()), fresh(tiny_recipe(train={"ema_table": True}))
    expected = torch.zeros_like(averaged.weights.table)
    for _ in range(5):
        plain.advance()
        averaged.advance()
        expected = 0.9 * expected + 0.1 * averaged.weights.table
    torch.testing.assert_close(averaged.shadow_table, expected, rtol=1e-6, atol=0)
    assert averaged.evaluated.table is averaged.shadow_table
    assert averaged.evaluated.params is averaged.shadow
    # Training itself knows nothing of the average.
    assert torch.equal(plain.weights.table, averaged.weights.table)
    assert plain.evaluated.table is plain.weights.table
    assert plain.tensors()["ema_table"] is None


def test_one_update_moves_what_it_should_by_the_scheduled_rate() -> None:
    recipe = tiny_recipe(train={"schedule": {"kind": "constant", "warmup": 4}})
    session = fresh(recipe)
    before = {k: p.detach().clone() for k, p in session.weights.params.items()}
    initial = [v.clone() for v in session.weights.initial]
    session.advance()
    factor = rate(recipe.train.schedule, 1, 12)
    assert factor == 0.25
    (group,) = session.optimizer.param_groups
    assert group["lr"] == 0.01 * factor
    # Sign descent from a zero table: each entry moves by the scheduled rate of the table.
    table = session.weights.table
    assert table.abs().unique().tolist() == pytest.approx([0.01 * factor])
    for name, p in session.weights.params.items():
        moved = (p - before[name]).abs().max().item()
        # atan2 of moments after one step is at most pi / 4 times the corrected rate of 10 x.
        assert 0 < moved <= 0.01 * factor * (10 * 0.0997 + 0.1 * before[name].abs().max() + 1e-4)
    assert all(torch.equal(a, b) for a, b in zip(session.weights.initial, initial, strict=True))
    for name, kept in session.shadow.items():
        expected = before[name] + 0.1 * (session.weights.params[name].detach() - before[name])
        torch.testing.assert_close(kept, expected, rtol=1e-6, atol=1e-8)


def test_the_gradient_is_that_of_the_mean_over_slots() -> None:
    """Twice the batch of the same puzzles gives the same gradient."""
    found = []
    for repeat in (1, 2):
        recipe = tiny_recipe(
            task={"train": 4, "augment": False},
            train={"batch": 4 * repeat, "dtype": "float64"},
            supervision={"exploration": 0.0},
        )
        session = fresh(recipe)
        rows = torch.arange(4 * repeat) % 4
        whole = session.stream.draw(1)
        order = whole.inputs[:4].long() @ torch.arange(16)
        assert len(order.unique()) == 4
        kept = type(whole)(*(part[rows] for part in whole))
        session.stream.draw = lambda _, kept=kept: kept
        session.advance()
        found.append({k: p.grad for k, p in session.weights.params.items()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-9, atol=1e-13)


def test_records_are_means_since_the_last_one() -> None:
    session = fresh(tiny_recipe(supervision={"halting": "fixed", "exploration": 0.0}))
    for _ in range(3):
        session.advance()
    record = session.record()
    assert record["mean_steps"] == 3
    assert record["halt_loss"] == 0
    assert record["loss"] == record["lm_loss"]
    assert 0 <= record["cell_accuracy"] <= 1
    assert session.counters.examples == 4
    session.advance()
    record = session.record()
    # Nothing halted at the fourth update, so there is nothing to score.
    assert [record[k] for k in ("cell_accuracy", "puzzle_accuracy", "mean_steps")] == [None] * 3
    assert session.counters.examples == 8
    assert not session.sums.any()
    assert session.since == 4
