"""From a study to its cells: variants crossed with combinations of factors, each one valid recipe.

The matrix is enumerated here, not sampled.  Torch-free.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import eq
from typing import Any

from pydantic import ValidationError

from trm_lab.config.base import Pick
from trm_lab.config.changes import Change, Layer, blame, lay, layered, nest
from trm_lab.config.extension import once_per_module
from trm_lab.config.halting import Oracle, WhenHalted
from trm_lab.config.presets import expand
from trm_lab.config.recipe import Recipe
from trm_lab.config.remarks import remarks, twins
from trm_lab.config.source import Path, Source, merge
from trm_lab.config.study import Study
from trm_lab.config.validate import show, suggest, validate
from trm_lab.errors import ConfigError
from trm_lab.study.combinations import (
    MOST_CELLS,
    Combination,
    cells_left,
    matches,
    pick_problems,
    refuse_size,
)
from trm_lab.study.names import apart, name_problems, shared_names
from trm_lab.study.overlaps import overlaps
from trm_lab.study.problems import noted, validated
from trm_lab.study.space import held_problems, late, parameter_problems, policy, value_problems


@dataclass(frozen=True)
class Cell:
    """One recipe of a study; its seeds are replicates."""

    name: str
    """Readable slug and 8 hex digits of the recipe's id: the folder's name."""
    variant: str
    """The arm, with the values of the factors: "TRM, model.T=2".  No other cell has this name."""
    series: str
    recipe: Recipe
    arm: str
    """The variant as the study file names it."""
    levels: Combination = field(default=(), hash=False)
    """The values of the factors that the cell sets."""
    written: Callable[[], Source] | None = field(default=None, compare=False, repr=False)
    """Of an arm of a search: its settings before defaults, each with its place."""

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """The combination, to be looked up by: each factor and its value's place in the list."""
        return tuple((level.factor, level.place) for level in self.levels)


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
        lines = [f"{_listing(names)}: {remark}" for remark, names in found.items()]
        least = min(cell.recipe.train.updates for cell in self.cells)
        return [*policy(self.study, varied(self.study)), *late(self.study, least), *lines]


def expand_study(
    source: Source, changes: tuple[Change, ...] = (), most: int | None = MOST_CELLS
) -> Matrix:
    """Validate a study and all its cells, each in half a millisecond.

    `changes` are recipe settings laid over every cell.  More than `most` cells are refused before
    any is made; null takes them all.

    Raises:
        ConfigError: every error of the study and of its cells.
    """
    study, source, problems = validated(source)
    cells: tuple[Cell, ...] = ()
    with noted(problems):
        refuse_size(study, source, most)
        clashes = overlaps(study, source, changes) + parameter_problems(study, source, changes)
        problems += name_problems(study, source) + clashes
        if not clashes:  # of those who set one thing, only one would be looked at
            cells, found = _cells(study, source, cells_left(study, source), changes)
            problems += found
    _raise(problems)
    _raise(apart(study, source, ((cell.arm, cell.places) for cell in cells)))
    _refuse_twins(cells, study, source, changes)
    _raise(shared_names(study, source, [(cell.arm, cell.variant) for cell in cells]))
    _raise(held_problems(study, source, varied(study), cells[0].recipe.as_dict()))
    arms = [cell.written() for cell in cells if cell.written]
    _raise(value_problems(study, source, arms, lambda settings: checked(study, settings)[1]))
    return Matrix(study, cells, source.text)


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems))


