"""Whether the names in a study name something, each once.  Torch-free."""

from collections.abc import Iterable, Sequence

from trm_lab.config.source import Path, Source
from trm_lab.config.study import Study
from trm_lab.config.validate import suggest


def name_problems(study: Study, source: Source) -> list[str]:
    """Give a line for every name given twice, and for every one that names nothing."""
    arms = [variant.name for variant in study.variants]
    names = list(dict.fromkeys(arms))
    series = list(dict.fromkeys(variant.series for variant in study.variants))
    problems = [
        *_twice(source, ("variants",), "name", arms),
        *_twice(source, ("seeds",), None, study.seeds),
        *_twice(source, ("contrasts",), "name", [contrast.name for contrast in study.contrasts]),
        *_twice(source, ("fits",), "name", [fit.name for fit in study.fits]),
    ]

    def known(path: Path, name: str, what: str, there: list[str]) -> None:
        if name not in there:
            problems.append(_line(source, path, f"no {what} {name!r}{suggest(name, there)}"))

    for at, contrast in enumerate(study.contrasts):
        problems += _twice(source, ("contrasts", at, "against"), None, contrast.against)
        known(("contrasts", at, "baseline"), contrast.baseline, "variant", names)
        for i, other in enumerate(contrast.against):
            path = ("contrasts", at, "against", i)
            known(path, other, "variant", names)
            if other == contrast.baseline:
                problems.append(_line(source, path, f"{other!r} is the baseline itself"))
    for at, fit in enumerate(study.fits):
        if fit.series is not None:
            known(("fits", at, "series"), fit.series, "series", series)
        for i, name in enumerate(fit.variants or ()):
            known(("fits", at, "variants", i), name, "variant", names)
    return problems


def apart(study: Study, source: Source, arms: Iterable[tuple[str, object]]) -> list[str]:
    """Give a line for every two arms of a contrast that no combination of the factors has both of.

    `arms`: arm and combination of every cell.
    """
    found: dict[str, set[object]] = {}
    for arm, combination in arms:
        found.setdefault(arm, set()).add(combination)
    return [
        _line(
            source,
            ("contrasts", at, "against", i),
            f"{other!r} and {contrast.baseline!r} have no combination of the factors in common: "
            "exclude leaves nothing to compare",
        )
        for at, contrast in enumerate(study.contrasts)
        for i, other in enumerate(contrast.against)
        if not found.get(contrast.baseline, set()) & found.get(other, set())
    ]


def shared_names(study: Study, source: Source, cells: Iterable[tuple[str, str]]) -> list[str]:
    """Give a line for every cell that has the name of an earlier one: both would be taken for one.

    `cells`: arm and name of each.
    """
    arms = [variant.name for variant in study.variants]
    seen: set[str] = set()
    lines = []
    for arm, name in cells:
        if name in seen:
            said = f"two cells are named {name!r}; rename a variant or a value"
            lines.append(_line(source, ("variants", arms.index(arm), "name"), said))
        seen.add(name)
    return lines


def _twice(source: Source, what: Path, key: str | None, values: Sequence[object]) -> list[str]:
    paths: list[Path] = [
        (*what, at) if key is None else (*what, at, key) for at in range(len(values))
    ]
    return [
        _line(source, path, f"{value!r} is given twice")
        for at, (path, value) in enumerate(zip(paths, values, strict=True))
        if value in values[:at]
    ]


def _line(source: Source, path: Path, what: str) -> str:
    return f"{source.place(path)}: {'.'.join(map(str, path))}: {what}"
