"""The state of a training run: everything that one update reads and writes.

A checkpoint holds all of it, so that a resumed run goes on bit for bit.  Random draws need no
saving: they are keyed by the update counter (see `stream`).
"""

import io
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm_lab.accounting import account
from trm_lab.atomic import write_bytes
from trm_lab.config.extension import refuse_changed, sources
from trm_lab.config.recipe import Recipe
from trm_lab.core.core import Core, Weights
from trm_lab.core.initial import initial_weights
from trm_lab.core.recursion import Checkpointing
from trm_lab.core.supervision import Batch, Carry, Outcome, empty_carry, watch
from trm_lab.errors import ConfigError
from trm_lab.parameters import Geometry
from trm_lab.training.optimizers import (
    Optimizer,
    average,
    build_optimizer,
    rate,
    set_rates,
    sign_sgd,
)
from trm_lab.training.stream import Stream
from trm_lab.training.update import work

SUMMED = (
    "loss", "lm_loss", "halt_loss", "continue_loss", "scored", "cell_accuracy", "solved", "steps",
)  # fmt: skip
"""Fields of an outcome that are added up between two records."""


@dataclass
class Counters:
    """What a run has used so far; evaluation apart."""

    update: int = 0
    examples: int = 0
    """Puzzles started."""
    flops: int = 0
    """Matrix-product FLOPs of training."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class Session:
    """One run in memory."""

    recipe: Recipe
    core: Core
    weights: Weights
    optimizer: Optimizer
    shadow: dict[str, Tensor] | None
    """Averaged weights, or None without averaging."""
    shadow_table: Tensor | None
    """Averaged puzzle table, or None where it is not averaged."""
    stream: Stream
    carry: Carry
    sums: Tensor
    """Sums of `SUMMED` since the last record."""
    started: Tensor
    """Puzzles started since the last record.  Like all sums, of the slots of this process."""
    counters: Counters = field(default_factory=Counters)
    best: dict[str, float] | None = None
    """Update and validation accuracy of the best evaluation so far."""
    since: int = 0
    """Update of the last record."""
    validated: int = 0
    """Update of the last evaluation on the validation puzzles; 0 before any."""
    watched: dict[str, Tensor] = field(default_factory=dict)
    """Sums since the last record of what only some recipes have: residuals and solves."""

    @classmethod
    def fresh(
        cls,
        recipe: Recipe,
        stream: Stream,
        device: torch.device,
        checkpointing: Checkpointing = None,
    ) -> "Session":
        """Start a run from nothing."""
        dtype = getattr(torch, recipe.train.dtype)
        geometry = Geometry.of(recipe.task)
        core = Core(recipe.model, geometry, dtype, device, checkpointing)
        hypotheses = recipe.supervision.hypotheses
        weights = initial_weights(recipe.model, geometry, recipe.seed, dtype, device, hypotheses)
        for p in weights.params.values():
            p.requires_grad_()
        averaged, table = recipe.train.ema is not None, weights.table
        return cls(
            recipe=recipe,
            core=core,
            weights=weights,
            optimizer=build_optimizer(recipe.train.optimizer, weights.params),
            shadow=(
                {k: p.detach().clone() for k, p in weights.params.items()} if averaged else None
            ),
            shadow_table=table.clone() if table is not None and recipe.train.ema_table else None,
            stream=stream,
            carry=empty_carry(core, weights, stream.draw(1), hypotheses),
            sums=torch.zeros(len(SUMMED), dtype=torch.float64, device=device),
            started=torch.zeros((), dtype=torch.int64, device=device),
        )

    def advance(self) -> None:
        """Do one optimiser update."""
        recipe, weights, train = self.recipe, self.weights, self.recipe.train
        update = self.counters.update + 1
        worked = work(recipe, self.core, weights, self.stream, self.carry, update)
        for p, g in zip(weights.params.values(), worked.grads, strict=True):
            p.grad = g
        factor = rate(train.schedule, update, train.updates)
        if weights.table is not None and worked.row_grads is not None:
            setting = train.table_optimizer
            sign_sgd(
                weights.table, worked.identifiers, worked.row_grads,
                setting.lr * factor, setting.weight_decay,
            )  # fmt: skip
        set_rates(self.optimizer, train.optimizer, factor)
        self.optimizer.step()
        if self.shadow is not None and train.ema is not None:
            average(self.shadow, weights.params, train.ema)
            if self.shadow_table is not None and weights.table is not None:
                average({"table": self.shadow_table}, {"table": weights.table}, train.ema)
        self.carry = worked.carry
        self.started += worked.started
        self.counters.update = update
        self.counters.flops += worked.flops
        for outcome in worked.outcomes:
            self._add(outcome)

    @property
    def evaluated(self) -> Weights:
        """The weights that evaluation uses: averaged where there are any."""
        params = self.weights.params if self.shadow is None else self.shadow
        table = self.weights.table if self.shadow_table is None else self.shadow_table
        return replace(self.weights, params=params, table=table)

    def record(self) -> dict[str, Any]:
        """Give the means since the last record, over all slots, and start over."""
        kept = [*self.sums, self.started.double(), *self.watched.values()]
        (summed,) = self.stream.group.total([torch.stack(kept)])
        names = (*SUMMED, "started", *self.watched)
        total = dict(zip(names, summed.tolist(), strict=True))
        steps = (self.counters.update - self.since) * self.recipe.supervision.steps_per_update
        slots, scored = steps * self.recipe.train.batch, total["scored"]
        self.counters.examples += int(total["started"])
        self.sums.zero_()
        self.started.zero_()
        self.since = self.counters.update
        watched = {name: total[name] / slots for name in self.watched}
        self.watched.clear()
        return {
            "loss": total["loss"] / slots,
            "lm_loss": total["lm_loss"] / slots,
            "halt_loss": (total["halt_loss"] + total["continue_loss"]) / slots,
            "cell_accuracy": total["cell_accuracy"] / scored if scored else None,
            "puzzle_accuracy": total["solved"] / scored if scored else None,
            "mean_steps": total["steps"] / scored if scored else None,
            "lr": self.optimizer.param_groups[0]["lr"],
            **watched,
        }

    @torch.no_grad()  # else the sums would carry the graph of every update, into the checkpoint too
    def _add(self, outcome: Outcome) -> None:
        self.sums += torch.stack([getattr(outcome, name).double() for name in SUMMED])
        for name, value in watch(outcome).items():
            self.watched[name] = self.watched.get(name, 0.0) + value.double()

    def save(self, path: Path, fingerprint: str, keep: Path | None = None) -> None:
        """Write a checkpoint, whole or not at all; with `keep` the one before goes there.

        It holds the slots of all processes, so that any number of them can go on from it; all have
        to call this, and the first one writes.

        Raises:
            RuntimeError: the processes no longer hold the same weights.
        """
        group = self.stream.group
        table = () if self.weights.table is None else (self.weights.table,)
        group.check_same([*self.weights.params.values(), *table])
        content = {
            "recipe_id": self.recipe.id,
            "seed": self.recipe.seed,
            "fingerprint": fingerprint,
            "own": sources(self.recipe),
            **self.tensors(),
            "optimizer": self.optimizer.state_dict(),
            "carry": {
                "z": [group.gathered(z) for z in self.carry.z],
                "steps": group.gathered(self.carry.steps),
                "halted": group.gathered(self.carry.halted),
                "batch": {k: group.gathered(v) for k, v in self.carry.batch._asdict().items()},
            },
            # One row per process: whoever goes on with as many has the sums to the last bit.
            "sums": group.gathered(self.sums[None]),
            "started": group.gathered(self.started[None]),
            "since": self.since,
            "validated": self.validated,
            "watched": {name: group.gathered(v[None]) for name, v in self.watched.items()},
            "counters": asdict(self.counters),
            "best": self.best,
        }
        if not group.first:
            return
        # In memory first: torch's own writer tells of a full disk in words that name no file.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_bytes(path, buffer.getbuffer(), keep)

    def tensors(self) -> dict[str, Any]:
        """Give all weights: trained, averaged, initial states, puzzle tables."""
        return {
            "params": {k: p.detach() for k, p in self.weights.params.items()},
            "ema": self.shadow,
            "initial": list(self.weights.initial),
            "others": list(self.weights.others),
            "table": self.weights.table,
            "ema_table": self.shadow_table,
        }

    def restore(self, path: Path, fingerprint: str) -> None:
        """Take over a checkpoint.

        Raises:
            ConfigError: the checkpoint is of another recipe, seed or data set, or code of one's own
                has changed since.
        """
        group, device = self.stream.group, self.core.device
        # The first process reads for all: a file system that they share may show them two versions.
        file = path if group.size == 1 else io.BytesIO(group.leading(path.read_bytes))
        content = torch.load(file, map_location=device, weights_only=True)
        for name, ours in (
            ("recipe_id", self.recipe.id),
            ("seed", self.recipe.seed),
            ("fingerprint", fingerprint),
        ):
            if content[name] != ours:
                raise ConfigError(
                    f"{path}: checkpoint has {name} {content[name]}, this run {ours}; the recipe "
                    "or its data changed since; give another folder"
                )
        refuse_changed(self.recipe, content.get("own", {}), str(path))
        with torch.no_grad():
            for name, p in self.weights.params.items():
                p.copy_(content["params"][name])
            for vector, saved in zip(self.weights.initial, content["initial"], strict=True):
                vector.copy_(saved)
            for vector, saved in zip(self.weights.others, content.get("others", ()), strict=True):
                vector.copy_(saved)
            if self.weights.table is not None:
                self.weights.table.copy_(content["table"])
        self.shadow = content["ema"]
        self.shadow_table = content.get("ema_table")  # absent in checkpoints of the first release
        self.optimizer.load_state_dict(content["optimizer"])
        carry = content["carry"]
        self.carry = Carry(
            tuple(group.share(z) for z in carry["z"]),
            group.share(carry["steps"]),
            group.share(carry["halted"]),
            Batch(**{name: group.share(part) for name, part in carry["batch"].items()}),
        )
        # Sums of one process alone have no axis of processes in older checkpoints.
        self.sums = self._own(content["sums"].view(-1, len(SUMMED)))
        self.started = self._own(content["started"].view(-1))
        self.since = content["since"]
        watched = content.get("watched", {})
        self.watched = {name: self._own(part.view(-1)) for name, part in watched.items()}
        # Checkpoints from before FLOPs were counted: their updates all cost the same.
        flops = content["counters"]["update"] * account(self.recipe).flops_per_update
        self.counters = Counters(**{"flops": flops, **content["counters"]})
        self.best = content["best"]
        # Earlier releases wrote no checkpoint between an update and its evaluation.
        self.validated = content.get("validated", self.counters.update)

    def _own(self, parts: Tensor) -> Tensor:
        """Take this process's sums out of those of all; of another number, the first takes all."""
        group = self.stream.group
        if len(parts) == group.size:
            return parts[group.rank].clone()
        return parts.sum(0) if group.first else torch.zeros_like(parts[0])