def _cells(
    study: Study,
    source: Source,
    left: list[tuple[int, Combination]],
    changes: tuple[Change, ...],
) -> tuple[tuple[Cell, ...], list[str]]:
    """Give the cells, and a line for every error."""
    cells: list[Cell] = []
    problems: dict[str, dict[str, str]] = {}
    try:
        base = expand(source.below("base"))
    except ConfigError as error:
        return (), str(error).split("\n")
    arms = [_laid(base, variant.set.items()) for variant in study.variants]
    told = [(".".join(map(str, change.path)), change.value) for change in changes]
    own: dict[int, Recipe] = {}
    for index, combination in left:
        variant = study.variants[index]
        values = [(level.factor, level.value) for level in combination]
        data = _laid(arms[index], [*values, *told])
        layers = partial(_layers, source, base, index, combination, changes)
        label = ", ".join([variant.name, *(f"{at.factor}={at.text}" for at in combination)])
        try:
            recipe = Recipe.model_validate(data)
            wrong = bool(_metric_problem(study, recipe, source))
        except ValidationError:
            wrong = True
        if wrong:
            for line, layer in blame(layers(), lambda settings: checked(study, settings)[1]):
                problems.setdefault(line, {})[label] = layer.place
            continue
        if study.mode == "one_at_a_time" and own.setdefault(index, recipe) == recipe and values:
            continue  # the value that the variant has: that cell is there
        name, arm = slug(label, recipe), variant.name
        written = (lambda layers=layers: layers()[-1].settings) if study.search else None
        cells.append(Cell(name, label, variant.series, recipe, arm, combination, written))
    return tuple(cells), once_per_module(_said(problems, source, left))


def _laid(data: Any, written: Iterable[tuple[str, Any]]) -> Any:
    for key, value in written:
        data = merge(data, nest(tuple(key.split(".")), value))
    return data


def checked(study: Study, placed: Source) -> tuple[Recipe | None, list[str]]:
    """Validate one cell's settings: the recipe if they are one, and a line for every error."""
    try:
        recipe = validate(Recipe, placed)
    except ConfigError as error:
        return None, str(error).split("\n")
    return recipe, _metric_problem(study, recipe, placed)


def varied(study: Study) -> list[str]:
    """Name the settings that variants and factors set."""
    return list(dict.fromkeys([key for v in study.variants for key in v.set] + [*study.factors]))


def takes(pick: Pick, cell: Cell) -> bool:
    """Say whether a pick of a sweep means a cell."""
    rest = {key: value for key, value in pick.items() if key != "cell"}
    named = "cell" not in pick or pick["cell"] in (cell.variant, cell.name)
    return named and matches(rest, cell.arm, cell.levels)


def refuse_slice(picks: Sequence[Pick], matrix: Matrix, source: Source) -> None:
    """Refuse a sweep whose `cells` name what the study does not have.

    Raises:
        ConfigError: every such name, and every entry that means no cell.
    """
    problems: list[str] = []
    for at, pick in enumerate(picks):
        path: Path = ("cells", at)
        rest = {key: value for key, value in pick.items() if key != "cell"}
        found = pick_problems(rest, matrix.study, source, path) if rest or not pick else []
        named = [cell for cell in matrix.cells if takes({"cell": pick.get("cell")}, cell)]
        if "cell" in pick and not named:
            names = [cell.variant for cell in matrix.cells]
            said = f"no cell {show(pick['cell'])}{suggest(pick['cell'], names)}"
            found.append(f"{source.place((*path, 'cell'))}: cells.{at}: {said}")
        if not found and not any(takes(pick, cell) for cell in matrix.cells):
            found.append(f"{source.place(path)}: cells.{at}: no cell has all of {show(pick)}")
        problems += found
    _raise(problems)


def no_cell(option: str, asked: str, cells: Iterable[Cell]) -> ConfigError:
    """Make the error of an option that names no cell, or a variant of several."""
    arms = {cell.variant: cell.arm for cell in cells}
    several = [name for name, arm in arms.items() if arm == asked]
    if several:
        return ConfigError(
            f"{option} {asked}: a variant of {len(several)} cells; give one: {'; '.join(several)}"
        )
    known = suggest(asked, list(arms), between="; ")  # names have commas
    return ConfigError(f"{option} {asked}: no such cell{known}")


def _layers(
    source: Source,
    base: Any,
    index: int,
    combination: Combination,
    changes: tuple[Change, ...],
) -> list[Layer]:
    """Lay variant, factors and changes over the base, one after the other."""
    under = source.below("base")
    layers = [Layer(replace(under, data=base), source.place(("base",)))]
    for path, key in _writers(source, index, combination):
        at = source.places[path[:2]] if path[0] == "factors" else None
        settings = lay(layers[-1].settings, key, source.below(*path), at)
        layers.append(Layer(settings, source.place(path)))
    return layered(layers, changes)


