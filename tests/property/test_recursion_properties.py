"""What holds for every recursion, drawn at random."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.instances import LAYOUTS
from tests.contract.tiny import recurse
from trm_lab.config import Layout, Looped, ManyLatents, OneLatent, TwoLatents, WholeProgram

counts = st.integers(1, 4)
LAST_SEES_X = {
    TwoLatents(x_in_answer=True): [True],
    OneLatent(x_in_last=True): [True],
    ManyLatents(k=2, x_in_answer=True): [True],
    Looped(): [],
}
"""Whether x is in the update after the n, for the layouts where it is not simply left out."""


def start(layout: Layout) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, Any]:
    generator = torch.Generator().manual_seed(0)
    *z, x = (torch.randn(2, 3, 4, generator=generator) for _ in range(len(layout.latents) + 1))
    weights = torch.randn(2, 4, 4, generator=generator)
    return tuple(z), x, lambda index, h: torch.tanh(h @ weights[index])


@settings(max_examples=60)
@given(layout=st.sampled_from(LAYOUTS), n=counts, first=counts, second=counts)
def test_programs_compose(layout: Layout, n: int, first: int, second: int) -> None:
    """T1 + T2 cycles are T1 cycles, then T2 from where they ended."""
    z, x, net = start(layout)
    cycle, whole = layout.cycle(n), WholeProgram()
    there = recurse(recurse(z, x, net, cycle, first, whole), x, net, cycle, second, whole)
    at_once = recurse(z, x, net, cycle, first + second, whole)
    assert all(torch.equal(a, b) for a, b in zip(there, at_once, strict=True))
    assert not torch.equal(at_once[layout.answer], z[layout.answer])


@settings(max_examples=40)
@given(layout=st.sampled_from(LAYOUTS), n=counts, T=counts)
def test_latents_are_never_changed_in_place(layout: Layout, n: int, T: int) -> None:
    z, x, net = start(layout)
    before = [v.clone() for v in (*z, x)]
    recurse(z, x, net, layout.cycle(n), T, WholeProgram())
    assert all(torch.equal(a, b) for a, b in zip((*z, x), before, strict=True))


@settings(max_examples=40)
@given(layout=st.sampled_from(LAYOUTS), n=counts, T=counts)
def test_a_latent_that_no_update_writes_keeps_its_value(layout: Layout, n: int, T: int) -> None:
    z, x, net = start(layout)
    found = recurse(z, x, net, layout.cycle(n), T, WholeProgram())
    written = {update.write for update in layout.cycle(n)}
    assert written == {*range(min(n, len(layout.latents) - 1)), layout.answer}
    for i, (ours, old) in enumerate(zip(found, z, strict=True)):
        assert torch.equal(ours, old) == (i not in written)


@settings(max_examples=40)
@given(layout=st.sampled_from(LAYOUTS), n=counts, T=counts)
def test_every_update_sees_x_but_perhaps_the_last(layout: Layout, n: int, T: int) -> None:
    z, x, _ = start(layout)
    seen: list[bool] = []

    def net(index: int, h: torch.Tensor) -> torch.Tensor:
        seen.append(bool((h > 500).all()))
        return torch.zeros_like(h)

    recurse(z, x.abs() + 1000, net, layout.cycle(n), T, WholeProgram())
    assert seen == ([True] * n + LAST_SEES_X.get(layout, [False])) * T
