"""Golden values of the released modules, to their printed digits.

A printed number is right to half a unit of its last digit.  To that comes the rounding of float32
itself where the number is large: other BLAS libraries round a sum of 200 logits differently, about
3e-6 of the largest partial result (docs/verify.md): measured up to 7e-7 for attention and
3e-6 for the token MLP at step 1, ten times as much a step later.
"""

from dataclasses import dataclass

import pytest
import torch

from tests.golden.appendix_a import (
    HRM,
    TRM_ATT,
    TRM_LEARNED,
    TRM_MLP,
    TRM_SHORT,
    core_of,
    two_steps,
    weights_of,
)
from tests.golden.appendix_a import batch as golden_batch
from trm_lab.config import AdamATan2, Model, Stablemax
from trm_lab.core.losses import cell_losses
from trm_lab.training.optimizers import build_optimizer

HALF_DIGIT = 5e-7
"""Half a unit of the sixth decimal, which is what most numbers are printed to."""
RELATIVE = 3e-6
"""Rounding of float32, relative to the largest value of what was computed."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    model: Model
    step: int
    loss: float
    lm: float
    halt_loss: float | None
    halt: tuple[float, float]
    total: float
    absolute: float
    first: tuple[float, float, float]
    y: float | None
    halted: tuple[bool, bool] | None
    continue_loss: float = 0.0


ATT = Row(
    TRM_ATT, 1, 6.750113, 5.882384, 1.735458, (0.301128, 0.345004), 62.40976, 295.692895,
    (2.176513, 2.452551, -1.351394), 19.984744, (True, True),
)  # fmt: skip
ROWS = {
    "attention-1": ATT,
    # Both slots were released and start over.
    "attention-2": Row(**{**vars(ATT), "step": 2}),
    "token_mlp-1": Row(
        TRM_MLP, 1, 5.301896, 4.794934, 1.013924, (-0.351777, -0.481043), -3.214204, 40.154971,
        (0.084271, -0.331370, -0.195755), 6.458329, (False, False),
    ),
    "token_mlp-2": Row(
        TRM_MLP, 2, 5.357593, 4.800076, 1.115033, (-0.227826, -0.359844), -2.502997, 36.292852,
        (0.091703, -0.273343, -0.183665), -3.153121, (False, False),
    ),
    "learned-1": Row(
        TRM_LEARNED, 1, 6.952517, 6.106854, 1.691327, (0.292935, 0.276677), 76.201603, 360.451859,
        (2.296717, 2.809284, -1.351582), 19.990441, (True, True),
    ),
    "hrm-1": Row(
        HRM, 1, 6.329577, 5.050257, 1.199224, (-0.124991, -0.271413), 16.098642, 78.153394,
        (0.626605, 0.435140, -0.480209), 13.936360, (False, False), 1.359416,
    ),
    "hrm-2": Row(
        HRM, 2, 6.275859, 5.016249, 1.159949, (-0.175007, -0.309126), 14.115169, 69.909298,
        (0.580974, 0.353928, -0.461901), 6.328070, (False, False), 1.359270,
    ),
    "short-1": Row(
        TRM_SHORT, 1, 6.161611, 5.478391, None, (0.003931, -0.044130), 38.945101, 184.777503,
        (1.228700, 1.302007, -0.790662), None, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_values_are_those_of_the_released_modules(row: Row) -> None:
    outcomes, sums, halted, _ = two_steps(row.model)
    out, logits = outcomes[row.step - 1], outcomes[row.step - 1].logits.double()
    assert logits.shape == (2, 9, 11)
    largest = logits.abs().max().item()

    def close(value: float, count: int = 1) -> object:
        """Allow rounding of `count` values of the size of the largest logit."""
        return pytest.approx(value, abs=HALF_DIGIT + RELATIVE * largest * count**0.5)

    assert out.loss.item() == close(row.loss)
    assert out.lm_loss.item() == close(row.lm)
    if row.halt_loss is not None:
        assert out.halt_loss.item() == close(row.halt_loss)
    assert out.continue_loss.item() == close(row.continue_loss)
    assert out.halt[:, 0].tolist() == [close(v) for v in row.halt]
    assert logits[0, 0, :3].tolist() == [close(v) for v in row.first]
    assert logits.sum().item() == close(row.total, logits.numel())
    assert logits.abs().sum().item() == close(row.absolute, logits.numel())
    if row.y is not None:
        assert sums[row.step - 1] == close(row.y, 2 * 11 * 64)
    if row.halted is not None:
        assert halted[row.step - 1] == list(row.halted)


def test_values_in_bfloat16_are_those_of_the_released_modules() -> None:
    """The stated tolerance is about 1e-2, here of the largest value; losses agree much better."""
    (out, _), *_ = two_steps(TRM_ATT, torch.bfloat16)
    assert out.logits.dtype == torch.bfloat16
    assert out.halt.dtype == torch.float32
    assert out.loss.item() == pytest.approx(6.74897, abs=1e-2)
    assert out.lm_loss.item() == pytest.approx(5.88171, abs=1e-2)
    assert out.halt[:, 0].tolist() == pytest.approx([0.300781, 0.343750], abs=1e-2)
    logits = out.logits.double()
    largest = logits.abs().max().item()
    expected = [2.171875, 2.4375, -1.34375]
    assert logits[0, 0, :3].tolist() == pytest.approx(expected, abs=1e-2 * largest)
    assert logits.sum().item() == pytest.approx(62.531, rel=1e-2)
    assert logits.abs().sum().item() == pytest.approx(296.288, rel=1e-2)


def test_a_step_in_evaluation_is_the_first_step_of_training() -> None:
    for model in (TRM_ATT, TRM_MLP, HRM):
        (out, _), *_ = two_steps(model)
        core, weights, batch = core_of(model), weights_of(model), golden_batch()
        with torch.no_grad():
            rows = weights.rows(batch.identifiers)
            step = core.step(weights.params, core.start(weights, 2), batch.inputs, rows)
        assert torch.equal(step.logits, out.logits)
        assert torch.equal(step.halt, out.halt)


NORMS = {
    "attention": (TRM_ATT, {
        "embed.tokens": 0.266090, "head.logits": 1.692407, "head.halt.weight": 4.417979,
        "net.0.layer.0.mixer.qkv": 0.774382, "net.0.layer.0.ffn.gate_up": 0.797657,
        "puzzle": 0.339030,
    }),
    "token_mlp": (TRM_MLP, {
        "embed.tokens": 0.397932, "head.logits": 2.047104, "head.halt.weight": 2.601124,
        "net.0.layer.0.mixer.gate_up": 0.271099, "net.0.layer.0.ffn.gate_up": 1.261379,
        "puzzle": 0.302256,
    }),
    "hrm": (HRM, {
        "embed.tokens": 0.301864, "head.logits": 2.039003, "head.halt.weight": 2.334893,
        "net.0.layer.0.mixer.qkv": 0.450007, "net.1.layer.0.mixer.qkv": 0.501171,
        "net.0.layer.0.ffn.gate_up": 0.328961, "net.1.layer.0.ffn.gate_up": 0.900744,
        "puzzle": 0.203491,
    }),
}  # fmt: skip


@pytest.mark.parametrize(("model", "expected"), NORMS.values(), ids=NORMS)
def test_gradients_are_those_of_the_released_modules(
    model: Model, expected: dict[str, float]
) -> None:
    """2-norms of the gradients of the loss, which is a sum over the batch."""
    *_, norms = two_steps(model)
    found = {name: norms[name] for name in expected}
    for name, norm in expected.items():
        # Attention at these weights is close to one-hot, so that the gradient of its projection is
        # a difference of near equals: the recorded 0.774382 is itself 1.6e-5 from the value in
        # float64, 0.774394, and ours lies between.
        relative = 2e-5 if name.endswith("qkv") else 5e-6
        assert found[name] == pytest.approx(norm, rel=relative, abs=HALF_DIGIT), name


def test_every_tensor_of_the_recorded_models_gets_a_gradient() -> None:
    for model in (TRM_ATT, TRM_MLP, TRM_LEARNED, HRM):
        *_, norms = two_steps(model)
        unused = {k for k in weights_of(model).params if k not in norms}
        # The recorded HRM has one layer in its second net; ours carries a second, unused one.
        assert all(k.startswith("net.1.layer.1.") for k in unused)
        assert all(norm > 0 for norm in norms.values())


def test_stablemax_of_the_specification() -> None:
    logits = torch.tensor([2, -1, 0.5, -3], dtype=torch.float64).expand(1, 4, 4)
    found = cell_losses(Stablemax(), logits, torch.arange(4)[None])[0]
    expected = [0.5596157879, 2.3513752572, 1.2527629685, 3.0445224377]
    assert found.tolist() == pytest.approx(expected, abs=1e-8)


def test_adam_atan2_of_the_specification() -> None:
    p = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    setting = AdamATan2(lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)
    optimizer = build_optimizer(setting, {"p": p})
    steps = [
        ([0.5, -0.1, 0.0], [0.890331348, -1.880331348, 0.495]),
        ([0.2, 0.3, -1.0], [0.791622743, -1.910317376, 0.563073789]),
        ([-0.4, 0.3, 2.0], [0.766005785, -1.961304420, 0.526701396]),
    ]
    for gradient, expected in steps:
        p.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        # Printed to nine decimals.
        assert p.tolist() == pytest.approx(expected, abs=1e-8)
