"""A supervision step is one graph: no control flow depends on data."""

import pytest
import torch

from tests.contract.tiny import GEOMETRY, leaves, tiny_batch, tiny_model, tiny_weights
from trm_lab.config import (
    Attention,
    Confidence,
    Halting,
    LastUpdates,
    Mixer,
    QLearning,
    Supervision,
    TokenMLP,
    TwoLatents,
)
from trm_lab.core.core import Core
from trm_lab.core.supervision import Batch, Carry, Outcome, empty_carry, refill, supervise


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mixer", "nets", "rule"),
    [(Attention(heads=1), 2, QLearning()), (TokenMLP(), 1, Confidence())],
    ids=["hrm", "trm_mlp"],
)
def test_a_supervision_step_compiles_to_one_graph(mixer: Mixer, nets: int, rule: Halting) -> None:
    """Refilling included; `fullgraph` makes any break an error.

    The backend runs the traced forward and backward graphs by torch's own kernels, so that values
    are equal bit for bit; generating code for them takes minutes and tests torch, not us.
    """
    gradient = LastUpdates(k=2)
    model = tiny_model(mixer=mixer, layout=TwoLatents(nets=nets), gradient=gradient, n=2, T=2)
    core, weights = Core(model, GEOMETRY), tiny_weights(model)
    supervision = Supervision(N_sup=3, halting=rule)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        from torch._dynamo.backends.debugging import aot_eager

        graphs.append(graph)
        return aot_eager(graph, inputs)

    def step(
        carry: Carry, batch: Batch, rows: torch.Tensor, minimum: torch.Tensor
    ) -> tuple[Carry, Outcome]:
        return supervise(
            core, weights.params, supervision, refill(core, weights, carry, batch), rows, minimum
        )

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    minimum = torch.tensor([0, 2, 3], dtype=torch.int32)
    carries = [empty_carry(core, weights, tiny_batch(3)) for _ in range(2)]
    for seed in range(4):
        batch = tiny_batch(3, seed=seed)
        rows = weights.rows(batch.identifiers).requires_grad_()
        outcomes, grads = [], []
        for i, run in enumerate((step, compiled)):
            carries[i], outcome = run(carries[i], batch, rows, minimum)
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
    # One graph for the empty carry, whose latents are broadcast views, and one for all that follow:
    # which slots are refilled is data.
    assert len(graphs) == 2
