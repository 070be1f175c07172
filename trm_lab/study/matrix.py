"""From a study to its cells: variants crossed with factors, each one validated recipe.

The matrix is enumerated here, not sampled.  Torch-free.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from trm_lab.config.halting import Oracle, WhenHalted
from trm_lab.config.presets import expand
from trm_lab.config.recipe import Recipe
from trm_lab.config.source import Path as Keys
from trm_lab.config.source import Source, merge
from trm_lab.config.study import Study
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError

P = TypeVar("P")


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


def expand_study(source: Source, changes: tuple[tuple[Keys, Any, str], ...] = ()) -> Matrix:
    """Validate a study and all its cells.

    `changes` are recipe settings laid over every cell, each with the place it was written.

    Raises:
        ConfigError: every error of the study and of its cells.
    """
    study = validate(Study, source)
    _refuse_overlaps(study, source)
    cells: list[Cell] = []
    problems: list[str] = []
    for index, variant in enumerate(study.variants):
        for values in product(*study.factors.values()):
            factors = dict(zip(study.factors, values, strict=True))
            try:
                data, places = _recipe(source, index, factors, changes)
                recipe = validate(Recipe, places, data)
            except ConfigError as error:
                problems.append(str(error))
                continue
            problems += _metric_problem(study, recipe, places)
            label = ", ".join([variant.name, *(f"{k}={_plain(v)}" for k, v in factors.items())])
            shown = tuple((key, _plain(value)) for key, value in factors.items())
            cells.append(
                Cell(_slug(label, recipe), label, variant.series, recipe, variant.name, shown)
            )
    if problems:
        lines = [line for problem in problems for line in problem.split("\n")]
        raise ConfigError("\n".join(dict.fromkeys(lines)))
    _refuse_twins(cells, source)
    return Matrix(study, tuple(cells), source.text)


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


def _recipe(
    source: Source,
    index: int,
    factors: dict[str, Any],
    changes: tuple[tuple[Keys, Any, str], ...],
) -> tuple[dict[str, Any], Source]:
    """Lay variant, factors and changes over the base; also say where each part was written."""
    base = source.below("base")
    data = expand(base)
    places = dict(base.places)
    arguments: dict[Keys, str] = {}
    written = [
        (tuple(key.split(".")), value, source.below("variants", index, "set", key))
        for key, value in (source.data["variants"][index].get("set") or {}).items()
    ]
    written += [
        (tuple(key.split(".")), value, source.below("factors", key))
        for key, value in factors.items()
    ]
    for path, value, origin in written:
        data = merge(data, _nest(path, value))
        places |= _new_ancestors(path, places, origin.places.get(()))
        places |= {(*path, *inner): at for inner, at in origin.places.items()}
    for path, value, place in changes:
        data = merge(data, _nest(path, value))
        arguments |= _new_ancestors(path, {**places, **arguments}, place)
        arguments[path] = place
    return data, Source(data, source.name, places, arguments)


def _new_ancestors(path: Keys, known: Collection[Keys], place: P | None) -> dict[Keys, P]:
    """Place the leading parts of a dotted name that nothing wrote before: one may be misspelt."""
    if place is None:
        return {}
    return {path[:end]: place for end in range(1, len(path)) if path[:end] not in known}


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


def _nest(path: Keys, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _plain(value: Any) -> str:
    return str(value.get("kind", value)) if isinstance(value, dict) else str(value)


def _slug(label: str, recipe: Recipe) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    return f"{words[:60].strip('-')}-{recipe.id[:8]}"


def _refuse_twins(cells: list[Cell], source: Source) -> None:
    seen: dict[str, str] = {}
    for cell in cells:
        if cell.recipe.id in seen:
            raise ConfigError(
                f"{source.place(('variants',))}: variants {seen[cell.recipe.id]!r} and "
                f"{cell.variant!r} are the same recipe"
            )
        seen[cell.recipe.id] = cell.variant
