"""From a study to its cells: variants crossed with factors, each one validated recipe.

The matrix is enumerated here, not sampled.  Torch-free.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from operator import eq
from typing import Any

from trm_lab.config.changes import Change, blamed, lay, nest, new_ancestors
from trm_lab.config.extension import once_per_module
from trm_lab.config.halting import Oracle, WhenHalted
from trm_lab.config.presets import expand
from trm_lab.config.recipe import Recipe
from trm_lab.config.remarks import remarks, twins
from trm_lab.config.source import Source, merge
from trm_lab.config.study import Study
from trm_lab.config.validate import suggest, validate
from trm_lab.errors import ConfigError


@dataclass(frozen=True)
class Cell:
    """One recipe of a study; its seeds are replicates."""

    name: str
    """Readable slug and 8 hex digits of the recipe's id: the folder's name."""
    variant: str
    """The arm, with the values of the factors: "TRM, model.T=2"."""
    series: str
    recipe: Recipe
    arm: str
    """The variant as the study file names it."""
    factors: tuple[tuple[str, str], ...] = ()
    """Dotted name and value of each factor."""


@dataclass(frozen=True)
class Matrix:
    """A study with its cells."""

    study: Study
    cells: tuple[Cell, ...]
    text: str
    """The study file, verbatim."""

    def twins(self) -> list[str]:
        """Say which cells are the same computation under different ids."""
        groups = twins([cell.recipe for cell in self.cells])
        return [
            f"{_listing([self.cells[i].variant for i in group])} are the same computation under "
            f"{len(group)} ids"
            for group in groups
        ]

    def remarks(self) -> list[str]:
        """Say which settings of which cells do not act as written."""
        found: dict[str, list[str]] = {}
        for cell in self.cells:
            for remark in remarks(cell.recipe):
                found.setdefault(remark, []).append(cell.variant)
        return [f"{_listing(names)}: {remark}" for remark, names in found.items()]


def expand_study(source: Source, changes: tuple[Change, ...] = ()) -> Matrix:
    """Validate a study and all its cells.

    `changes` are recipe settings laid over every cell.

    Raises:
        ConfigError: every error of the study and of its cells.
    """
    study = validate(Study, source)
    _refuse_overlaps(study, source)
    _refuse_factors(study, source, changes)
    cells, problems = _cells(study, source, changes)
    if problems:
        before = _cells(study, source, ())[1] if changes else problems
        raise ConfigError("\n".join(blamed(line, before, changes) for line in problems))
    _refuse_twins(cells, source, changes)
    return Matrix(study, cells, source.text)


def _cells(
    study: Study, source: Source, changes: tuple[Change, ...]
) -> tuple[tuple[Cell, ...], list[str]]:
    """Give the cells, and a line for every error."""
    cells: list[Cell] = []
    problems: list[str] = []
    for index, variant in enumerate(study.variants):
        for values in product(*study.factors.values()):
            factors = dict(zip(study.factors, values, strict=True))
            try:
                places = _recipe(source, index, factors, changes)
                recipe = validate(Recipe, places)
            except ConfigError as error:
                problems += str(error).split("\n")
                continue
            problems += _metric_problem(study, recipe, places)
            label = ", ".join([variant.name, *(f"{k}={_plain(v)}" for k, v in factors.items())])
            shown = tuple((key, _plain(value)) for key, value in factors.items())
            cells.append(
                Cell(_slug(label, recipe), label, variant.series, recipe, variant.name, shown)
            )
    return tuple(cells), once_per_module(problems)


def no_cell(option: str, asked: str, cells: Iterable[Cell]) -> ConfigError:
    """Make the error of an option that names no cell, or a variant of several."""
    arms = {cell.variant: cell.arm for cell in cells}
    several = [name for name, arm in arms.items() if arm == asked]
    if several:
        return ConfigError(
            f"{option} {asked}: a variant of {len(several)} cells; give one: {'; '.join(several)}"
        )
    return ConfigError(f"{option} {asked}: no such cell" + suggest(asked, list(arms)))


def _refuse_overlaps(study: Study, source: Source) -> None:
    """A setting that both a variant and a factor write would silently take the factor's value."""
    problems = []
    for index, variant in enumerate(study.variants):
        for key, factor in product(variant.set, study.factors):
            if f"{key}.".startswith(f"{factor}.") or f"{factor}.".startswith(f"{key}."):
                place = source.place(("variants", index, "set", key))
                problems.append(
                    f"{place}: variant {variant.name!r} sets {key}, which factor {factor} sets too"
                )
    if problems:
        raise ConfigError("\n".join(problems))


