"""Loops over supervision steps: what each does to slots, gradients and draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.training.test_resume import Interrupted
from tests.training.tiny_run import EXECUTION, results, tiny_recipe
from trm_lab.accounting import account, step_flops
from trm_lab.config import Recipe, SampledDepth
from trm_lab.config.test_time import Rollouts, Subject
from trm_lab.core.core import Core
from trm_lab.core.halting import halting_losses
from trm_lab.core.losses import puzzle_losses, score
from trm_lab.core.supervision import refill, supervise
from trm_lab.runs import RunFolder, State
from trm_lab.tasks.build import build
from trm_lab.training import train
from trm_lab.training.diagnose import diagnose_run
from trm_lab.training.optimizers import average, build_optimizer, rate, set_rates, sign_sgd
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream
from trm_lab.training.test_time import evaluate_run
from trm_lab.training.update import work

WHOLE = {"model": {"gradient": "whole_program"}}
LINKED = {"supervision": {"loop": {"kind": "slot_carry", "steps": 2, "linked": True}}}
CURRICULUM = [{"until": 0.3, "n": 1, "T": 1, "N_sup": 1}, {"until": 0.6, "T": 3}]
SOON = {"kind": "implicit", "tolerance": 0.5, "backward_tolerance": 0.5}
"""Solves that end at different cycles, before the last."""
RECIPES = {
    "two steps": tiny_recipe(supervision={"loop": {"kind": "slot_carry", "steps": 2}}),
    "linked": tiny_recipe(WHOLE, LINKED),
    "full loop": tiny_recipe(supervision={"loop": "full_loop"}),
    "full loop, any": tiny_recipe(supervision={"loop": {"kind": "full_loop", "leave": "any"}}),
    "no carry": tiny_recipe(supervision={"loop": "no_carry"}),
    "weights": tiny_recipe(supervision={"step_weights": {"kind": "geometric", "ratio": 0.5}}),
    "last only": tiny_recipe(supervision={"step_weights": "last_only"}),
    "curriculum": tiny_recipe(supervision={"curriculum": CURRICULUM}),
    "sampled": tiny_recipe(supervision={"depth": {"kind": "sampled", "high": 3}}),
    "sampled per puzzle, two steps": tiny_recipe(
        supervision={
            "depth": {"kind": "sampled", "high": 3, "per": "puzzle"},
            "loop": {"kind": "slot_carry", "steps": 2},
        }
    ),
    "random truncation, two steps": tiny_recipe(
        model={"gradient": {"kind": "random_truncation", "high": 6}},
        supervision={"loop": {"kind": "slot_carry", "steps": 2}},
    ),
    "implicit, looked ahead": tiny_recipe(
        model={"T": 12, "gradient": SOON},
        supervision={
            "halting": "q_learning",
            "hypotheses": 2,
            "loop": {"kind": "slot_carry", "steps": 2},
        },
    ),
    "implicit, curriculum": tiny_recipe(
        model={"T": 12, "gradient": {**SOON, "memory": 0}},
        supervision={"curriculum": CURRICULUM},
    ),
}


def fresh(recipe: Recipe) -> Session:
    cpu = torch.device("cpu")
    session = Session.fresh(recipe, Stream(build(recipe.task), recipe.train.batch, 0, cpu), cpu)
    # Heads that say something, so that slots halt at different steps.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key in ("head.halt.weight", "head.halt.bias"):
            session.weights.params[key].normal_(generator=generator)
        session.weights.table.normal_(generator=generator)
    return session


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_loop_resumes_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Broken off between the supervision steps of an update, and after one."""
    recipe = RECIPES[name]
    plain, broken = tmp_path / "plain", tmp_path / "broken"
    assert train(recipe, plain, execution=EXECUTION) is State.COMPLETED
    from trm_lab.training import update

    calls = [0]

    def stopping(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] in (10, 13):
            raise Interrupted
        return supervise(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(update, "supervise", stopping)
        for _ in range(2):
            with pytest.raises(Interrupted):
                train(recipe, broken, execution=EXECUTION)
    assert train(recipe, broken, execution=EXECUTION) is State.COMPLETED
    assert results(broken) == results(plain)
    assert RunFolder(broken).status()["attempt"] == 3


def test_two_steps_sum_their_gradients_and_refill_between() -> None:
    recipe = tiny_recipe(
        supervision={"loop": {"kind": "slot_carry", "steps": 2}}, train={"dtype": "float64"}
    )
    session = fresh(recipe)
    for _ in range(3):
        session.advance()
    weights, carry = session.weights, session.carry
    found = work(recipe, session.core, weights, session.stream, carry, 4)
    params = list(weights.params.values())
    total, rows_of = [torch.zeros_like(p) for p in params], []
    halted = []
    for step in (7, 8):
        halted.append(carry.halted.sum())
        carry = refill(session.core, weights, carry, session.stream.draw(step))
        rows = weights.rows(carry.batch.identifiers).requires_grad_()
        minimum = session.stream.minimum(step, 0.5, 3)
        carry, outcome = supervise(
            session.core, weights.params, recipe.supervision, carry, rows, minimum
        )
        grads = torch.autograd.grad(outcome.loss / 4, [*params, rows], allow_unused=True)
        total = [a + b for a, b in zip(total, grads, strict=False)]
        rows_of.append(grads[-1])
    assert all(torch.equal(a, b) for a, b in zip(found.grads, total, strict=True))
    assert torch.equal(found.row_grads, torch.cat(rows_of))
    assert found.started == sum(halted)
    assert all(torch.equal(a, b) for a, b in zip(found.carry.z, carry.z, strict=True))


@pytest.mark.parametrize("gradient", ["whole_program", {"kind": "phantom", "k": 9}], ids=str)
def test_a_linked_gradient_is_that_of_the_unrolled_steps(gradient: Any) -> None:
    """Two steps written out in float64, with the slots that halt between them refilled."""
    reaching = {"model": {"gradient": gradient}}
    recipe = tiny_recipe(reaching, LINKED, train={"dtype": "float64"})
    session = fresh(recipe)
    for _ in range(3):
        session.advance()
    weights, core = session.weights, session.core
    carry = session.carry._replace(
        steps=torch.tensor([2, 0, 1, 0], dtype=torch.int32),
        halted=torch.tensor([False, False, False, True]),
    )
    found = work(recipe, core, weights, session.stream, carry, 4)
    apart = work(
        tiny_recipe(reaching, supervision={"loop": {"kind": "slot_carry", "steps": 2}},
                    train={"dtype": "float64"}),
        core, weights, session.stream, carry, 4,
    )  # fmt: skip
    params = list(weights.params.values())
    z, steps, halted, batch = carry
    loss, leaves, was = 0.0, [], []
    for step in (7, 8):
        new = session.stream.draw(step)
        was.append(halted)
        mask = halted[:, None, None]
        start = [v.expand_as(old) for v, old in zip(weights.initial, z, strict=True)]
        z = [torch.where(mask, s, old) for s, old in zip(start, z, strict=True)]
        inputs = torch.where(halted[:, None], new.inputs, batch.inputs)
        labels = torch.where(halted[:, None], new.labels, batch.labels)
        batch = batch._replace(inputs=inputs, labels=labels)
        steps = torch.where(halted, 0, steps) + 1
        leaves.append(weights.rows(batch.identifiers).requires_grad_())
        z, logits, halt = core.step(weights.params, tuple(z), inputs, leaves[-1])
        correct, _ = score(logits, labels)
        stop, _ = halting_losses(recipe.supervision.halting, halt, correct, None)
        lm = puzzle_losses(recipe.supervision.loss, logits, labels)
        loss = loss + (lm.sum() + 0.5 * stop.sum()) / 4
        minimum = session.stream.minimum(step, 0.5, 3)
        halted = (steps >= 3) | ((halt[:, 0] > 0) & (steps >= minimum))
    grads = torch.autograd.grad(loss, [*params, *leaves], allow_unused=True)
    # The second step has both carried and refilled slots.
    assert 0 < was[1].sum() < 4
    for ours, theirs in zip(found.grads, grads, strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.row_grads, torch.cat(grads[-2:]), rtol=1e-10, atol=1e-14)
    assert any(not torch.allclose(a, b) for a, b in zip(found.grads, apart.grads, strict=True))
    assert not any(latent.requires_grad for latent in found.carry.z)


@pytest.mark.parametrize("leave", ["all", "any"])
def test_a_full_loop_is_the_pseudo_code_of_the_paper(leave: str) -> None:
    """Bit for bit over several mini-batches: weights, averages, table and optimiser."""
    recipe = tiny_recipe(
        supervision={"loop": {"kind": "full_loop", "leave": leave}, "exploration": 0.0},
        train={"updates": 20, "dtype": "float64"},
    )
    ours = fresh(recipe)
    for _ in range(20):
        ours.advance()
    other = fresh(recipe)
    core, weights, setting = other.core, other.weights, recipe.train
    params = weights.params
    optimizer = build_optimizer(setting.optimizer, params)
    shadow = other.shadow
    update, lengths = 0, []
    while update < 20:
        inputs, labels, identifiers = other.stream.draw(update + 1)
        z = core.start(weights, 4)
        lengths.append(0)
        for _ in range(3):
            if update == 20:
                break
            update += 1
            lengths[-1] += 1
            rows = weights.rows(identifiers).requires_grad_()
            z, logits, q = core.step(params, z, inputs, rows)
            z = tuple(latent.detach() for latent in z)
            correct, _ = score(logits, labels)
            stop, _ = halting_losses(recipe.supervision.halting, q, correct, None)
            loss = puzzle_losses(recipe.supervision.loss, logits, labels).sum() + 0.5 * stop.sum()
            *grads, row_grad = torch.autograd.grad(
                loss / 4, [*params.values(), rows], allow_unused=True
            )
            for p, g in zip(params.values(), grads, strict=True):
                p.grad = g
            factor = rate(setting.schedule, update, 20)
            table = setting.table_optimizer
            sign_sgd(weights.table, identifiers, row_grad, table.lr * factor, table.weight_decay)
            set_rates(optimizer, setting.optimizer, factor)
            optimizer.step()
            average(shadow, params, setting.ema)
            if getattr(q[:, 0] > 0, leave)():
                break
    assert max(lengths) > 1
    assert min(lengths[:-1]) < 3 or leave == "all"
    for name, p in params.items():
        assert torch.equal(p, ours.weights.params[name]), name
        assert torch.equal(shadow[name], ours.shadow[name]), name
    assert torch.equal(weights.table, ours.weights.table)


@pytest.mark.parametrize("leave", ["all", "any"])
def test_exploration_keeps_a_full_loop_as_one(leave: str) -> None:
    """All slots want to halt at once: the batch is left unless its one draw keeps it."""
    recipe = tiny_recipe(
        supervision={
            "loop": {"kind": "full_loop", "leave": leave}, "exploration": 0.5, "N_sup": 8
        },
        train={"batch": 16, "updates": 40},
    )  # fmt: skip
    session = fresh(recipe)
    carry, steps, kept = session.carry, 0, 0
    for step in range(1, 41):
        with torch.no_grad():
            session.weights.params["head.halt.bias"].fill_(1e3)
        carry = work(recipe, session.core, session.weights, session.stream, carry, step).carry
        (least,) = set(session.stream.minimum(step, 0.5, 8, together=True).tolist())
        steps += 1
        left = steps >= least
        assert carry.halted.tolist() == [left] * 16
        kept, steps = kept + (not left), 0 if left else steps
    assert 8 < kept < 32


def test_without_a_carry_every_step_is_a_first_step() -> None:
    """A budget of 3 without a carry is a budget of 1 that sees each puzzle three times."""
    recipe = tiny_recipe(
        supervision={"loop": "no_carry", "halting": "fixed"}, train={"dtype": "float64"}
    )
    one = tiny_recipe(supervision={"N_sup": 1, "halting": "fixed"}, train={"dtype": "float64"})
    ours, other = fresh(recipe), fresh(one)
    draw = Stream.draw.__get__(other.stream)
    # Puzzles of updates 1, 4, 7, 10: those at which the slots of the other run are refilled.
    other.stream.draw = lambda step: draw((step - 1) // 3 * 3 + 1)
    for _ in range(12):
        ours.advance()
        other.advance()
    for name, p in ours.weights.params.items():
        assert torch.equal(p, other.weights.params[name]), name
    assert ours.record()["lm_loss"] == other.record()["lm_loss"]
    assert ours.counters.examples == 4 * 4


def test_a_run_without_a_carry_is_evaluated_without(tmp_path: Path) -> None:
    train(RECIPES["no carry"], tmp_path, execution=EXECUTION)
    with np.load(RunFolder(tmp_path).evaluation("last")) as stored:
        logits = stored["halt_logit"]
    assert np.array_equal(logits[:, 0], logits[:, 1])
    assert np.array_equal(logits[:, 0], logits[:, 2])
    grid = evaluate_run(
        tmp_path, Rollouts(steps=(1, 3), rollouts=(1, 2), noise=0.5), execution=EXECUTION
    ).grid
    assert np.array_equal(grid["residual"][:, 0, 0], grid["residual"][:, 0, 1])
    np.testing.assert_allclose(grid["halt_logit"][:, 0], logits[:, [0, 2]], rtol=1e-4)
    assert not np.isclose(grid["halt_logit"][:, 1, 0], grid["halt_logit"][:, 1, 1]).any()
    data, _ = diagnose_run(tmp_path, Subject(limit=3), iterations=4, execution=EXECUTION)
    assert np.array_equal(data["residual"][:, 0], data["residual"][:, 2])


def test_without_a_carry_going_on_is_worth_what_the_same_step_says() -> None:
    """The next step is this one again, so nothing is looked ahead at and nothing is paid for it."""
    changes = {"supervision": {"halting": "q_learning", "loop": "no_carry", "exploration": 0.0}}
    recipe = tiny_recipe(changes, train={"dtype": "float64"})
    session = fresh(recipe)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        first = work(recipe, session.core, session.weights, session.stream, session.carry, 1)
    assert counter.get_total_flops() == step_flops(recipe, recipe.counts(1))
    (outcome,) = first.outcomes
    assert torch.equal(outcome.look_ahead, outcome.halt.max(-1).values.sigmoid())
    still = first.carry._replace(halted=torch.zeros(4, dtype=torch.bool))
    second = work(recipe, session.core, session.weights, session.stream, still, 2)
    torch.testing.assert_close(second.outcomes[0].halt, outcome.halt, rtol=1e-12, atol=1e-12)
    assert second.carry.steps.tolist() == [2] * 4
    last = second.carry._replace(halted=torch.zeros(4, dtype=torch.bool))
    (third,) = work(recipe, session.core, session.weights, session.stream, last, 3).outcomes
    assert torch.equal(third.look_ahead, third.halt[:, 0].sigmoid())


def test_stages_hold_for_their_updates_and_are_paid_for() -> None:
    recipe = RECIPES["curriculum"]
    assert recipe.spans() == [(4, (1, 1, 1)), (8, (2, 3, 3)), (12, (2, 2, 3))]
    assert [recipe.counts(u)[:2] for u in (1, 4, 5, 8, 9, 12)] == [
        (1, 1), (1, 1), (2, 3), (2, 3), (2, 2), (2, 2),
    ]  # fmt: skip
    session, seen = fresh(recipe), []
    recur = Core.recur

    def watching(core: Core, *args: Any, **options: Any) -> Any:
        seen.append((options["n"], options["T"]))
        return recur(core, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Core, "recur", watching)
        for _ in range(12):
            session.advance()
    assert seen == [(1, 1)] * 4 + [(2, 3)] * 4 + [(2, 2)] * 4
    spent = sum((end - begin) * step_flops(recipe, counts) for begin, (end, counts) in
                zip((0, 4, 8), recipe.spans(), strict=True))  # fmt: skip
    assert session.counters.flops == spent
    assert account(recipe).flops_per_update == pytest.approx(spent / 12, abs=1)


def test_depth_drawn_per_batch_is_paid_for_as_drawn() -> None:
    recipe = RECIPES["sampled"]
    session = fresh(recipe)
    drawn = [int(session.stream.cycles(u, recipe.supervision.depth)[0]) for u in range(1, 13)]
    assert set(drawn) == {1, 2, 3}
    for _ in range(12):
        session.advance()
    counts = recipe.counts(1)
    assert session.counters.flops == sum(step_flops(recipe, counts._replace(T=T)) for T in drawn)
    mean = sum(step_flops(recipe, counts._replace(T=T)) for T in (1, 2, 3)) / 3
    assert account(recipe).flops_per_update == pytest.approx(mean, abs=1)


@pytest.mark.parametrize("gradient", [
    "last_cycles", {"kind": "last_cycles", "c": 2}, {"kind": "last_updates", "k": 2},
    {"kind": "last_updates", "k": 5}, "whole_program",
], ids=str)  # fmt: skip
def test_depth_drawn_per_puzzle_is_that_of_puzzles_run_apart(gradient: Any) -> None:
    depth = {"kind": "sampled", "low": 1, "high": 4, "per": "puzzle"}
    recipe = tiny_recipe(
        model={"gradient": gradient}, supervision={"depth": depth, "halting": "fixed"},
        train={"dtype": "float64"},
    )  # fmt: skip
    session = fresh(recipe)
    weights, stream, core = session.weights, session.stream, session.core
    found = work(recipe, core, weights, stream, session.carry, 1)
    drawn = stream.cycles(1, recipe.supervision.depth)
    assert len(set(drawn.tolist())) > 1
    assert found.flops == step_flops(recipe, recipe.counts(1)._replace(T=int(drawn.max())))
    params = list(weights.params.values())
    batch, loss = stream.draw(1), 0.0
    for i, T in enumerate(drawn.tolist()):
        rows = weights.rows(batch.identifiers[i : i + 1]).requires_grad_()
        read = core.step(weights.params, core.start(weights, 1), batch.inputs[i : i + 1], rows, T=T)
        labels = batch.labels[i : i + 1]
        loss = loss + puzzle_losses(recipe.supervision.loss, read.logits, labels).sum() / 4
        for ours, theirs in zip(found.carry.z, read.z, strict=True):
            torch.testing.assert_close(ours[i], theirs[0], rtol=1e-10, atol=1e-12)
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    for ours, theirs in zip(found.grads, grads, strict=True):
        if theirs is None:
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_weights_of_steps() -> None:
    """The loss of a step is the weighted sum of the losses of its slots; its parts are not."""
    for weights in ({"kind": "geometric", "ratio": 0.5}, "last_only", "uniform"):
        recipe = tiny_recipe(
            supervision={"step_weights": weights, "N_sup": 5}, train={"dtype": "float64"}
        )
        session = fresh(recipe)
        for _ in range(4):
            session.advance()
        carry = session.carry
        worked = work(recipe, session.core, session.weights, session.stream, carry, 5)
        carry = refill(session.core, session.weights, carry, session.stream.draw(5))
        rows = session.weights.rows(carry.batch.identifiers)
        read = session.core.step(session.weights.params, carry.z, carry.batch.inputs, rows)
        correct, _ = score(read.logits, carry.batch.labels)
        stop, _ = halting_losses(recipe.supervision.halting, read.halt, correct, None)
        lm = puzzle_losses(recipe.supervision.loss, read.logits, carry.batch.labels)
        steps = carry.steps + 1
        assert len(set(steps.tolist())) > 1
        weight = {
            "geometric": 0.5 ** (steps.double() - 1),
            "last_only": worked.carry.halted.double(),
            "uniform": torch.ones(4, dtype=torch.float64),
        }[recipe.supervision.step_weights.kind]
        (outcome,) = worked.outcomes
        torch.testing.assert_close(outcome.loss, (weight * (lm + 0.5 * stop)).sum())
        torch.testing.assert_close(outcome.lm_loss, lm.sum())


@pytest.mark.parametrize("name", RECIPES)
def test_the_flops_of_an_update_are_torchs_own_count(name: str) -> None:
    recipe = RECIPES[name]
    session = fresh(recipe)
    for _ in range(4):
        session.advance()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        worked = work(recipe, session.core, session.weights, session.stream, session.carry, 5)
    assert worked.flops == counter.get_total_flops()
    before = session.counters.flops
    session.advance()
    assert session.counters.flops - before == counter.get_total_flops()


def test_depth_and_graph_of_the_loops() -> None:
    base = account(tiny_recipe(WHOLE))
    assert (base.effective_depth, base.max_depth, base.graph_updates) == (6, 18, 6)
    linked = account(RECIPES["linked"])
    assert (linked.max_depth, linked.graph_updates) == (18, 12)
    assert linked.flops_per_update == 2 * base.flops_per_update
    assert account(RECIPES["no carry"]).max_depth == 6


def test_the_cost_of_a_drawn_depth_is_that_of_the_deepest_slot() -> None:
    """Four slots with T in 1..3: the deepest is 3 with probability 1 - (2/3)^4."""
    law = SampledDepth(high=3, per="puzzle").law(4)
    assert law == pytest.approx({1: 1 / 81, 2: 15 / 81, 3: 65 / 81})
    assert SampledDepth(low=2, high=5).law(4) == pytest.approx({2: 0.25, 3: 0.25, 4: 0.25, 5: 0.25})
    recipe = RECIPES["sampled per puzzle, two steps"]
    counts = recipe.counts(1)
    mean = sum(p * step_flops(recipe, counts._replace(T=T)) for T, p in law.items())
    assert account(recipe).flops_per_update == pytest.approx(2 * mean, abs=2)
