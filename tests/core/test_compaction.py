"""Evaluation to the halting step: what is frozen, and that compaction changes no bit."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.instances import FEED_FORWARDS, HALTINGS, INITIALS, MIXERS, RULES, name
from tests.contract.tiny import GEOMETRY, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    AsTrained,
    Attention,
    Confidence,
    Fixed,
    Implicit,
    Model,
    Oracle,
    Residual,
    TokenMLP,
    WholeProgram,
)
from trm_lab.config.halting import Halting
from trm_lab.core.compaction import _sizes, evaluate_when_halted
from trm_lab.core.core import Core, Readout
from trm_lab.core.evaluation import Outcomes, evaluate
from trm_lab.core.halting import Shown, wants_to_halt
from trm_lab.core.losses import score
from trm_lab.core.reasoner import Reasoner
from trm_lab.core.recursion import Recursion
from trm_lab.parameters import Geometry

STEPS = (1, 2, 4, 7)
LAWS = tuple(rule for rule in dict.fromkeys((*HALTINGS, *RULES)) if not isinstance(rule, AsTrained))


def puzzles(
    count: int, geometry: Geometry = GEOMETRY, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    batch = tiny_batch(count, geometry, seed)
    return batch.inputs.numpy().astype(np.uint8), batch.labels.numpy()


def same(a: Outcomes, b: Outcomes) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Outcomes))


def spread(model: Model, dtype: torch.dtype, geometry: Geometry = GEOMETRY) -> Any:
    """A core and weights whose halting logits are spread, so that puzzles halt at many steps."""
    core, weights = Core(model, geometry, dtype), tiny_weights(model, dtype, geometry)
    weights.params["head.halt.weight"].data.mul_(2)
    weights.params["head.halt.weight"].data[1] = 0
    weights.params["head.halt.bias"].data.copy_(torch.tensor([-1.0, -0.8]))
    return core, weights


@pytest.mark.parametrize("rule", LAWS, ids=name)
@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("carried", [True, False])
@torch.no_grad()
def test_every_puzzle_stops_at_its_own_step_and_stays_as_it_is(
    rule: Halting | Oracle, compact: bool, carried: bool
) -> None:
    core, weights = spread(tiny_model(), torch.float64)
    inputs, labels = puzzles(13)
    # Some puzzles are right at some step.
    known = core.step(
        weights.params, core.start(weights, 13), torch.tensor(inputs.astype(np.int32)),
        weights.table[torch.zeros(13, dtype=torch.int64)],
    )  # fmt: skip
    labels[::3] = known.logits.argmax(-1)[::3]
    found = evaluate_when_halted(
        Reasoner(core, weights, carried), inputs, labels,
        rule=rule, steps=STEPS, batch=8, compact=compact,
    )  # fmt: skip
    ends = []
    for i in range(13):
        start = z = core.start(weights, 1)
        target = torch.tensor(labels[i : i + 1])
        seen = {}
        for step in range(1, 8):
            before = z[1]
            z, logits, halt = core.step(
                weights.params, z, torch.tensor(inputs[i : i + 1].astype(np.int32)),
                weights.table[:1],
            )  # fmt: skip
            right, share = score(logits, target)
            seen[step] = (bool(right), float(share), float(halt[0, 0]))
            if bool(wants_to_halt(rule, Shown(halt, before, z[1], right))) or step == 7:
                ends.append(step)
                break
            z = z if carried else start
        for k, step in enumerate(STEPS):
            right, share, logit = seen[min(step, ends[-1])]
            assert found.solved[i, k] == right
            assert found.cell_accuracy[i, k] == pytest.approx(share, rel=1e-6)
            assert found.halt_logit[i, k] == pytest.approx(logit, rel=1e-5)
    assert found.halting_step.tolist() == ends
    if not carried:
        assert set(ends) <= {1, 7}
    elif not isinstance(rule, Fixed):
        assert len(set(ends)) > 1


@pytest.mark.parametrize("carried", [True, False])
def test_a_rule_that_never_halts_is_all_steps(carried: bool) -> None:
    core, weights = spread(tiny_model(), torch.float32)
    inputs, labels = puzzles(16)
    what = (Reasoner(core, weights, carried), inputs, labels)
    plain = evaluate(*what, steps=STEPS, batch=8)
    found = evaluate_when_halted(*what, rule=Fixed(), steps=STEPS, batch=8)
    assert same(plain, found)
    assert plain.halting_step.tolist() == [7] * 16


@pytest.mark.slow
@settings(max_examples=25)
@given(
    mixer=st.sampled_from(MIXERS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    rule=st.sampled_from([rule for rule in LAWS if not isinstance(rule, Fixed)]),
    count=st.integers(1, 40),
    batch=st.integers(1, 33),
    width=st.sampled_from([4, 12, 16, 32]),
    cells=st.sampled_from([4, 9, 16]),
    ffn=st.sampled_from(FEED_FORWARDS),
    initial=st.sampled_from(INITIALS),
    carried=st.booleans(),
)
def test_compaction_changes_no_bit(
    mixer: Any, dtype: torch.dtype, rule: Any, count: int, batch: int, width: int, cells: int,
    ffn: Any, initial: Any, carried: bool,
) -> None:  # fmt: skip
    if isinstance(mixer, Attention) and mixer.head_dim is None and width % (2 * mixer.heads):
        width = 4 * mixer.heads
    geometry = GEOMETRY._replace(cells=cells)
    whole = WholeProgram()  # asked for by a learned start
    model = tiny_model(mixer=mixer, width=width, ffn=ffn, initial=initial, gradient=whole)
    core, weights = spread(model, dtype, geometry)
    what = (Reasoner(core, weights, carried), *puzzles(count, geometry))
    options = {"rule": rule, "steps": (1, 3, 16), "batch": batch}
    kept = evaluate_when_halted(*what, **options, compact=False)
    found = evaluate_when_halted(*what, **options)
    assert same(kept, found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("mixer", [Attention(heads=2), TokenMLP()], ids=lambda m: m.kind)
@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("batch", [8, 32])
def test_compaction_changes_no_bit_of_an_implicit_solve(
    batch: int, memory: int, mixer: Any, dtype: torch.dtype
) -> None:
    """A puzzle's solve depends neither on its companions nor on how many there are."""
    solver = Implicit(memory=memory, tolerance=0.05)
    core, weights = spread(tiny_model(mixer=mixer, T=4, gradient=solver), dtype)
    what = (Reasoner(core, weights, carried=True), *puzzles(37))
    plain = evaluate(*what, steps=(2,))
    middle = Confidence(threshold=float(np.median(plain.halt_logit)))
    options = {"rule": middle, "steps": (1, 6), "batch": batch}
    kept = evaluate_when_halted(*what, **options, compact=False)
    found = evaluate_when_halted(*what, **options)
    assert same(kept, found)
    assert len(set(found.halting_step)) > 1


