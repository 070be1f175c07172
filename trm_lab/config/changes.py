"""Settings laid over a recipe from outside its file: `--set a.b=c` and the `set` of a sweep."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from trm_lab.config.source import Path, Source, merge, parse_setting

P = TypeVar("P")


class Change(NamedTuple):
    """One setting."""

    path: Path
    value: Any
    place: str
    """Where it was written: a line of a file, or "--set a.b=c"."""

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


def lay(data: Any, source: Source, changes: Collection[Change]) -> Source:
    """Lay changes over data whose parts `source` places; every part then has its own place."""
    places, told = dict(source.places), dict(source.arguments)
    for path, value, place in changes:
        data = merge(data, nest(path, value))
        told |= new_ancestors(path, {**places, **told}, place)
        told |= {(*path, *inner): place for inner in _paths(value)}
        if not isinstance(value, dict) or "kind" in value:  # what was below is gone, or not its own
            places = {p: at for p, at in places.items() if p[: len(path)] != path}
    values = source.values
    return Source(data, source.name, places, told, source.text, values)


def blamed(line: str, before: Collection[str], changes: Collection[Change]) -> str:
    """Name the changes in front of an error that stands in the file and is not there without them.

    Two settings that do not go together are shown at one of them: the file's, as it may be.
    """
    places = list(dict.fromkeys(change.place for change in changes))
    if line in before or any(line.startswith(f"{place}:") for place in places):
        return line
    return f"{', '.join(places)}: {line}"


def nest(path: Path, value: Any) -> Any:
    """Give the nested mapping in which `value` stands at `path`."""
    for key in reversed(path):
        value = {key: value}
    return value


def new_ancestors(path: Path, known: Collection[Path], place: P | None) -> dict[Path, P]:
    """Place the leading parts of a dotted name that nothing wrote before: one may be misspelt."""
    if place is None:
        return {}
    return {path[:end]: place for end in range(1, len(path)) if path[:end] not in known}


def _paths(value: Any) -> Iterator[Path]:
    yield ()
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for key, part in parts:
        yield from ((key, *inner) for inner in _paths(part))
