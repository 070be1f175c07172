"""How the factors of a study combine, and what their values are called.  Torch-free.

A combination is the value of every factor that a cell sets: of all of them, or of one where they
are changed one at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

from trm_lab.config.base import Pick
from trm_lab.config.changes import leaves
from trm_lab.config.source import Path, Source
from trm_lab.config.study import Study
from trm_lab.config.validate import show, suggest
from trm_lab.errors import ConfigError

MOST_CELLS = 100_000
"""Of a study; more ask for `--yes-really`."""


class Level(NamedTuple):
    """One factor's value in a cell."""

    factor: str
    """Dotted name."""
    place: int
    """Of the value in the study's list."""
    value: Any
    text: str
    """The value as labels have it, another one for every value of the factor."""


Combination = tuple[Level, ...]


def count(study: Study) -> int:
    """Count the cells of a study without making them; exclusions and repetitions are not taken off.

    Of k factors with v values each: v^k times the variants, v (zip), or 1 + k v (one at a time).
    """
    sizes = [len(values) for values in study.factors.values()]
    match study.mode:
        case "product":
            each = prod(sizes)
        case "zip":
            each = sizes[0]
        case "one_at_a_time":
            each = 1 + sum(sizes)
    return len(study.variants) * each


def refuse_size(study: Study, source: Source, most: int | None) -> None:
    """Refuse a matrix of more than `most` cells, before any of them is made.

    Raises:
        ConfigError: how many there are, and what goes on all the same.
    """
    cells = count(study)
    if most is None or cells <= most:
        return
    sizes = " x ".join(f"{len(values):,}" for values in study.factors.values())
    how = {"product": sizes, "zip": f"zip of {sizes}", "one_at_a_time": f"one at a time of {sizes}"}
    arms = len(study.variants)
    of = f" of {arms:,} variant{'s' * (arms > 1)} and factors {how[study.mode]}" * bool(sizes)
    raise ConfigError(
        f"{source.place(('factors' if sizes else 'variants',))}: {cells:,} cells{of}; more "
        f"than {most:,} are made by `trm-lab validate`, `plan` and `run` with --yes-really only"
    )


def combinations(study: Study) -> Iterator[Combination]:
    """Give the combinations of the study's factors in the order written."""
    levels = [
        [
            Level(factor, place, value, text)
            for place, (value, text) in enumerate(zip(values, texts(values), strict=True))
        ]
        for factor, values in study.factors.items()
    ]
    match study.mode:
        case "product":
            yield from product(*levels)
        case "zip":
            yield from zip(*levels, strict=True)
        case "one_at_a_time":
            yield ()
            yield from ((level,) for factor in levels for level in factor)


def matches(pick: Pick, variant: str, combination: Iterable[Level]) -> bool:
    """Say whether a cell is what `pick` names: everything that it says must hold."""
    has: dict[str, Any] = {level.factor: level.value for level in combination}
    has["variant"] = variant
    return all(key in has and _same(value, has[key]) for key, value in pick.items())


def pick_problems(pick: Pick, study: Study, source: Source, path: Path) -> list[str]:
    """List what a pick names that the study does not have; `path` is where `source` has it."""
    dotted = ".".join(map(str, path))
    if not pick:
        known = ", ".join(["variant", *study.factors])
        return [f"{source.place(path)}: {dotted}: names no cell; give one or more of {known}"]
    problems = []
    for key, value in pick.items():
        at = f"{source.place((*path, key))}: {dotted}"
        if key == "variant":
            names = [variant.name for variant in study.variants]
            if value not in names:
                problems.append(f"{at}: no variant {show(value)}{suggest(value, names)}")
        elif key not in study.factors:
            near = suggest(key, ["variant", *study.factors])
            problems.append(f"{at}: {key} is not a factor of study {study.name}{near}")
        elif not any(_same(value, own) for own in study.factors[key]):
            few = ", ".join(texts(study.factors[key])[:10])
            more = ", ..." * (len(study.factors[key]) > 10)
            problems.append(f"{at}: {key} has no value {show(value)}; it has {few}{more}")
    return problems


def cells_left(study: Study, source: Source) -> list[tuple[int, Combination]]:
    """Give every cell that is not excluded as its variant's place in the list and its combination.

    Raises:
        ConfigError: an exclusion of what the study does not have, or of nothing, or of everything.
    """
    problems = [
        line
        for at, pick in enumerate(study.exclude)
        for line in pick_problems(pick, study, source, ("exclude", at))
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    left, used = [], set()
    for index, variant in enumerate(study.variants):
        for combination in combinations(study):
            hit = {i for i, p in enumerate(study.exclude) if matches(p, variant.name, combination)}
            used |= hit
            if not hit:
                left.append((index, combination))
    for at, pick in enumerate(study.exclude):
        if at not in used:
            problems.append(
                f"{source.place(('exclude', at))}: exclude.{at}: no cell has all of {show(pick)}"
            )
    if not left:
        problems.append(
            f"{source.place(('exclude',))}: exclude: leaves none of {count(study)} cells"
        )
    if problems:
        raise ConfigError("\n".join(problems))
    return left


def texts(values: Sequence[Any]) -> list[str]:
    """Write the values of a factor as labels have them: one with settings by its kind.

    Those that share a kind are told apart by the settings in which they differ: "last_updates k=2".
    """
    kinds = [str(v.get("kind", v)) if isinstance(v, dict) else str(v) for v in values]
    told = [leaves(v) if isinstance(v, dict) else {"kind": v} for v in values]
    alike: dict[str, list[dict[str, Any]]] = {}
    for kind, own in zip(kinds, told, strict=True):
        alike.setdefault(kind, []).append(own)
    apart = {
        kind: [
            name
            for name in dict.fromkeys(name for own in owns for name in own)
            if any(own.get(name, ...) != owns[0].get(name, ...) for own in owns)
        ]
        for kind, owns in alike.items()
    }
    return [
        " ".join([kind, *(f"{name}={own[name]}" for name in apart[kind] if name in own)])
        for kind, own in zip(kinds, told, strict=True)
    ]


def _same(asked: Any, value: Any) -> bool:
    """Compare as YAML does: true is not 1.  A kind stands for all that it may have as settings."""
    if isinstance(value, dict) and isinstance(asked, str):
        return bool(asked == value.get("kind"))
    return asked == value and isinstance(asked, bool) == isinstance(value, bool)
