"""A supervision step is one graph: no control flow depends on data."""

from typing import Any

import pytest
import torch

from tests.contract.tiny import GEOMETRY, leaves, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    Confidence,
    Convolution,
    ConvSwiGLU,
    Halting,
    LastUpdates,
    LearnedStart,
    Looped,
    MixtureOfExperts,
    QLearning,
    RandomStart,
    Rope2D,
    Supervision,
    TokenMLP,
    TwoLatents,
    WholeProgram,
)
from trm_lab.core.core import Core
from trm_lab.core.supervision import Batch, Carry, Outcome, empty_carry, refill, supervise

MODELS: dict[str, tuple[dict[str, Any], Halting]] = {
    "two nets": ({"layout": TwoLatents(nets=2), "mixer": TokenMLP()}, QLearning()),
    "experts": (
        {
            "ffn": MixtureOfExperts(),
            "positions": Rope2D(),
            "norm": "pre",
            "residual_scale": 0.5,
            "initial": RandomStart(),
        },
        Confidence(),
    ),
    "convolutions": (
        {
            "mixer": Convolution(),
            "ffn": ConvSwiGLU(),
            "layout": Looped(),
            "head": "tied",
            "initial": LearnedStart(),
            "gradient": WholeProgram(),
        },
        Confidence(),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_supervision_step_compiles_to_one_graph(name: str) -> None:
    """Refilling included; `fullgraph` makes any break an error.

    The backend runs the traced forward and backward graphs by torch's own kernels, so that values
    are equal bit for bit; generating code for them takes minutes and tests torch, not us.
    """
    parts, rule = MODELS[name]
    model = tiny_model(**({"gradient": LastUpdates(k=2), "n": 2, "T": 2} | parts))
    core, weights = Core(model, GEOMETRY), tiny_weights(model)
    supervision = Supervision(N_sup=3, halting=rule)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        from torch._dynamo.backends.debugging import aot_eager

        graphs.append(graph)
        return aot_eager(graph, inputs)

    def step(
        carry: Carry, batch: Batch, rows: torch.Tensor, minimum: torch.Tensor, keys: torch.Tensor
    ) -> tuple[Carry, Outcome]:
        return supervise(
            core,
            weights.params,
            supervision,
            refill(core, weights, carry, batch, keys),
            rows,
            minimum,
        )

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    minimum = torch.tensor([0, 2, 3], dtype=torch.int32)
    carries = [empty_carry(core, weights, tiny_batch(3)) for _ in range(2)]
    for seed in range(4):
        batch, keys = tiny_batch(3, seed=seed), torch.arange(3) + 10 * seed
        rows = weights.rows(batch.identifiers).requires_grad_()
        outcomes, grads = [], []
        for i, run in enumerate((step, compiled)):
            carries[i], outcome = run(carries[i], batch, rows, minimum, keys)
            found = torch.autograd.grad(outcome.loss, leaves(weights, rows), allow_unused=True)
            outcomes.append(outcome)
            grads.append(found)
        for a, b in zip(*outcomes, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
        for a, b in zip(*grads, strict=True):
            # A tensor that the loss does not reach has no gradient here and zeros there.
            assert not b.any() if a is None else torch.equal(a, b)
        ours, theirs = ([*c.z, c.steps, c.halted, *c.batch] for c in carries)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    # One graph for the empty carry, whose latents are broadcast views but for a random start, and
    # one for all that follow: which slots are refilled is data.
    assert len(graphs) == (1 if core.draws_start else 2)
