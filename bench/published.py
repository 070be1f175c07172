"""TRM with a token MLP as published, transcribed from its description: the peer of `core.py`.

Plain modules, one operation after another, nothing shared with the library: 16 puzzle slots, inner
widths rounded up to 256, float64 stablemax, weights cast at each use, optimiser and averaging one
tensor at a time.  Letters: B puzzles, S positions, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _inner(width: int, expansion: float = 4.0) -> int:
    return 256 * math.ceil(round(expansion * width * 2 / 3) / 256)


def _norm(h: Tensor, eps: float = 1e-5) -> Tensor:
    kind = h.dtype
    h = h.to(torch.float32)
    return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)).to(kind)


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight.to(h.dtype))


class SwiGLU(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_up = Linear(width, 2 * _inner(width))
        self.down = Linear(_inner(width), width)

    def forward(self, h: Tensor) -> Tensor:
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.token = SwiGLU(positions)
        self.channel = SwiGLU(width)

    def forward(self, h: Tensor) -> Tensor:
        h = h.transpose(1, 2)
        h = _norm(h + self.token(h)).transpose(1, 2)
        return _norm(h + self.channel(h))


class Published(nn.Module):
    """One supervision step of TRM-MLP: T cycles of n + 1 updates, gradient through the last."""

    def __init__(self, cells: int, vocabulary: int, width: int, slots: int, n: int, T: int) -> None:
        super().__init__()
        self.width, self.slots, self.n, self.T = width, slots, n, T
        self.embed = nn.Parameter(torch.randn(vocabulary, width) / math.sqrt(width))
        self.blocks = nn.ModuleList(Block(cells + slots, width) for _ in range(2))
        self.head = Linear(width, vocabulary)
        self.halt = nn.Linear(width, 2)
        self.puzzle = torch.zeros(1, width)

    def net(self, h: Tensor, injection: Tensor) -> Tensor:
        h = h + injection
        for block in self.blocks:
            h = block(h)
        return h

    def forward(
        self, y: Tensor, z: Tensor, tokens: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = F.embedding(tokens, self.embed)
        prefix = F.pad(row, (0, (self.slots - 1) * self.width))
        x = torch.cat((prefix.view(-1, self.slots, self.width), x), dim=1) * math.sqrt(self.width)
        with torch.no_grad():
            for _ in range(self.T - 1):
                for _ in range(self.n):
                    z = self.net(z, y + x)
                y = self.net(y, z)
        for _ in range(self.n):
            z = self.net(z, y + x)
        y = self.net(y, z)
        logits = self.head(y)[:, self.slots :]
        return y.detach(), z.detach(), logits, self.halt(y[:, 0])


def stablemax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    logits = logits.to(torch.float64)
    s = torch.where(logits < 0, 1 / (1 - logits + 1e-30), logits + 1)
    log = torch.log(s / s.sum(-1, keepdim=True))
    picked = log.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -(picked / labels.shape[1]).sum()


class Trainer:
    """Everything of one optimiser update, with every slot at work on one batch."""

    def __init__(
        self, cells: int, vocabulary: int, width: int, batch: int, slots: int = 16, n: int = 6,
        T: int = 3,
    ) -> None:  # fmt: skip
        self.model = Published(cells, vocabulary, width, slots, n, T)
        self.tokens = torch.randint(1, vocabulary, (batch, cells))
        self.labels = torch.randint(2, vocabulary, (batch, cells))
        self.start_y, self.start_z = torch.randn(width), torch.randn(width)
        shape = (batch, cells + slots, width)
        self.y, self.z = torch.empty(shape), torch.empty(shape)
        self.halted = torch.ones(batch, dtype=torch.bool)
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.model.parameters()]
        self.shadow = [p.detach().clone() for p in self.model.parameters()]
        self.t = 0

    def advance(self) -> None:
        reset = self.halted.view(-1, 1, 1)
        y = torch.where(reset, self.start_y, self.y)
        z = torch.where(reset, self.start_z, self.z)
        row = self.model.puzzle.expand(len(self.tokens), -1).clone().requires_grad_()
        self.y, self.z, logits, halt = self.model(y, z, self.tokens, row)
        correct = (logits.argmax(-1) == self.labels).all(-1)
        self.halted = halt[:, 0] > 0
        loss = stablemax_loss(logits, self.labels) + 0.5 * F.binary_cross_entropy_with_logits(
            halt[:, 0], correct.to(halt.dtype), reduction="sum"
        )
        (loss / len(self.tokens)).backward()
        with torch.no_grad():
            self.update(row)

    def update(self, row: Tensor, lr: float = 1e-4, decay: float = 1.0) -> None:
        assert row.grad is not None
        self.model.puzzle.mul_(1 - lr * decay).sub_(lr * row.grad.sum(0, keepdim=True).sign())
        self.t += 1
        triples = zip(self.model.parameters(), self.moments, self.shadow, strict=True)
        for p, (m, v), kept in triples:
            assert p.grad is not None
            p.mul_(1 - lr * decay)
            m.lerp_(p.grad, 0.1)
            v.lerp_(p.grad * p.grad, 0.05)
            scale = v.sqrt() / math.sqrt(1 - 0.95**self.t)
            p.sub_(lr / (1 - 0.9**self.t) * torch.atan2(m, scale))
            kept.mul_(0.999).add_(p, alpha=0.001)
            p.grad = None
