"""The space of a search: what is laid over an arm's settings, and what is refused beforehand.

Torch-free and Optuna-free: a plan is made of it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice, product
from typing import Any

from trm_lab.config.changes import Change, Layer, blame, lay
from trm_lab.config.search import Choice, Parameter, Search
from trm_lab.config.source import Source
from trm_lab.config.study import Study
from trm_lab.study.combinations import texts

NOT_SEARCHED = ("task", "eval")
"""Settings that say what is measured: values under different ones do not compare."""
MOST_COMBINATIONS = 256
"""Combinations of the other parameters that are tried to find one that a value goes with."""

Problems = Callable[[Source], Sequence[str]]
"""Gives a line for every error of a recipe's settings."""


def overlay(written: Source, values: Mapping[str, Any], study: Source | None = None) -> Source:
    """Lay values by dotted name over an arm's settings, each placed at its line of the study."""
    for name, value in values.items():
        at = study.places.get(("search", "parameters", name)) if study else None
        part = Source(value, written.name, {(): at} if at else {})
        written = lay(written, tuple(name.split(".")), part)
    return written


def settings(search: Search, suggested: Mapping[str, Choice]) -> dict[str, Any]:
    """Turn what a sampler suggests into recipe settings: a choice's name into the choice."""
    found: dict[str, Any] = {}
    for name, parameter in search.parameters.items():
        value = suggested[name]
        found[name] = parameter.named[value] if parameter.choices is not None else value
    return found


def label(name: str, search: Search, suggested: Mapping[str, Choice]) -> str:
    """Name a trial's cell: the arm with the values, numbers short, choices as factors' are.

    Names are for who reads: folders are found again by their recipe, suggestions by what is stored.
    """
    return f"{name}, {brief(search, suggested)}"


def brief(search: Search, suggested: Mapping[str, Choice]) -> str:
    """Say what is suggested as labels do: `lr=0.00859, n=2`."""
    values = (f"{k.split('.')[-1]}={_said(search.parameters[k], v)}" for k, v in suggested.items())
    return ", ".join(values)


def _said(parameter: Parameter, value: Choice) -> str:
    if parameter.choices is not None:
        return dict(zip(parameter.named, texts(parameter.choices), strict=True))[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parameter_problems(study: Study, source: Source, changes: Collection[Change]) -> list[str]:
    """Name the parameters that something else sets too, or that say what is measured."""
    problems = []
    for name in study.search.parameters if study.search else ():
        place = source.place(("search", "parameters", name))
        if name.split(".")[0] in NOT_SEARCHED:
            problems.append(
                f"{place}: {name}: says what is measured, and values under different ones do not "
                "compare; make it a factor"
            )
        writers = [f"variant {v.name!r}" for v in study.variants if _any_meets(v.set, name)]
        writers += [f"factor {key}" for key in study.factors if _meets(key, name)]
        writers += ["held"] * _any_meets(study.held, name)
        writers += [c.place for c in changes if c.overrides(tuple(name.split(".")))]
        problems += [f"{place}: {name} is searched, and {one} sets it too" for one in writers]
    return problems


def value_problems(
    study: Study, source: Source, arms: Sequence[Source], problems: Problems
) -> list[str]:
    """Give the errors of parameters' ends and choices that are of no use in an arm.

    A value that does not go with an arm as it is may go with other values that are searched.
    """
    if study.search is None:
        return []
    parameters = study.search.parameters
    found: list[str] = []
    for arm, (name, parameter) in product(arms, parameters.items()):
        others = {k: p for k, p in parameters.items() if k != name}
        for value in parameter.extremes():
            alone = overlay(arm, {name: value}, source)
            if problems(alone) and not _goes(arm, {name: value}, others, problems):
                at = source.place(("search", "parameters", name))
                found += [line for line, _ in blame([Layer(arm, ""), Layer(alone, at)], problems)]
    return list(dict.fromkeys(found))


def _goes(
    arm: Source, values: dict[str, Any], others: Mapping[str, Parameter], problems: Problems
) -> bool:
    combinations = product(*(p.extremes() for p in others.values()))
    return any(
        not problems(overlay(arm, values | dict(zip(others, chosen, strict=True))))
        for chosen in islice(combinations, MOST_COMBINATIONS)
    )


def policy(study: Study, varied: Sequence[str]) -> list[str]:
    """Say which settings are held over what varies, and which are tuned in every arm."""
    over = f" over {', '.join(varied)}" if varied else ""
    lines = [f"{name} is held{over}" for name in study.held]
    if study.search is not None:
        tuned = ", ".join(study.search.parameters)
        lines.append(f"{tuned}: tuned in every arm on {study.search.trials} trials")
        lines += pace(study.search)
    return lines


def pace(search: Search) -> list[str]:
    """Say from when on the sampler learns, and that it may not come to it; nothing if none does."""
    name, first, at_once = f"sampler {search.sampler}", search.startup, search.at_once
    if not first or at_once is None:
        return []
    lines = [f"{name}: random until {first} trials of an arm have a value; at most {at_once} of an "
             "arm at a time"]  # fmt: skip
    if search.trials < first + at_once:
        lines.append(f"search.trials: all {search.trials} of an arm may be random, with {at_once} "
                     f"at a time before {first} have a value: {name} needs more trials, or fewer "
                     "at a time (search.parallel)")  # fmt: skip
    return lines


def late(study: Study, updates: int) -> list[str]:
    """Say that nothing is pruned, or not in all arms, where the shortest run has so few updates."""
    warmup = study.search.warmup if study.search else None
    if warmup is None or warmup < updates:
        return []
    return [f"search.warmup: {warmup} updates leave nothing to prune of a run of {updates}"]


def held_problems(study: Study, source: Source, varied: Collection[str], known: Any) -> list[str]:
    """Name the settings that are stated as held and do not exist, or vary."""
    problems = []
    for index, name in enumerate(study.held):
        place, here = source.place(("held", index)), known
        for part in name.split("."):
            here = here.get(part, ...) if isinstance(here, dict) else ...
        if here is ...:
            problems.append(f"{place}: held: {name}: no such setting in these recipes")
        elif guilty := [key for key in varied if _meets(key, name)]:
            problems.append(f"{place}: held: {name} differs between cells: {guilty[0]}")
    return problems


def _meets(one: str, other: str) -> bool:
    """Say whether two dotted names are the same or one is part of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _any_meets(names: Collection[str], name: str) -> bool:
    return any(_meets(key, name) for key in names)
