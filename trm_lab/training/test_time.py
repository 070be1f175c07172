"""Evaluates a finished run at other depths and breadths than it was trained with."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import xarray as xr

from trm_lab.accounting import flops
from trm_lab.config.contracts import OwnLayout
from trm_lab.config.execution import Execution
from trm_lab.config.halting import Fixed, Residual
from trm_lab.config.initial import RandomStart
from trm_lab.config.recipe import Recipe
from trm_lab.config.test_time import SELECTORS, Rollouts, Selector, Subject
from trm_lab.core.reasoner import Reasoner
from trm_lab.core.rollouts import roll_out
from trm_lab.errors import ConfigError
from trm_lab.parameters import Geometry
from trm_lab.results.files import write_netcdf
from trm_lab.results.grid import grid_dataset
from trm_lab.training.stored import stored_recipe, stored_run


@dataclass(frozen=True)
class Evaluated:
    """A grid and the file it was written to."""

    grid: xr.Dataset
    path: Path


def evaluate_run(
    run_dir: Path | str,
    setting: Rollouts,
    subject: Subject = Subject(),  # noqa: B008  # frozen
    *,
    execution: Execution | None = None,
    cache: Path | None = None,
    batch: int = 128,
    announce: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Evaluate a run on a grid of steps and rollouts, in one pass, and save it beside the run.

    The largest number of rollouts is run to the largest number of steps; smaller K are its first K
    rollouts and fewer steps its earlier ones.  The file is
    `evaluation/rollouts-<split>-<weights>-<8 hex of the setting>.nc`; equal settings write it anew.
    `announce` is called once before the work, with the number of puzzles and the FLOPs of it all.

    Raises:
        ConfigError: no run there, no such weights, an n of which its own layout has no cycle,
            rollouts that would be the same, noise or restarts that would reach none, or a selector
            that the run has nothing to tell for.
    """
    recipe = stored_recipe(run_dir)
    _refuse_cycle(recipe, setting)
    selectors = _selectors(recipe, setting)
    setting = setting.model_copy(update={"select": selectors})
    if setting.restarts and isinstance(recipe.model.initial, RandomStart):
        raise ConfigError(
            "restarts: every rollout of this run starts at random already (model.initial: random)"
        )
    stored = stored_run(run_dir, subject, execution or Execution(), cache)
    folder, core, found, puzzles = stored.folder, stored.core, stored.weights, stored.puzzles
    _refuse_idle(setting, found.hypotheses, core.draws_start)
    step = rollout_flops(recipe, setting)
    total = step * setting.steps[-1] * setting.rollouts[-1] * len(puzzles)
    if announce is not None:
        announce(len(puzzles), total)
    began = time.perf_counter()
    reasoner = Reasoner(core, found, recipe.supervision.carried)
    trials = roll_out(reasoner, puzzles.inputs, puzzles.answers, setting, batch=batch)
    seconds = time.perf_counter() - began
    facts = {name: getattr(puzzles, name) for name in ("signature", "clues", "guesses")}
    if puzzles.solutions is not None:
        facts["solutions"] = puzzles.solution_counts
    attrs: dict[str, Any] = {
        "title": "Depth x breadth at test time",
        **stored.provenance(subject),
        "N_sup": recipe.supervision.N_sup,
        "n": setting.n or recipe.model.n,
        "T": setting.T or recipe.model.T,
        "noise": setting.noise,
        "hypotheses": found.hypotheses,
        "quiet": trials.quiet,
        "relative": int(setting.relative),
        "restarts": int(setting.restarts),
        "seed": setting.seed,
        "step_flops": float(step),
        "total_flops": float(total),
        "seconds": seconds,
    }
    grid = grid_dataset(trials, selectors, setting.rollouts, step, facts, attrs)
    mark = sha256(f"{setting.model_dump_json()} {subject.limit}".encode()).hexdigest()[:8]
    name = f"rollouts-{subject.split}-{subject.weights}-{mark}.nc"
    path = folder.path / "evaluation" / name
    write_netcdf(grid, path)
    return Evaluated(grid, path)


def _selectors(recipe: Recipe, setting: Rollouts) -> tuple[Selector, ...]:
    """Give the selectors asked for, or all that the run has something to tell for."""
    headless = isinstance(recipe.supervision.halting, Fixed | Residual)
    if setting.select is None:
        return tuple(s for s in SELECTORS if not (headless and s == "head"))
    if headless and "head" in setting.select:
        raise ConfigError(
            "select: head: the halting head of this run learned nothing (supervision.halting: "
            f"{recipe.supervision.halting.kind}); give select residual,vote,oracle"
        )
    return setting.select


def _refuse_cycle(recipe: Recipe, setting: Rollouts) -> None:
    """Refuse an n that somebody's own layout has no cycle for; ours have one for every n."""
    layout = recipe.model.layout
    if setting.n is not None and isinstance(layout, OwnLayout):
        try:
            layout.refuse(setting.n, "n")
        except ValueError as error:
            raise ConfigError(str(error)) from None


def _refuse_idle(setting: Rollouts, own: int, random: bool) -> None:
    """Refuse rollouts that are the same as others, and perturbations that reach none.

    `own` are the leading rollouts that start from a hypothesis each and are not perturbed.
    """
    most = setting.rollouts[-1]
    if most > own and not (setting.perturbed or random):
        same = f"the same after the first {own} hypotheses" if own > 1 else "all the same"
        raise ConfigError(
            f"rollouts: {most} rollouts without noise or restarts are {same}; give noise above 0, "
            "or restarts"
        )
    if most <= own and setting.perturbed:
        raise ConfigError(
            f"rollouts: noise and restarts act on the rollouts after the first {own}, the "
            f"hypotheses of this run; give more than {own}, not {most}"
        )


def rollout_flops(recipe: Recipe, setting: Rollouts) -> int:
    """Count the FLOPs of one supervision step of one rollout, at the setting's n and T."""
    changes = {k: v for k, v in (("n", setting.n), ("T", setting.T)) if v is not None}
    model = recipe.model.model_copy(update=changes)
    return flops(model, Geometry.of(recipe.task), look_ahead=False).forward
