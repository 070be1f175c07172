"""What a study would run, and where: cells x seeds with their cost.  Torch-free."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from trm_lab.accounting import Account, account
from trm_lab.atomic import write_text
from trm_lab.config.changes import Change, arguments, leaves
from trm_lab.config.execution import Execution, Sweep
from trm_lab.config.recipe import Recipe
from trm_lab.config.source import Source, read_yaml
from trm_lab.config.study import FitSpec, Study
from trm_lab.config.validate import unknown, validate
from trm_lab.errors import ConfigError
from trm_lab.runs import Labels, RunFolder, State
from trm_lab.study.combinations import MOST_CELLS
from trm_lab.study.matrix import Cell, Matrix, expand_study, refuse_slice, takes
from trm_lab.study.profiles import with_profile

DEFAULT_SWEEP = Sweep(name="laptop", execution=Execution(device="cpu", threads=1))
"""How a study runs when no sweep is named: one single-threaded process per core."""


@dataclass(frozen=True)
class Run:
    """One cell and seed, and its folder."""

    cell: Cell
    recipe: Recipe
    folder: RunFolder
    labels: Labels

    @property
    def key(self) -> str:
        """Folder below the study's: the run's name everywhere."""
        return f"{self.cell.name}/seed-{self.recipe.seed}"


@dataclass(frozen=True)
class Plan:
    """A study, a sweep and the folder of their runs."""

    matrix: Matrix
    sweep: Sweep
    root: Path
    sweep_text: str
    settings: tuple[str, ...] = ()
    """`--set` arguments laid over every cell."""
    arms: tuple[Cell, ...] = ()
    """What a search tunes; its cells are then the winners, none before they are known."""
    found: tuple[dict[str, Any], ...] = ()
    """What is known of the arms, as plain data."""

    @property
    def study(self) -> Study:
        """The study that is planned."""
        return self.matrix.study

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The study's cells, those that the sweep takes; of a search the winners that are known."""
        return self.matrix.cells if self.arms else self.taken

    @property
    def taken(self) -> tuple[Cell, ...]:
        """What the sweep takes of the cells that the study file writes."""
        cells, picks = self.asked.cells, self.sweep.cells
        if picks is None:
            return cells
        return tuple(cell for cell in cells if any(takes(pick, cell) for pick in picks))

    @property
    def asked(self) -> Matrix:
        """The cells that the study file writes: of a search its arms."""
        return replace(self.matrix, cells=self.arms or self.matrix.cells)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The study's seeds, as many as the sweep takes."""
        return self.all_seeds[: self.sweep.seeds]

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The study's seeds; of a search those that confirm."""
        study = self.matrix.study
        return study.seeds if study.search is None else study.search.confirm.seeds

    def runs(self) -> Iterator[Run]:
        """List the runs, cell by cell."""
        for cell in self.cells:
            labels = Labels(self.matrix.study.name, cell.variant, cell.series, cell.name)
            for seed in self.seeds:
                recipe = cell.recipe.with_seed(seed)
                folder = RunFolder(self.root / cell.name / f"seed-{seed}")
                yield Run(cell, recipe, folder, labels)

    def states(self) -> dict[str, State]:
        """Give the state of every run, by its key."""
        return {run.key: run.folder.state() for run in self.runs()}

    def accounts(self) -> dict[str, Account]:
        """Give the cost of every cell and arm, by its name."""
        return {cell.name: account(cell.recipe) for cell in (*self.arms, *self.matrix.cells)}

    def as_dict(self) -> dict[str, Any]:
        """Give the plan as plain data: plan.json."""
        study, accounts = self.matrix.study, self.accounts()
        baselines = {contrast.baseline for contrast in study.contrasts}
        return {
            "study": study.name,
            "question": study.question,
            "hypothesis": study.hypothesis,
            "sweep": self.sweep.name,
            "metric": study.metric.model_dump(mode="json"),
            # All of them: a sweep's slice says what runs now, not what the study consists of.
            "seeds": list(self.all_seeds),
            "sweep_seeds": list(self.seeds),
            "sweep_cells": [cell.name for cell in self.cells],
            "cells": [
                {
                    "cell": cell.name,
                    "recipe_id": cell.recipe.id,
                    "variant": cell.variant,
                    "arm": cell.arm,
                    "factors": {level.factor: level.value for level in cell.levels},
                    "series": cell.series,
                    "baseline": cell.arm in baselines,
                    "accounting": accounts[cell.name]._asdict(),
                    "recipe": cell.recipe.as_dict(),
                }
                for cell in self.matrix.cells
            ],
            "fits": [self._fit(fit) for fit in study.fits],
            "contrasts": [contrast.model_dump(mode="json") for contrast in study.contrasts],
            **self._search(),
            "study_yaml": self.matrix.text,
            "sweep_yaml": self.sweep_text,
            "settings": list(self.settings),
        }

    def _search(self) -> dict[str, Any]:
        if (search := self.study.search) is None:
            return {}
        objectives = list(search.objectives or (self.study.metric.name,))
        return {"search": list(self.found), "objectives": objectives}

    def _fit(self, fit: FitSpec) -> dict[str, Any]:
        """Name the cells of a fit's variants, which factors may have multiplied."""
        arms = fit.variants
        chosen = None if arms is None else [c.variant for c in self.matrix.cells if c.arm in arms]
        return {**fit.model_dump(mode="json"), "variants": chosen}

    def write(self) -> None:
        """Write study.yaml, sweep.yaml and plan.json into the study's folder."""
        write_text(self.root / "study.yaml", self.matrix.text)
        write_text(self.root / "sweep.yaml", self.sweep_text)
        write_text(self.root / "plan.json", json.dumps(self.as_dict(), indent=1) + "\n")

    def confounds(self) -> list[str]:
        """Say, for each contrast, which settings differ where more than one does.

        Cells are compared within each combination of the factors.  Cells that are the same
        computation under two ids come after them.
        """
        asked = self.asked
        recipes = {(cell.arm, cell.places): cell.recipe for cell in asked.cells}
        combinations = dict.fromkeys(cell.places for cell in asked.cells)
        lines = []
        for contrast in self.matrix.study.contrasts:
            for other, places in product(contrast.against, combinations):
                one, two = recipes.get((contrast.baseline, places)), recipes.get((other, places))
                changed = differences(one, two) if one and two else []
                if len(changed) > 1:
                    lines.append(
                        f"{other} against {contrast.baseline}: {len(changed)} settings change at "
                        f"once: {', '.join(changed)}"
                    )
        return list(dict.fromkeys(lines)) + asked.twins()


