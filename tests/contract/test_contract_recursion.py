"""Every layout with every gradient scheme: values, graph and gradients."""

from collections import Counter
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.contract.instances import LAYOUTS, TRUNCATIONS, name
from tests.contract.tiny import (
    GEOMETRY,
    leaves,
    random_latents,
    recurse,
    scalar,
    tiny_batch,
    tiny_model,
    tiny_step,
    tiny_weights,
)
from trm_lab.config import (
    Attention,
    Gradient,
    Implicit,
    LastCycles,
    LastUpdates,
    Layout,
    Looped,
    Mixer,
    Model,
    Phantom,
    RandomTruncation,
    TokenMLP,
    WholeProgram,
)
from trm_lab.core.core import Core, Readout

BOTH_MIXERS = (Attention(heads=1), TokenMLP())

layouts = st.sampled_from(LAYOUTS)
schemes = st.one_of(
    st.builds(LastUpdates, k=st.integers(1, 20)),
    st.builds(LastCycles, c=st.integers(1, 5)),
    st.just(WholeProgram()),
    st.sampled_from([g for g in TRUNCATIONS if isinstance(g, RandomTruncation)]),
)


@settings(max_examples=80)
@given(
    layout=layouts,
    gradient=schemes,
    mixer=st.sampled_from(BOTH_MIXERS),
    n=st.integers(1, 4),
    T=st.integers(1, 3),
)
def test_values_do_not_depend_on_the_gradient_scheme(
    layout: Layout, gradient: Gradient, mixer: Mixer, n: int, T: int
) -> None:
    model = tiny_model(layout=layout, mixer=mixer, n=n, T=T)
    ours, _ = tiny_step(model.model_copy(update={"gradient": gradient}))
    whole, _ = tiny_step(model.model_copy(update={"gradient": WholeProgram()}))
    assert all(torch.equal(a, b) for a, b in zip(ours.z, whole.z, strict=True))
    assert torch.equal(ours.logits, whole.logits)
    assert torch.equal(ours.halt, whole.halt)


@pytest.mark.parametrize("mixer", [Attention(heads=4), TokenMLP()], ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_do_not_depend_on_the_gradient_scheme_at_a_usual_width(
    mixer: Mixer, dtype: torch.dtype
) -> None:
    """Larger products take other routes through the GEMM library than tiny ones."""
    model = tiny_model(mixer=mixer, width=64, layers=2, n=2, T=2, round_to=64, expansion=4.0)
    ours, _ = tiny_step(model, dtype)
    whole, _ = tiny_step(model.model_copy(update={"gradient": WholeProgram()}), dtype)
    assert torch.equal(ours.logits, whole.logits)
    assert torch.equal(ours.halt, whole.halt)


class Counted(torch.autograd.Function):
    """Copies its input and counts the passes in both directions."""

    passes: ClassVar[Counter[str]] = Counter()

    @staticmethod
    def forward(_ctx: Any, h: Tensor) -> Tensor:
        Counted.passes["forward"] += 1
        return h.clone()

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        Counted.passes["backward"] += 1
        return gradient.clone()


@settings(max_examples=150)
@given(layout=layouts, gradient=schemes, n=st.integers(1, 8), T=st.integers(1, 4))
def test_graph_updates_is_the_number_of_updates_that_backward_visits(
    layout: Layout, gradient: Gradient, n: int, T: int
) -> None:
    model = Model(layout=layout, gradient=gradient, n=n, T=T)
    Counted.passes.clear()
    weight = torch.ones((), requires_grad=True)
    z = tuple(torch.full((1, 1, 1), 0.1 * i) for i in range(len(layout.latents)))
    x = torch.ones(1, 1, 1, requires_grad=True)

    def net(index: int, h: Tensor) -> Tensor:
        assert 0 <= index < layout.nets
        return Counted.apply(weight * h) / (len(layout.latents) + 2)

    answer = recurse(z, x, net, layout.cycle(n), T, gradient)[layout.answer]
    answer.sum().backward()
    updates = T * (n + (not isinstance(layout, Looped)))
    assert Counted.passes["forward"] == updates
    longest = gradient.of(gradient.high) if isinstance(gradient, RandomTruncation) else gradient
    model = model.model_copy(update={"gradient": longest})
    assert Counted.passes["backward"] == model.graph_updates
    assert model.effective_depth == model.layers * updates


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        (LastUpdates(k=1), 1),
        (LastUpdates(), 2),
        (LastUpdates(k=99), 21),
        (LastCycles(), 7),
        (LastCycles(c=2), 14),
        (LastCycles(c=99), 21),
        (WholeProgram(), 21),
        (RandomTruncation(low=1, high=7), 4),
        (RandomTruncation(low=1, high=3, unit="cycle", ratio=0.5), (4 * 7 + 2 * 14 + 21) / 7),
        (RandomTruncation(low=20, high=23), (20 + 21 + 21 + 21) / 4),
        (Phantom(), 7),
        (Phantom(k=99), 21),
        (Implicit(), 7),
    ],
    ids=str,
)
def test_graph_updates_at_the_published_size(gradient: Gradient, expected: float) -> None:
    assert Model(n=6, T=3, gradient=gradient).graph_updates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mixer", BOTH_MIXERS, ids=name)
