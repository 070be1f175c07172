"""Rollouts: many runs of one trained model on every puzzle, each perturbed in its own way.

All rollouts of a puzzle run side by side as one batch; a supervision step is the model's own, from
latents that noise was added to.  Shapes: P puzzles, R rollouts, B puzzles of a batch, S recorded
steps, D width.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor

from trm_lab.config.test_time import Rollouts
from trm_lab.core.halting import HALT, relative_change
from trm_lab.core.hypotheses import starts
from trm_lab.core.losses import score, solution
from trm_lab.core.noise import derive, normal
from trm_lab.core.reasoner import START, Reasoner
from trm_lab.core.recursion import Latents
from trm_lab.selectors import Trials


@torch.no_grad()
def roll_out(
    reasoner: Reasoner,
    inputs: Integer[np.ndarray, "P L"],
    labels: Integer[np.ndarray, "P *M L"],
    setting: Rollouts,
    *,
    batch: int = 128,
) -> Trials:
    """Run every rollout of every puzzle and record it after each of the given steps.

    n, T and seed are those of the setting.  Rollout 0 is plain, as `evaluate` would do it.  With H
    hypotheses of fixed starts rollout r starts from hypothesis r mod H, and the first H are plain.
    Noise and restarts are keyed by (seed, tokens of the puzzle, rollout, step, latent): they depend
    neither on the batch size, nor on the order or choice of puzzles, nor on the other rollouts.
    `batch` is the number of states run at a time, or all the rollouts of one puzzle where those are
    more.
    """
    reasoner = replace(reasoner, n=setting.n, T=setting.T, seed=setting.seed)
    R = setting.rollouts[-1]
    at_once = max(1, batch // R)
    chunks = []
    for at in range(0, len(inputs), at_once):
        part = slice(at, at + at_once)
        chunks.append(_roll_out(reasoner, inputs[part], labels[part], setting, R))
    solved, cells, halt, residual, same, which, missed = (
        np.concatenate(c) for c in zip(*chunks, strict=True)
    )
    return Trials(
        np.array(setting.steps, dtype=np.int32), solved > 0.5, cells, halt, residual,
        same.astype(np.int16), which.astype(np.int16), missed > 0.5,
        quiet=min(reasoner.weights.hypotheses, R) if setting.noise else 0,
    )  # fmt: skip


def _roll_out(
    reasoner: Reasoner,
    inputs: Integer[np.ndarray, "B L"],
    labels: Integer[np.ndarray, "B *M L"],
    setting: Rollouts,
    R: int,
) -> list[np.ndarray]:
    core, weights, B = reasoner.core, reasoner.weights, len(inputs)
    device, answer = core.device, core.model.layout.answer
    tokens = torch.as_tensor(np.repeat(inputs.astype(np.int32), R, axis=0), device=device)
    target = torch.as_tensor(np.repeat(labels.astype(np.int64), R, axis=0), device=device)
    keys = reasoner.keys(inputs, R)
    H = min(weights.hypotheses, R)
    perturbed = (torch.arange(R, device=device) >= H).repeat(B)
    if weights.others:
        start = _each_start(starts(core, weights, B, H), B, R)
    else:
        start = reasoner.start(keys)
    if setting.restarts:
        start = _replace(start, perturbed, _draws(keys, START, start))
    z = start
    recorded = []
    for step in range(1, setting.steps[-1] + 1):
        before = z[answer]
        if setting.noise:
            noise = _draws(keys, step, z)
            z = _replace(z, perturbed, _noisy(z, noise, setting.noise, setting.relative))
        read, z, missed = reasoner.step(z, start, tokens)
        if step in setting.steps:
            residual = relative_change(before, read.z[answer])
            same = _same(read.logits.argmax(-1).view(B, R, -1))
            which = solution(read.logits, target)
            values = (
                *score(read.logits, target), read.halt[..., HALT], residual, same, which, missed,
            )  # fmt: skip
            recorded.append([value.float().reshape(B, R) for value in values])
    return [torch.stack(v, dim=-1).cpu().numpy() for v in zip(*recorded, strict=True)]


def _each_start(z: Latents, B: int, R: int) -> Latents:
    """Give each rollout its start: the hypotheses in turn."""

    def turns(latent: Tensor) -> Tensor:
        own = latent.view(B, -1, *latent.shape[1:])
        return own[:, torch.arange(R, device=own.device) % own.shape[1]].flatten(0, 1)

    return tuple(map(turns, z))


def _draws(keys: Int[Tensor, " B*R"], step: int, z: Latents) -> Latents:
    """Draw standard normals of the latents' shapes."""
    at = derive(keys, step)
    return tuple(
        normal(derive(at, index), latent[0].numel()).view_as(latent).to(latent.dtype)
        for index, latent in enumerate(z)
    )


def _noisy(z: Latents, noise: Latents, scale: float, relative: bool) -> Latents:
    def size(latent: Tensor) -> Tensor | float:
        return latent.square().mean((-2, -1), keepdim=True).sqrt() if relative else 1.0

    return tuple(a + scale * size(a) * e for a, e in zip(z, noise, strict=True))


def _replace(z: Latents, where: Tensor, other: Latents) -> Latents:
    mask = where.view(-1, 1, 1)
    return tuple(torch.where(mask, b, a) for a, b in zip(z, other, strict=True))


def _same(answers: Int[Tensor, "B R L"]) -> Int[Tensor, "B R"]:
    """Give the lowest rollout with the same answer."""
    equal = torch.stack(
        [(answers == answers[:, r : r + 1]).all(-1) for r in range(answers.shape[1])], dim=-1
    )
    return equal.to(torch.uint8).argmax(-1)
