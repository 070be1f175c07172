"""Settings that two parts of a study would both say.  Torch-free."""

from itertools import product

from trm_lab.config.changes import Change
from trm_lab.config.source import Path, Source
from trm_lab.config.study import Study
from trm_lab.study.combinations import texts


def overlaps(study: Study, source: Source, changes: tuple[Change, ...]) -> list[str]:
    """Give a line for every setting of which all but one of those who say it would be ignored."""
    return [
        *_seeds(study, source, changes),
        *_variants_and_factors(study, source),
        *_changes_and_factors(study, source, changes),
    ]


def _seeds(study: Study, source: Source, changes: tuple[Change, ...]) -> list[str]:
    """Every run has one of the study's seeds, whatever its settings say."""
    paths: list[Path] = [("base",), ("factors",), ("search", "parameters")]
    paths += [("variants", index, "set") for index in range(len(study.variants))]
    places = [source.place(at) for path in paths if (at := (*path, "seed")) in source.places]
    places += [change.place for change in changes if change.path[0] == "seed"]
    return [
        f"{place}: seed: the seeds of a study are said by seeds:, and this would be ignored"
        for place in places
    ]


def _variants_and_factors(study: Study, source: Source) -> list[str]:
    """A setting that both a variant and a factor write would silently take the factor's value.

    Where factors change one at a time, the variant's value is the one that they are changed from.
    """
    if study.mode == "one_at_a_time":
        return []
    problems = []
    for index, variant in enumerate(study.variants):
        for key, factor in product(variant.set, study.factors):
            if f"{key}.".startswith(f"{factor}.") or f"{factor}.".startswith(f"{key}."):
                place = source.place(("variants", index, "set", key))
                problems.append(
                    f"{place}: variant {variant.name!r} sets {key}, which factor {factor} sets too"
                )
    return problems


def _changes_and_factors(study: Study, source: Source, changes: tuple[Change, ...]) -> list[str]:
    """A change that says what a factor says would make all its values one."""
    return [
        f"{change.place}: {key} is a factor of the study with the values "
        f"{', '.join(texts(values))}, and all cells would get one; change it under factors: "
        f"in {source.name}, or leave this out and run one cell with --only"
        for change in changes
        for key, values in study.factors.items()
        if change.overrides(tuple(key.split(".")))
    ]