def _refuse_factors(study: Study, source: Source, changes: tuple[Change, ...]) -> None:
    """A change that says what a factor says would make all its values one."""
    problems = [
        f"{change.place}: {key} is a factor of the study with the values "
        f"{', '.join(map(_plain, values))}, and all cells would get one; change it under factors: "
        f"in {source.name}, or leave this out and run one cell with --only"
        for change in changes
        for key, values in study.factors.items()
        if change.overrides(tuple(key.split(".")))
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _recipe(
    source: Source, index: int, factors: dict[str, Any], changes: tuple[Change, ...]
) -> Source:
    """Lay variant, factors and changes over the base; every part has the place it was written."""
    base = source.below("base")
    data = expand(base)
    places = dict(base.places)
    written = [
        (tuple(key.split(".")), value, source.below("variants", index, "set", key))
        for key, value in (source.data["variants"][index].get("set") or {}).items()
    ]
    written += [
        (tuple(key.split(".")), value, source.below("factors", key))
        for key, value in factors.items()
    ]
    for path, value, origin in written:
        data = merge(data, nest(path, value))
        places |= new_ancestors(path, places, origin.places.get(()))
        places |= {(*path, *inner): at for inner, at in origin.places.items()}
    return lay(data, Source(data, source.name, places), changes)


def _listing(names: list[str], most: int = 4) -> str:
    """Name a few cells, and count the rest."""
    shown = " and ".join(names) if len(names) == 2 else "; ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _metric_problem(study: Study, recipe: Recipe, places: Source) -> list[str]:
    """A study's metric must be among what is evaluated, while training and at the end."""
    policy = recipe.eval.policy
    if isinstance(policy, WhenHalted) and isinstance(policy.rule, Oracle):
        place = places.place(("eval", "policy"))
        return [f"{place}: eval.policy: rule oracle looks at the solution: not a study's metric"]
    wanted = study.metric.steps or recipe.supervision.N_sup
    return [
        f"{places.place(('eval', name))}: eval.{name}: the metric is read after "
        f"{wanted} steps, which is not among {list(recorded)}"
        for name, recorded in (
            ("steps", recipe.eval.steps),
            ("final_steps", recipe.eval.final_steps),
        )
        if wanted not in recorded
    ]


def _plain(value: Any) -> str:
    return str(value.get("kind", value)) if isinstance(value, dict) else str(value)


def _slug(label: str, recipe: Recipe) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    return f"{words[:60].strip('-')}-{recipe.id[:8]}"


def _refuse_twins(cells: tuple[Cell, ...], source: Source, changes: tuple[Change, ...]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        twin = seen.setdefault(cell.recipe.id, cell)
        if twin is cell:
            continue
        what = f"variants {twin.variant!r} and {cell.variant!r}"
        variants = [v for v in source.data["variants"] if v["name"] in (twin.arm, cell.arm)]
        told = [tuple(k.split(".")) for v in variants for k in v.get("set") or {}]
        told += [tuple(key.split(".")) for key, _ in cell.factors]
        guilty = [c for c in changes if any(all(map(eq, c.path, path)) for path in told)]
        if guilty:
            places = ", ".join(dict.fromkeys(change.place for change in guilty))
            raise ConfigError(
                f"{places}: {what} become the same recipe: it overrides what tells them apart; "
                f"leave it out, or change the variants in {source.name}"
            )
        raise ConfigError(f"{source.place(('variants',))}: {what} are the same recipe")