@dataclass(frozen=True)
class SweepFile:
    """A sweep and where its parts are written."""

    sweep: Sweep
    source: Source

    def check_set(self) -> None:
        """Refuse names in `set` that no recipe has; their values need a study to be checked.

        Raises:
            ConfigError: every such name.
        """
        wrong = {key: unknown(Recipe, tuple(key.split("."))) for key in self.sweep.set}
        lines = [
            f"{self.source.place(('set', key))}: {text}" for key, text in wrong.items() if text
        ]
        if lines:
            raise ConfigError("\n".join(lines))


def load_sweep(path: Path) -> SweepFile:
    """Read sweeps/<plan>.yaml and the profile that it names.

    Raises:
        ConfigError: every error, at its place.
    """
    source = with_profile(read_yaml(path), path.parent)
    return SweepFile(validate(Sweep, source), source)


def make_plan(
    study: Source,
    *,
    sweep: Sweep | SweepFile | None = None,
    settings: tuple[str, ...] = (),
    runs: Path = Path("runs"),
    most: int | None = MOST_CELLS,
) -> Plan:
    """Plan a study on a sweep; `settings` are `--set` arguments laid over every cell.

    A sweep or arguments that change recipes get a folder of their own beside the study's.  More
    than `most` cells are refused before any is made; null takes them all.

    Raises:
        ConfigError: any error in the study, the sweep or the arguments.
    """
    match sweep:
        case SweepFile():
            chosen, origin, text = sweep.sweep, sweep.source, sweep.source.text
        case _:
            chosen = sweep or DEFAULT_SWEEP
            origin = Source({}, f"sweep {chosen.name}")
            text = yaml.safe_dump(chosen.model_dump(mode="json"), sort_keys=False)
    changes = tuple(
        Change(tuple(key.split(".")), value, origin.place(("set", key)))
        for key, value in chosen.set.items()
    )
    matrix = expand_study(study, changes + arguments(settings), most)
    name = matrix.study.name + (f"-{chosen.name}" if chosen.set else "")
    if settings:
        digest = hashlib.sha256("\n".join(sorted(settings)).encode()).hexdigest()
        name += f"-set-{digest[:6]}"
    root = runs / name
    there = _folders(root)
    cells = tuple(replace(cell, name=_folder(there, cell)) for cell in matrix.cells)
    matrix = replace(matrix, cells=cells)
    refuse_slice(chosen.cells or (), matrix, origin)
    if matrix.study.search is not None:
        trials = matrix.study.search.trials
        found = tuple({"variant": c.variant, "trials": trials, "winners": []} for c in cells)
        empty = replace(matrix, cells=())
        return Plan(empty, chosen, root, text, settings, arms=cells, found=found)
    return Plan(matrix, chosen, root, text, settings)


def _folders(root: Path) -> dict[str, list[str]]:
    """List the folders of cells by the 8 hex digits at their ends."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.glob("*-" + "[0-9a-f]" * 8)):
        found.setdefault(path.name[-8:], []).append(path.name)
    return found


def _folder(there: dict[str, list[str]], cell: Cell) -> str:
    """Name a cell's folder: the one its recipe already has, should a variant be renamed."""
    own = there.get(cell.name[-8:], [])
    return cell.name if cell.name in own or not own else own[0]


def differences(a: Recipe, b: Recipe) -> list[str]:
    """Name the recipe settings in which two recipes differ."""
    return list(changed(a, b))


def changed(a: Recipe, b: Recipe) -> dict[str, Any]:
    """Give the settings in which recipe b differs from a, by dotted name; None where b has none."""
    one, two = leaves(a.as_dict()), leaves(b.as_dict())
    names = [k for k in {**one, **two} if one.get(k, ...) != two.get(k, ...)]
    # A changed kind brings settings of its own; the kind stands for them.
    kinds = {k.removesuffix("kind") for k in names if k.endswith(".kind")}
    kept = [k for k in names if k.endswith(".kind") or not any(k.startswith(p) for p in kinds)]
    # What is nothing on one side stands for the settings that the other side has below it.
    whole = tuple(f"{k}." for k in kept)
    return {name: two.get(name) for name in kept if not name.startswith(whole)}