def test_compaction_evaluates_the_first_of_several_hypotheses() -> None:
    core, weights = spread(tiny_model(), torch.float32)
    other = torch.ones(2, core.model.width)
    several = replace(weights, others=(other,) * len(weights.initial))
    assert several.hypotheses == 3
    inputs, labels = puzzles(37)
    found = [
        evaluate_when_halted(
            Reasoner(core, w, carried=True), inputs, labels,
            rule=Confidence(), steps=(1, 6), batch=16, compact=compact,
        )
        for w, compact in ((weights, True), (several, True), (several, False))
    ]  # fmt: skip
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    assert len(set(found[0].halting_step)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mixer", [Attention(), TokenMLP()], ids=lambda m: m.kind)
def test_compaction_changes_no_bit_at_the_size_of_sudoku(mixer: Any, dtype: torch.dtype) -> None:
    """Widths and positions at which float64 products do depend on left-over rows."""
    geometry = Geometry(81, 11, 1)
    model = tiny_model(mixer=mixer, width=128, layers=1, round_to=32, n=1, T=1)
    core, weights = spread(model, dtype, geometry)
    what = (Reasoner(core, weights, carried=True), *puzzles(21, geometry))
    plain = evaluate(*what, steps=(2,))
    middle = Confidence(threshold=float(np.median(plain.halt_logit)))
    options = {"rule": middle, "steps": (1, 6), "batch": 16}
    kept = evaluate_when_halted(*what, **options, compact=False)
    found = evaluate_when_halted(*what, **options)
    assert same(kept, found)
    assert len(set(found.halting_step)) > 1


class Counting(Core):
    """Counts the rows that it is given."""

    rows = 0

    def recur(self, params: Any, z: Any, *rest: Any, **options: Any) -> Recursion:
        Counting.rows += len(z[0])
        return super().recur(params, z, *rest, **options)


def test_halted_puzzles_cost_nothing() -> None:
    model = tiny_model()
    _, weights = spread(model, torch.float32)
    inputs, labels = puzzles(200)
    Counting.rows = 0
    found = evaluate_when_halted(
        Reasoner(Counting(model, GEOMETRY, torch.float32), weights, carried=True), inputs, labels,
        rule=Confidence(), steps=(16,), batch=32,
    )  # fmt: skip
    assert found.halting_step.mean() < 8
    # Each size of the tail is tried once beside the one before: 16 and 8 rows more.
    lower = found.halting_step.sum()
    assert lower <= Counting.rows <= lower + 16 * 32


def test_a_size_that_gives_other_bits_is_not_used() -> None:
    class Fickle(Counting):
        """Rounds otherwise below 32 rows."""

        def read(self, params: Any, z: Any) -> Readout:
            read = super().read(params, z)
            return read if len(z[0]) >= 32 else read._replace(halt=read.halt * (1 + 1e-6))

    model = tiny_model()
    _, weights = spread(model, torch.float32)
    core = Fickle(model, GEOMETRY, torch.float32)
    what = (Reasoner(core, weights, carried=True), *puzzles(150))
    options = {"rule": Confidence(), "steps": (1, 16), "batch": 128}
    kept = evaluate_when_halted(*what, **options, compact=False)
    found = evaluate_when_halted(*what, **options)
    assert same(kept, found)


def test_sizes_are_multiples_of_eight() -> None:
    assert _sizes(100) == [104, 56, 32, 16, 8]
    assert _sizes(128) == [128, 64, 32, 16, 8]
    assert _sizes(1) == [8]


def test_a_threshold_trades_steps_for_accuracy() -> None:
    core, weights = spread(tiny_model(), torch.float64)
    what = (Reasoner(core, weights, carried=True), *puzzles(60))
    means = [
        evaluate_when_halted(*what, rule=rule, steps=(16,)).halting_step.mean()
        for rule in (
            *(Confidence(threshold=t) for t in (-9.0, -1.0, 0.5, 99.0)),
            *(Residual(threshold=t) for t in (99.0, 0.5, 0.1, 1e-12)),
        )
    ]
    assert means[0] == 1
    assert means[:4] == sorted(means[:4])
    assert means[3] == means[7] == 16
    assert means[4:] == sorted(means[4:])
    assert 1 < means[1] < 16


@torch.no_grad()
def test_where_a_puzzle_s_bits_depend_on_its_slot_no_slot_is_filled_before_its_batch_is_done() -> (
    None
):
    """Products over six numbers round by row in MKL; elsewhere this is one case more."""
    model = tiny_model(width=8, mixer=Attention(heads=3, head_dim=2))
    core, weights = spread(model, torch.float32)
    reasoner = Reasoner(core, weights, carried=True)
    inputs, labels = puzzles(45)
    compact, whole = (
        evaluate_when_halted(
            reasoner, inputs, labels, rule=Confidence(), steps=STEPS, batch=16, compact=compact
        )
        for compact in (True, False)
    )
    assert len(set(whole.halting_step)) > 1
    assert same(compact, whole)
