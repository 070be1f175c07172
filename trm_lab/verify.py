"""Numerical parity against recorded values of the released code.

A file holds weights, inputs and what the released modules computed from them: three evaluation
steps, three training steps with refilled slots, gradients, optimiser, averaged weights, loss.
Every recorded array is either compared or named as not compared.

The tolerances are those that another GEMM library keeps: differences are relative to the array's
largest value.  The token MLP is expanding at random weights, so that rounding grows about tenfold
per supervision step; its tolerance grows with it.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from trm_lab import official
from trm_lab.config.blocks import Rope, TokenMLP
from trm_lab.config.layout import Layout, TwoLatents
from trm_lab.config.supervision import Stablemax
from trm_lab.config.training import AdamATan2 as AdamATan2Setting
from trm_lab.core.core import Core, Weights
from trm_lab.core.losses import cell_losses
from trm_lab.core.nets import apply_net
from trm_lab.core.positions import rope_tables
from trm_lab.core.supervision import Batch, Carry, Outcome, empty_carry, refill, supervise
from trm_lab.errors import ConfigError
from trm_lab.training.optimizers import average, build_optimizer, sign_sgd

LR, DECAY, EMA = 1e-3, 1.0, 0.9
"""Learning rate, weight decay (trunk and table) and averaging of the recorded training steps."""
LOSS_TOLERANCE = (2e-6, 2e-5, 2e-4)
"""For the loss of steps 1, 2, 3."""
TOLERANCE = 2e-5
GROWING = (2e-5, 2e-4, 2e-3)
"""For values and gradients of a token MLP at steps 1, 2, 3."""


@dataclass(frozen=True)
class Check:
    """One recorded array against ours."""

    key: str
    difference: float
    """Largest absolute difference over the largest recorded value; inf on a wrong shape or NaN."""
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """Everything compared in one file."""

    path: Path
    checks: tuple[Check, ...]
    unchecked: tuple[str, ...]
    """Recorded arrays that were not compared: settings, weights and inputs apart, none."""
    absent: tuple[str, ...]
    """Arrays that could have been compared, but are not in the file."""

    @property
    def holds(self) -> bool:
        """Whether something was compared and every comparison holds."""
        return bool(self.checks) and all(check.holds for check in self.checks)


def verify(path: Path, layout: Layout | None = None) -> Verification:
    """Compare one file of recorded values; `layout` overrides what the weights' names say.

    Raises:
        ConfigError: not a parity file.
    """
    try:
        # Opened here, because np.load leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            recorded = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (ValueError, TypeError, OSError, EOFError, BadZipFile, zlib.error) as error:
        # numpy takes what it does not know for a pickle, and advises to load that.
        pickled, single = "pickle" in str(error), isinstance(error, TypeError)
        why = "no plain arrays in it" if pickled else "a single array" if single else error
        raise ConfigError(f"{path}: not an .npz archive: {why}") from None
    config = _section(recorded, "config/")
    if not config or not _section(recorded, "param/"):
        raise ConfigError(f"{path}: holds no config/* and param/* arrays, so no recorded model")
    try:
        run = _Replay(recorded, {k: v.item() for k, v in config.items()}, layout)
    except KeyError as error:
        raise ConfigError(f"{path}: lacks {error.args[0]}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be replayed: {error}") from None
    checks, absent = [], []
    for key, ours, tolerance in run.values():
        if key in recorded:
            checks.append(Check(key, _difference(recorded[key], ours), tolerance))
        else:
            absent.append(key)
    seen = {check.key for check in checks}
    inputs = ("config/", "param/", "batch")
    unchecked = [k for k in recorded if k not in seen and not k.startswith(inputs)]
    unchecked = [k for k in unchecked if k != "stablemax/logits"]
    return Verification(path, tuple(checks), tuple(unchecked), tuple(absent))


Values = Iterator[tuple[str, Any, float]]
"""Key of a recorded array, our value, tolerance."""


class _Replay:
    """Runs what the recording ran."""

    def __init__(
        self, recorded: dict[str, np.ndarray], config: dict[str, Any], layout: Layout | None
    ) -> None:
        self.recorded = recorded
        weights = _section(recorded, "param/")
        self.layout = layout or official.layout_of(weights)
        self.model = official.model_from(config, self.layout)
        self.supervision = official.supervision_from(config, self.layout)
        geometry = official.geometry_from(config)
        self.core = Core(self.model, geometry)
        self.weights = official.weights_from(weights, self.model, geometry)
        given = takewhile(lambda i: f"batch{i}/inputs" in recorded, range(3))
        self.batches = [self._batch(i) for i in given]
        self.expanding = isinstance(self.model.mixer, TokenMLP)

    def values(self) -> Values:
        if self.batches:
            yield from self.evaluation(self.batches[0])
            yield from self.loss(self.batches[0].labels)
            yield from self.training()

    @torch.no_grad()
    def evaluation(self, batch: Batch) -> Values:
        core, weights, params = self.core, self.weights, self.weights.params
        rows = weights.rows(batch.identifiers)
        z = core.start(weights, len(batch.inputs))
        x = core.embed(params, batch.inputs, rows)
        yield "eval/input_embeddings", x, TOLERANCE
        yield from self._latents("eval/{}_init", z, TOLERANCE)
        if isinstance(self.layout, TwoLatents):
            # The recording of a single layer added the three from the left; updates do not.
            h = z[0] + z[1] + x
            once = apply_net(self.model, core.block, params, "net.0", h, layers=1)
            yield "eval/L_layer0_once", once, TOLERANCE
            yield "eval/L_level_once", core.net(params)(0, z[0] + (z[1] + x)), TOLERANCE
        yield from self._rope()
        for step in (1, 2, 3):
            z, logits, halt = core.step(params, z, batch.inputs, rows)
            tolerance = self._tolerance(step)
            yield f"eval/step{step}/logits", logits, tolerance
            yield f"eval/step{step}/q_halt_logits", halt[:, 0], tolerance
            yield f"eval/step{step}/q_continue_logits", halt[:, 1], tolerance
            yield from self._latents(f"eval/step{step}/{{}}", z, tolerance)

    def loss(self, labels: torch.Tensor) -> Values:
        if "stablemax/logits" not in self.recorded:
            return
        logits = torch.tensor(self.recorded["stablemax/logits"]).requires_grad_()
        nll = cell_losses(Stablemax(), logits, labels)
        (gradient,) = torch.autograd.grad(nll.sum(), logits)
        yield "stablemax/nll_f64", nll, 1e-12
        yield "stablemax/grad_of_sum", gradient, 1e-6

    def training(self) -> Values:
        weights = self.weights
        params = weights.params
        for p in params.values():
            p.requires_grad_()
        setting = AdamATan2Setting(lr=LR, weight_decay=DECAY)
        optimizer = build_optimizer(setting, params)
        shadow = {name: p.detach().clone() for name, p in params.items()}
        carry = empty_carry(self.core, weights, self.batches[0])
        for step, batch in enumerate(self.batches, 1):
            carry = refill(self.core, weights, carry, batch)
            rows = weights.rows(carry.batch.identifiers)
            rows = None if rows is None else rows.requires_grad_()
            none = torch.zeros_like(carry.steps)
            carry, outcome = supervise(self.core, params, self.supervision, carry, rows, none)
            yield from self._outcome(step, carry, outcome)
            leaves = [*params.values()] + ([] if rows is None else [rows])
            grads = torch.autograd.grad(outcome.loss / len(batch.inputs), leaves)
            yield from self._gradients(step, dict(zip(params, grads, strict=False)))
            if rows is not None and weights.table is not None:
                key = f"train/step{step}/grad/inner.puzzle_emb.local_weights"
                yield key, grads[-1], self._tolerance(step)
                sign_sgd(weights.table, carry.batch.identifiers, grads[-1], LR, DECAY)
            for p, g in zip(params.values(), grads, strict=False):
                p.grad = g
            optimizer.step()
            average(shadow, params, EMA)
            yield from self._after(step, weights, shadow)

    def _outcome(self, step: int, carry: Carry, outcome: Outcome) -> Values:
        at, tolerance, loss = f"train/step{step}", self._tolerance(step), LOSS_TOLERANCE[step - 1]
        yield f"{at}/inputs", carry.batch.inputs, 0.0
        yield f"{at}/labels", carry.batch.labels, 0.0
        yield f"{at}/puzzle_identifiers", carry.batch.identifiers, 0.0
        yield f"{at}/halted", carry.halted, 0.0
        yield f"{at}/steps", carry.steps, 0.0
        yield f"{at}/logits", outcome.logits, tolerance
        yield f"{at}/q_halt_logits", outcome.halt[:, 0], tolerance
        yield f"{at}/q_continue_logits", outcome.halt[:, 1], tolerance
        if outcome.look_ahead is not None:
            yield f"{at}/target_q_continue", outcome.look_ahead, tolerance
            yield f"{at}/metric/q_continue_loss", outcome.continue_loss, loss
        yield f"{at}/loss_sum", outcome.loss, loss
        yield f"{at}/metric/lm_loss", outcome.lm_loss, loss
        # The halting loss is linear in a few logits of unit size and inherits their tolerance.
        yield f"{at}/metric/q_halt_loss", outcome.halt_loss, tolerance
        yield f"{at}/metric/count", outcome.scored, 0.0
        yield f"{at}/metric/accuracy", outcome.cell_accuracy, 1e-6
        yield f"{at}/metric/exact_accuracy", outcome.solved, 0.0
        yield f"{at}/metric/q_halt_accuracy", outcome.halt_accuracy, 0.0
        yield f"{at}/metric/steps", outcome.steps, 0.0
        yield from self._latents(f"{at}/{{}}", carry.z, tolerance)

    def _gradients(self, step: int, grads: dict[str, torch.Tensor]) -> Values:
        for name, gradient in grads.items():
            key = f"train/step{step}/grad/inner.{official.official_name(name)}"
            yield key, gradient, self._tolerance(step)

    def _after(self, step: int, weights: Weights, shadow: dict[str, torch.Tensor]) -> Values:
        for kind, values in (("param_after", weights.params), ("ema_after", shadow)):
            for name, value in values.items():
                key = f"train/step{step}/{kind}/inner.{official.official_name(name)}"
                yield key, value.detach().clone(), TOLERANCE
        if weights.table is not None:
            key = f"train/step{step}/param_after/inner.{official.TABLE}"
            yield key, weights.table.clone(), TOLERANCE

    def _latents(self, template: str, z: tuple[torch.Tensor, ...], tolerance: float) -> Values:
        for buffer, latent in zip(official.official_initial(self.layout), z, strict=True):
            yield template.format("z_" + buffer.removesuffix("_init")), latent, tolerance

    def _rope(self) -> Values:
        rope = self.model.positions
        if isinstance(rope, Rope):
            cos, sin = rope_tables(
                self.core.positions, self.model.head_dim, rope.theta, torch.float32,
                torch.device("cpu"),
            )  # fmt: skip
            yield "eval/rope_cos", cos, TOLERANCE
            yield "eval/rope_sin", sin, TOLERANCE

    def _tolerance(self, step: int) -> float:
        return GROWING[step - 1] if self.expanding else TOLERANCE

    def _batch(self, index: int) -> Batch:
        def load(name: str) -> torch.Tensor:
            return torch.tensor(self.recorded[f"batch{index}/{name}"])

        inputs, vocabulary = load("inputs"), self.core.geometry.vocabulary
        if inputs.shape[1:] != (self.core.geometry.cells,):
            raise ValueError(f"batch{index}/inputs is {tuple(inputs.shape)}")
        if not ((inputs >= 0) & (inputs < vocabulary)).all():
            raise ValueError(f"batch{index}/inputs holds tokens outside 0..{vocabulary - 1}")
        return Batch(inputs, load("labels").long(), load("puzzle_identifiers"))


def _section(recorded: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}


def _difference(theirs: np.ndarray, ours: Any) -> float:
    mine = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    if mine.shape != theirs.shape:
        return float("inf")
    a, b = theirs.astype(np.float64), mine.astype(np.float64)
    largest = float(np.abs(a).max(initial=0.0)) or 1.0
    difference = float(np.abs(a - b).max(initial=0.0)) / largest
    return difference if np.isfinite(difference) else float("inf")