def _writers(source: Source, index: int, combination: Combination) -> list[tuple[Path, Path]]:
    """Give what is laid over the base in a cell: where the study has it, and what it sets."""
    told = source.data["variants"][index].get("set") or {}
    found: list[tuple[Path, str]] = [(("variants", index, "set", key), key) for key in told]
    found += [(("factors", level.factor, level.place), level.factor) for level in combination]
    return [(path, tuple(key.split("."))) for path, key in found]


def _said(
    problems: dict[str, dict[str, str]], source: Source, left: list[tuple[int, Combination]]
) -> list[str]:
    """Name the cells of an error where others, for which the same is written, do not have it.

    `problems`: by line and cell, where that is written.
    """
    if not problems:
        return []
    every = Counter(source.place(path) for cell in left for path, _ in _writers(source, *cell))
    return [
        line
        + f" (in {_listing([*cells])})"
        * (len(cells) < sum(every.get(place, len(left)) for place in set(cells.values())))
        for line, cells in problems.items()
    ]


def _listing(names: list[str], most: int = 4) -> str:
    """Name a few cells, and count the rest."""
    shown = " and ".join(names) if len(names) == 2 else "; ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _metric_problem(study: Study, recipe: Recipe, placed: Source) -> list[str]:
    """A study's metric must be among what is evaluated, while training and at the end."""
    policy = recipe.eval.policy
    if isinstance(policy, WhenHalted) and isinstance(policy.rule, Oracle):
        place = placed.place(("eval", "policy"))
        return [
            f"{place}: eval.policy: rule oracle looks at the solution: not a study's metric; "
            "`trm-lab eval RUN --rule oracle` gives it for a finished run"
        ]
    wanted = study.metric.steps or recipe.supervision.N_sup
    return [
        f"{placed.place(('eval', name))}: eval.{name}: the metric is read after "
        f"{wanted} steps, which is not among {list(recorded)}"
        for name, recorded in (
            ("steps", recipe.eval.steps),
            ("final_steps", recipe.eval.final_steps),
        )
        if wanted not in recorded
    ]


def slug(label: str, recipe: Recipe) -> str:
    """Name a cell's folder: readable, and 8 hex digits of the recipe's id."""
    words = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    return f"{words[:60].strip('-') or 'cell'}-{recipe.id[:8]}"


def _refuse_twins(
    cells: tuple[Cell, ...], study: Study, source: Source, changes: tuple[Change, ...]
) -> None:
    seen: dict[str, list[Cell]] = {}
    for cell in cells:
        alike = seen.setdefault(cell.name[-8:], [])
        twin = next((other for other in alike if other.recipe.id == cell.recipe.id), None)
        if twin is not None:
            raise _same_recipe(twin, cell, study, source, changes)
        alike.append(cell)


def _same_recipe(
    twin: Cell, cell: Cell, study: Study, source: Source, changes: tuple[Change, ...]
) -> ConfigError:
    """Make the error of two cells of one recipe: at what should tell the second one apart."""
    what = f"variants {twin.variant!r} and {cell.variant!r}"
    variants = [v for v in study.variants if v.name in (twin.arm, cell.arm)]
    told = [tuple(key.split(".")) for v in variants for key in v.set]
    told += [tuple(level.factor.split(".")) for level in cell.levels]
    guilty = [c for c in changes if any(all(map(eq, c.path, path)) for path in told)]
    if guilty:
        places = ", ".join(dict.fromkeys(change.place for change in guilty))
        return ConfigError(
            f"{places}: {what} become the same recipe: it overrides what tells them apart; "
            f"leave it out, or change the variants in {source.name}"
        )
    path: Path = ("variants", [v.name for v in study.variants].index(cell.arm))
    if twin.arm == cell.arm:
        level = next((b for b in cell.levels if b not in twin.levels), None)
        path = ("factors", level.factor, level.place) if level else ("factors",)
    return ConfigError(f"{source.place(path)}: {what} are the same recipe")
