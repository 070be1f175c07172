"""A finished run, read back from its folder."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import trm_lab
from trm_lab.config.execution import Execution
from trm_lab.config.extension import refuse_changed, sources
from trm_lab.config.recipe import Recipe
from trm_lab.config.test_time import Subject
from trm_lab.core.core import Core, Weights
from trm_lab.errors import ConfigError
from trm_lab.parameters import Geometry, parameters, table_shape, untrained_latents
from trm_lab.paths import RUN, expect, missing
from trm_lab.runs import RunFolder, now
from trm_lab.tasks.build import build
from trm_lab.tasks.dataset import Puzzles
from trm_lab.training.environment import prepare
from trm_lab.training.recovery import whole


class Stored(NamedTuple):
    """A run made ready to be looked at."""

    folder: RunFolder
    recipe: Recipe
    core: Core
    weights: Weights
    puzzles: Puzzles
    fingerprint: str
    """Of the data set."""

    def provenance(self, subject: Subject) -> dict[str, Any]:
        """Give the attributes of a file that says something of the run: what of, and by what."""
        return {
            "recipe_id": self.recipe.id,
            "run_seed": self.recipe.seed,
            "run": str(self.folder.path),
            "weights": subject.weights,
            "split": subject.split,
            "puzzles": len(self.puzzles),
            "data_fingerprint": self.fingerprint,
            "own": json.dumps(sources(self.recipe)),
            "device": str(self.core.device),
            "trm_lab_version": trm_lab.__version__,
            "created_utc": now(),
        }


def stored_recipe(run_dir: Path | str) -> Recipe:
    """Read the recipe of a run.

    Raises:
        ConfigError: no run there.
    """
    folder = RunFolder(run_dir)
    if not folder.path.exists():
        made = f"`trm-lab run STUDY` and `trm-lab train RECIPE --out {folder.path}` make one"
        raise missing(folder.path, "run folder", made)
    expect(folder.path, RUN)
    return folder.recipe()


def stored_run(
    run_dir: Path | str, subject: Subject, execution: Execution, cache: Path | None = None
) -> Stored:
    """Read the weights and build the puzzles that a subject names.

    Raises:
        ConfigError: no run there, no such weights, its data cannot be had again, or code of one's
            own has changed since.
    """
    recipe, folder = stored_recipe(run_dir), RunFolder(run_dir)
    status = folder.status() or {}
    refuse_changed(recipe, (status.get("environment") or {}).get("own") or {}, str(folder.path))
    device = prepare(execution)
    core = Core(recipe.model, Geometry.of(recipe.task), getattr(torch, recipe.train.dtype), device)
    found = stored_weights(folder, core, subject.weights)
    data = build(recipe.task, cache)
    recorded = (status.get("data") or {}).get("fingerprint")
    if recorded not in (None, data.fingerprint):
        raise ConfigError(
            f"{folder.path}: trained on data {recorded}, the task now gives {data.fingerprint}"
        )
    puzzles = getattr(data, subject.split)
    puzzles = puzzles.select(np.arange(len(puzzles))[: subject.limit])
    return Stored(folder, recipe, core, found, puzzles, data.fingerprint)


def stored_weights(folder: RunFolder, core: Core, which: str) -> Weights:
    """Read the weights that evaluation uses at the end (`last`: averaged where there are any), the
    best ones on validation (`best`), or the last ones without averaging (`raw`).

    Raises:
        ConfigError: the run has not come so far, or a file is damaged.
    """
    if not folder.weights.exists():
        raise ConfigError(
            f"{folder.path}: no weights yet, the run is {folder.state().value}; they are written "
            "when training is completed"
        )
    try:
        flat = load_file(folder.weights, device=str(core.device))
    except SafetensorError as error:
        raise ConfigError(f"{folder.weights}: damaged: {error}") from None

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}/"): v for k, v in flat.items() if k.startswith(f"{name}/")}

    params = part("raw") if which == "raw" else part("ema") or part("raw")
    table = flat.get("table")
    if which == "last":
        table = flat.get("ema_table", table)
    initial, others = part("initial"), part("others")
    path = folder.weights
    if which == "best":
        path = folder.best
        if not path.exists():
            raise ConfigError(f"{path}: no best weights; use last or raw")
        if not whole(path):
            raise ConfigError(f"{path}: damaged; use last or raw")
        content = torch.load(path, map_location=core.device, weights_only=True)
        params, table = content["params"], content.get("table", table)
    starts = {f"initial.{name}": vector for name, vector in initial.items()}
    _refuse_other(path, core, params | starts | ({} if table is None else {"table": table}))
    latents = core.model.layout.latents
    return Weights(
        params,
        tuple(initial[name] for name in latents if name in initial),
        table,
        tuple(others[name] for name in latents if name in others),
    )


def _refuse_other(path: Path, core: Core, found: dict[str, Tensor]) -> None:
    """Refuse tensors that are not those of the model."""
    model, geometry = core.model, core.geometry
    wanted = {name: p.shape for name, p in parameters(model, geometry).items()}
    wanted |= dict.fromkeys(untrained_latents(model), (model.width,))
    if shape := table_shape(model, geometry):
        wanted["table"] = shape
    for name in sorted(wanted.keys() | found.keys()):
        here = f"has shape {tuple(found[name].shape)}" if name in found else "is missing"
        must = f"has shape {tuple(wanted[name])}" if name in wanted else "has none"
        if here != must:
            raise ConfigError(f"{path}: damaged: {name} {here}, and in the recipe {must}")
