"""Every feed-forward, the convolution, norm and residual: against plain loops in numpy."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.contract.instances import FEED_FORWARDS, MIXERS, name
from tests.contract.tiny import GEOMETRY, random_latents, tiny_batch, tiny_model, tiny_weights
from tests.parity.twins import attend, rms, swiglu
from trm_lab.config import (
    Attention,
    Convolution,
    ConvSwiGLU,
    FeedForward,
    Mixer,
    MixtureOfExperts,
    Model,
    NoPositions,
    NormGateSwiGLU,
    SwiGLU,
    TokenMLP,
)
from trm_lab.core.core import Core
from trm_lab.core.feed_forward import build_feed_forward, depthwise, routing
from trm_lab.core.nets import apply_net, build_block
from trm_lab.core.products import rms_norm

S, D, CPU = 5, 8, torch.device("cpu")


def model_with(**changes: Any) -> Model:
    mixer = changes.get("mixer", Attention(heads=1, head_dim=2))
    return tiny_model(**({"width": D, "puzzle": None, "round_to": 3, "mixer": mixer} | changes))


def params_of(model: Model) -> dict[str, torch.Tensor]:
    geometry = GEOMETRY._replace(cells=S)
    return tiny_weights(model, torch.float64, geometry).params


def states(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*(shape or (2, S, D)), generator=generator, dtype=torch.float64)


def silu(v: Any) -> Any:
    return v / (1 + np.exp(-v))


def twin(setting: FeedForward, w: dict[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    """One puzzle [S, D] through a feed-forward, position by position."""
    inner = w["down"].shape[1]
    gate, up = h @ w["gate_up"][:inner].T, h @ w["gate_up"][inner:].T
    if isinstance(setting, NormGateSwiGLU):
        return (silu(rms(gate)) * up) @ w["down"].T
    if isinstance(setting, ConvSwiGLU):
        hidden, kernel = silu(gate) * up, w["conv"][:, 0]
        out = np.zeros_like(hidden)
        for s in range(len(h)):
            for j in range(setting.kernel):
                there = s + j - setting.kernel // 2
                if 0 <= there < len(h):
                    out[s] += kernel[:, j] * hidden[there]
        return silu(out) @ w["down"].T
    if isinstance(setting, MixtureOfExperts):
        return np.stack([experts(setting, w, row) for row in h])
    return swiglu(h, w["gate_up"], w["down"])


def experts(setting: MixtureOfExperts, w: dict[str, np.ndarray], row: np.ndarray) -> np.ndarray:
    score = np.exp(w["router"] @ row)
    share = score / score.sum()
    one = len(w["down"].T) // setting.experts
    out = np.zeros(len(row))
    for k in np.argsort(-share)[: setting.active]:
        gate_up = w["gate_up"][2 * one * k : 2 * one * (k + 1)]
        out += share[k] * swiglu(row[None], gate_up, w["down"][:, one * k : one * (k + 1)])[0]
    return out


@pytest.mark.parametrize("ffn", FEED_FORWARDS, ids=name)
def test_a_feed_forward_is_its_formula(ffn: FeedForward) -> None:
    model = model_with(ffn=ffn)
    params, prefix = params_of(model), "net.0.layer.0.ffn"
    h = states()
    found = build_feed_forward(model)(params, prefix, h).detach().numpy()
    w = {
        k.removeprefix(f"{prefix}."): v.detach().numpy()
        for k, v in params.items()
        if k.startswith(prefix)
    }
    for ours, puzzle in zip(found, h.numpy(), strict=True):
        np.testing.assert_allclose(ours, twin(ffn, w, puzzle), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("ffn", FEED_FORWARDS, ids=name)
def test_a_feed_forward_keeps_the_type(ffn: FeedForward, dtype: torch.dtype) -> None:
    model = model_with(ffn=ffn)
    feed, params = build_feed_forward(model), params_of(model)
    out = feed(params, "net.0.layer.0.ffn", states().to(dtype))
    assert out.dtype == dtype
    assert out.shape == (2, S, D)
    wide = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
    if not isinstance(ffn, MixtureOfExperts):  # rounding may choose another expert
        exact = feed(params, "net.0.layer.0.ffn", states())
        torch.testing.assert_close(out.double(), exact, rtol=wide, atol=wide)


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_the_short_convolution_is_torchs_own(kernel: int) -> None:
    h, weight = states(2, 7, 4), states(4, 1, kernel)
    found = depthwise(h, weight)
    left = kernel // 2
    padded = torch.nn.functional.pad(h.transpose(1, 2), (left, kernel - 1 - left))
    expected = torch.nn.functional.conv1d(padded, weight, groups=4).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)


def test_a_short_convolution_of_two_sees_itself_and_the_one_before() -> None:
    h = states(1, 5, 2)
    kernel = torch.tensor([[[3.0, 1.0]], [[0.0, 2.0]]], dtype=torch.float64)
    found = depthwise(h, kernel)
    assert found[0, 0, 0] == h[0, 0, 0]
    assert found[0, 3, 0] == 3 * h[0, 2, 0] + h[0, 3, 0]
    assert torch.equal(found[..., 1], 2 * h[..., 1])


def test_the_router_keeps_the_largest_shares_as_they_are() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0]], dtype=torch.float64)
    share = logits.softmax(-1)
    kept = torch.tensor([0, 1, 1, 0], dtype=torch.float64)
    assert torch.equal(routing(logits, 2), share * kept)
    assert torch.equal(routing(logits, 4), share)
    assert routing(logits.bfloat16(), 1).dtype == torch.bfloat16


def test_every_expert_and_the_router_learn_something() -> None:
    model = model_with(ffn=MixtureOfExperts(experts=3, active=1))
    params = params_of(model)
    out = build_feed_forward(model)(params, "net.0.layer.0.ffn", states(40, S, D))
    gradient = torch.autograd.grad(
        out.square().sum(), [params[f"net.0.layer.0.ffn.{k}"] for k in ("router", "gate_up")]
    )
    assert gradient[0].abs().sum(1).gt(0).all()
    assert gradient[1].abs().view(3, -1).sum(1).gt(0).all()


def test_the_convolution_is_torchs_own() -> None:
    model = model_with(mixer=Convolution(), positions=NoPositions())
    params, h = params_of(model), states()
    weight = params["net.0.layer.0.mixer.conv"].detach()
    kernel = weight.view(D, 3, D).permute(0, 2, 1)  # out, in, neighbour
    out = torch.nn.functional.conv1d(h.transpose(1, 2), kernel, padding=1).transpose(1, 2)
    found = Core(model, GEOMETRY._replace(cells=S), torch.float64).block(
        {**params, "net.0.layer.0.ffn.down": torch.zeros(D, model.inner(D))}, "net.0.layer.0", h
    )
    expected = rms_norm(rms_norm(h + out, 1e-5), 1e-5)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-12, atol=1e-13)


def mixed(mixer: Mixer, w: dict[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    """What a mixer adds to one puzzle [S, D], without position code, residual and norm."""
    if isinstance(mixer, Attention):
        return attend(h, w["qkv"], w["out"], mixer.heads, None)
    if isinstance(mixer, TokenMLP):
        return swiglu(h.T, w["gate_up"], w["down"]).T
    around = np.concatenate((np.zeros((1, D)), h, np.zeros((1, D))))
    return np.stack([w["conv"] @ around[s : s + 3].flatten() for s in range(len(h))])


@pytest.mark.parametrize("ffn", [SwiGLU(), ConvSwiGLU()], ids=name)
@pytest.mark.parametrize("mixer", MIXERS, ids=name)
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_net_is_its_blocks_with_norms_at_their_places(
    mixer: Mixer, ffn: FeedForward, norm: Any, scale: float
) -> None:
    model = model_with(
        mixer=mixer, ffn=ffn, norm=norm, residual_scale=scale, layers=2, positions=NoPositions()
    )
    params, states_ = params_of(model), states()
    block = build_block(model, S, torch.float64, CPU)
    found = apply_net(model, block, params, "net.0", states_).detach().numpy()

    def across(v: np.ndarray) -> np.ndarray:
        """Norm of the mixer: over positions for the token MLP."""
        return rms(v.T).T if isinstance(mixer, TokenMLP) else rms(v)

    for ours, h in zip(found, states_.numpy(), strict=True):
        for layer in range(2):
            w: dict[str, dict[str, np.ndarray]] = {"mixer": {}, "ffn": {}}
            for key, value in params.items():
                if key.startswith(f"net.0.layer.{layer}."):
                    part, rest = key.split(".")[-2:]
                    w[part][rest] = value.detach().numpy()
            if norm == "pre":
                h = h + scale * mixed(mixer, w["mixer"], across(h))
                h = h + scale * twin(ffn, w["ffn"], rms(h))
            else:
                h = across(h + scale * mixed(mixer, w["mixer"], h))
                h = rms(h + scale * twin(ffn, w["ffn"], h))
        expected = rms(h) if norm == "pre" else h
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


def test_a_tied_head_reads_out_with_the_embedding() -> None:
    tied, untied = tiny_model(head="tied"), tiny_model()
    assert "head.logits" not in tiny_weights(tied).params
    params = tiny_weights(untied, torch.float64).params
    batch, core = tiny_batch(3), Core(untied, GEOMETRY, torch.float64)
    z, rows = random_latents(core, 3), torch.ones(3, 3, dtype=torch.float64)
    same = {**params, "head.logits": params["embed.tokens"]}
    expected = core.step(same, z, batch.inputs, rows).logits
    found = Core(tied, GEOMETRY, torch.float64).step(params, z, batch.inputs, rows).logits
    assert torch.equal(found, expected)
    assert not torch.equal(found, core.step(params, z, batch.inputs, rows).logits)