@pytest.mark.parametrize("gradient", TRUNCATIONS, ids=name)
@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_a_truncated_gradient_is_that_of_the_tail_from_detached_latents(
    layout: Layout, gradient: Gradient, mixer: Mixer
) -> None:
    model = tiny_model(layout=layout, gradient=gradient, mixer=mixer, n=2, T=2)
    weights, batch = tiny_weights(model, torch.float64), tiny_batch(3)
    rows = weights.rows(batch.identifiers).requires_grad_()
    core = Core(model, GEOMETRY, torch.float64)
    start, params = random_latents(core, 3), weights.params
    ours = core.step(params, start, batch.inputs, rows)
    found = torch.autograd.grad(scalar(ours), leaves(weights, rows), allow_unused=True)

    program = list(layout.cycle(2)) * 2
    cut = gradient.cut(len(program) // 2, 2)
    net = core.net(params)
    with torch.no_grad():
        x = core.embed(params, batch.inputs, rows)
        z = recurse(start, x, net, program[:cut], 1, WholeProgram())
    x = core.embed(params, batch.inputs, rows)
    z = recurse(z, x, net, program[cut:], 1, WholeProgram())
    y = z[layout.answer]
    logits = (y @ params["head.logits"].T)[:, model.slots :]
    halt = y[:, 0] @ params["head.halt.weight"].T + params["head.halt.bias"]
    expected = torch.autograd.grad(
        scalar(Readout(z, logits, halt)), leaves(weights, rows), allow_unused=True
    )
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            # Not bit for bit: the heads are written differently here.
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mixer", BOTH_MIXERS, ids=name)
@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_the_whole_program_gradient_is_the_derivative(layout: Layout, mixer: Mixer) -> None:
    model = tiny_model(layout=layout, gradient=WholeProgram(), mixer=mixer, n=2, T=2)
    weights, batch = tiny_weights(model, torch.float64), tiny_batch(2)
    core, rows = Core(model, GEOMETRY, torch.float64), weights.rows(batch.identifiers)
    names, z = list(weights.params), random_latents(core, 2)

    def readout(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        params = dict(zip(names, tensors[:-1], strict=True))
        out = core.step(params, z, batch.inputs, tensors[-1])
        return out.logits, out.halt

    inputs = (*weights.params.values(), rows.requires_grad_())
    assert torch.autograd.gradcheck(readout, inputs, fast_mode=True)


def test_a_truncated_gradient_is_not_the_derivative() -> None:
    """Guard of the test above: gradcheck does tell a truncation from the derivative."""
    model = tiny_model(gradient=LastCycles(), n=1, T=2)
    weights, batch = tiny_weights(model, torch.float64), tiny_batch(2)
    core, rows = Core(model, GEOMETRY, torch.float64), weights.rows(batch.identifiers)
    z, key = random_latents(core, 2), "net.0.layer.0.ffn.down"

    def readout(weight: Tensor) -> Tensor:
        return core.step({**weights.params, key: weight}, z, batch.inputs, rows).logits

    assert not torch.autograd.gradcheck(readout, weights.params[key], raise_exception=False)


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_a_cycle_has_n_plus_one_updates_and_ends_by_writing_the_answer(layout: Layout) -> None:
    looped = isinstance(layout, Looped)
    sees_x = looped or getattr(layout, "x_in_answer", getattr(layout, "x_in_last", False))
    for n in (1, 2, 7):
        cycle = layout.cycle(n)
        assert len(cycle) == n + (not looped)
        assert cycle[-1].write == layout.answer
        assert cycle[-1].inject == sees_x
        assert all(update.inject and update.net == 0 for update in cycle[:-1])
        assert {update.net for update in cycle} == set(range(layout.nets))
        assert all(0 <= update.write < len(layout.latents) for update in cycle)
    assert len(set(layout.latents)) == len(layout.latents)


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_counts_are_arguments_of_a_step(layout: Layout) -> None:
    model = tiny_model(layout=layout, n=1, T=1)
    weights, batch = tiny_weights(model), tiny_batch(2)
    rows = weights.rows(batch.identifiers)
    z = random_latents(Core(model, GEOMETRY), 2)
    deeper = model.model_copy(update={"n": 3, "T": 2, "gradient": WholeProgram()})
    core = Core(model, GEOMETRY)
    moved = core.recur(weights.params, z, batch.inputs, rows, n=3, T=2, gradient=WholeProgram())
    a = core.read(weights.params, moved.z)
    b = Core(deeper, GEOMETRY).step(weights.params, z, batch.inputs, rows)
    assert torch.equal(a.logits, b.logits)
    ga, gb = (
        torch.autograd.grad(scalar(out), [*weights.params.values()], allow_unused=True)
        for out in (a, b)
    )
    assert all(torch.equal(p, q) for p, q in zip(ga, gb, strict=True))
    evaluated = core.step(weights.params, z, batch.inputs, rows, n=3, T=2)
    assert torch.equal(a.logits, evaluated.logits)
    shallow = core.step(weights.params, z, batch.inputs, rows)
    assert not torch.equal(a.logits, shallow.logits)
