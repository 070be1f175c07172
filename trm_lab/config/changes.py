"""Settings laid over settings, and where their errors stand: at what was written last.

A study's variants and factors are laid over its base, and over all of them what is said outside its
file: `--set a.b=c` and the `set` of a sweep.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from trm_lab.config.source import Path, Source, merge, parse_setting, replaces

P = TypeVar("P")


class Change(NamedTuple):
    """One setting."""

    path: Path
    value: Any
    place: str
    """Where it was written: a line of a file, or "--set a.b=c"."""

    def over(self, under: Source) -> Source:
        """Lay it over settings."""
        inner = dict.fromkeys(_paths(self.value), self.place)
        return lay(under, self.path, Source(self.value, self.place, arguments=inner))

    def overrides(self, path: Path) -> bool:
        """Say whether it says what the setting at `path` is: the whole of it, or of a parent."""
        here = nest(self.path, self.value)
        for key in path:
            if not isinstance(here, dict):
                return True
            if key not in here:
                return False
            here = here[key]
        return not isinstance(here, dict) or "kind" in here


def arguments(settings: Collection[str]) -> tuple[Change, ...]:
    """Read `--set` arguments.

    Raises:
        ConfigError: one that is not a dotted name, `=` and a YAML value.
    """
    return tuple(Change(*parse_setting(s), f"--set {s}") for s in settings)


def lay(under: Source, path: Path, part: Source, key: tuple[int, int] | None = None) -> Source:
    """Lay a part over settings at a path; everything stands where it was written last.

    `key` is where the path stands if the part is one of several values under it.
    """
    whole = nest(path, part.data)

    def left(places: dict[Path, P]) -> dict[Path, P]:
        return {p: at for p, at in places.items() if _stays(under.data, whole, p)}

    places, told, values = left(under.places), left(under.arguments), left(under.values)
    ours = [path[:end] for end in range(1, len(path)) if path[:end] not in {**places, **told}]
    whose = part.places if key is None else {**part.places, (): key}
    places |= dict.fromkeys(ours, whose[()]) if () in whose else {}
    places |= {(*path, *inner): at for inner, at in whose.items()}
    told |= dict.fromkeys(ours, part.arguments[()]) if () in part.arguments else {}
    told |= {(*path, *inner): at for inner, at in part.arguments.items()}
    values |= {path: part.places[()]} if key is not None else {}
    return Source(merge(under.data, whole), under.name, places, told, under.text, values)


def _stays(base: Any, change: Any, path: Path) -> bool:
    """Say whether what stands at a path of `base` is there, as it was, after a merge."""
    for key in path:
        if replaces(base, change):
            return False
        if key not in change:
            return True
        base, change = base.get(key), change[key]
    return not replaces(base, change)


class Layer(NamedTuple):
    """Settings, and where that stands which was laid over them last."""

    settings: Source
    place: str


def layered(under: list[Layer], changes: Iterable[Change]) -> list[Layer]:
    """Put a layer for every change on top of others."""
    layers = list(under)
    for change in changes:
        layers.append(Layer(change.over(layers[-1].settings), change.place))
    return layers


def blame(
    layers: Sequence[Layer], problems: Callable[[Source], Sequence[str]]
) -> list[tuple[str, Layer]]:
    """Give the errors of the last of some layers, with the layer that each stands at.

    Settings that do not go together are shown at one of them, as it may be; the error is that of
    the layer which came last of those that it needs.  One from outside the file is named in front.
    """
    top = layers[-1].settings

    def there(layer: Layer) -> Sequence[str]:
        return problems(replace(top, data=layer.settings.data))

    found = []
    for line in problems(top):
        shown = next(layer for layer in layers if _stands(line, layer.settings))
        since = next(layer for layer in layers if line in there(layer))
        if layers.index(shown) >= layers.index(since):
            found.append((line, shown))
        elif since.place.startswith(f"{top.name}:"):
            found.append((since.place + line[len(_stands(line, top)) :], since))
        else:
            found.append((f"{since.place}: {line}", since))
    return found


def _stands(line: str, settings: Source) -> str:
    """Give the place at which a line stands if it is one of these settings."""
    there = (settings.place(p) for p in (*settings.places, *settings.arguments, ()))
    keys = (settings.place(p, key=True) for p in settings.values)
    return next((place for place in (*there, *keys) if line.startswith(f"{place}: ")), "")


def nest(path: Path, value: Any) -> Any:
    """Give the nested mapping in which `value` stands at `path`."""
    for key in reversed(path):
        value = {key: value}
    return value


def leaves(data: Any, prefix: str = "") -> dict[str, Any]:
    """Give the settings of nested mappings by their dotted names."""
    if not isinstance(data, dict):
        return {prefix: data}
    return {
        name: value
        for key, part in data.items()
        for name, value in leaves(part, f"{prefix}.{key}" if prefix else key).items()
    }


def _paths(value: Any) -> Iterator[Path]:
    yield ()
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for key, part in parts:
        yield from ((key, *inner) for inner in _paths(part))
