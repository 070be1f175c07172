"""Where a value was written: YAML text with the line and column of every path.

YAML is read by the 1.2 core schema (`1e-4` is a number, `off` is text) and a key given twice is an
error; plain PyYAML does neither.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml
import yamlcore

from trm_lab.errors import ConfigError, near_path

Path = tuple[str | int, ...]
"""Keys and indices from the top of a document."""
Places = dict[Path, tuple[int, int]]
"""1-based line and column by path."""
MOST_VALUES = 300_000
"""In one file, aliases written out: a few lines of aliases of aliases make as many as they like."""
MOST_LEVELS = 50
"""What nests too deep to be read nests deeper than this; settings nest 5 deep."""


@dataclass(frozen=True)
class Source:
    """Parsed data and where each part of it stands."""

    data: Any
    name: str
    places: Places = field(default_factory=dict)
    """Where each path stands: the key, or the item of a list."""
    arguments: dict[Path, str] = field(default_factory=dict)
    """Command-line arguments that replaced a path."""
    text: str = ""
    """The whole file, verbatim."""
    values: Places = field(default_factory=dict)
    """Where a value stands that is one of several under its key, as those of a factor."""

    def place(self, path: Path, *, key: bool = False) -> str:
        """Say where `path`, or its nearest written ancestor, stands.

        One of several values is placed at itself, or at the key of them all if `key`.
        """
        for end in range(len(path), -1, -1):
            if path[:end] in self.arguments:
                return self.arguments[path[:end]]
            at = self.places.get(path[:end])
            if not key:
                at = self.values.get(path[:end], at)
            if at is not None:
                return f"{self.name}:{at[0]}:{at[1]}"
        return self.name

    def below(self, *prefix: str | int) -> "Source":
        """Give the part under `prefix` as a source of its own."""
        data, size = self.data, len(prefix)
        for key in prefix:
            data = data[key]
        return Source(
            data,
            self.name,
            {p[size:]: at for p, at in self.places.items() if p[:size] == prefix},
            {p[size:]: at for p, at in self.arguments.items() if p[:size] == prefix},
            values={p[size:]: at for p, at in self.values.items() if p[:size] == prefix},
        )


def read_yaml(path: FilePath) -> Source:
    """Read a YAML file.

    Raises:
        ConfigError: the file is missing, not text, not YAML, or has a key twice.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{near_path(path)}") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = len(raw[raw.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
        raise ConfigError(
            f"{path}:{line}:{column}: byte 0x{raw[error.start]:02x} is not text in UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text.replace("\r\n", "\n").replace("\r", "\n"), str(path))


def parse_yaml(text: str, name: str) -> Source:
    """Parse YAML text; `name` is what errors call it.

    Raises:
        ConfigError: not YAML, a key given twice, an alias of itself, or aliases without measure.
    """
    try:
        loader = yamlcore.CoreLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Source(None, name, {(): (1, 1)}, text=text)
        data = loader.construct_document(node)
        places: Places = {}
        for path, at in _walk(node, data, ()):
            places[path] = at
            if len(places) > MOST_VALUES:
                line, column = places[path[:1]]
                raise ConfigError(f"{name}:{line}:{column}: more than {MOST_VALUES:,} values, "
                                  "those of aliases counted")  # fmt: skip
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem}{_key(text, error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise ConfigError(f"{name}:{line}:{column}: {error.reason}") from None
    except RecursionError:
        raise ConfigError(f"{name}:{_endless(text)}") from None
    return Source(data, name, places, text=text)


def parse_setting(argument: str) -> tuple[Path, Any]:
    """Split `a.b=c` into a path and a value read as YAML.

    Raises:
        ConfigError: no `=`, or an empty key.
    """
    key, equals, value = argument.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {argument}: expected a dotted name, '=' and a value: model.T=3")
    return path, parse_yaml(value, f"--set {argument}").data


def merge(base: Any, change: Any) -> Any:
    """Lay `change` over `base`: mappings merge, everything else is replaced.

    A mapping whose `kind` differs replaces the whole value: fields of one kind mean nothing to
    another.
    """
    if replaces(base, change):
        return change
    return {**base, **{k: merge(base.get(k), v) if k in base else v for k, v in change.items()}}


def replaces(base: Any, change: Any) -> bool:
    """Say whether `change` takes the place of `base` as a whole."""
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return True
    return "kind" in change and bool(change["kind"] != base.get("kind"))


def _key(text: str, error: yaml.MarkedYAMLError) -> str:
    """Name the key of an error that stands at a key, and nothing else."""
    mark = error.problem_mark
    if mark is None or error.problem != "found duplicate key":
        return ""
    key, colon, _ = text.splitlines()[mark.line][mark.column :].partition(":")
    return f" {key.strip()}" if colon else ""


def _endless(text: str) -> str:
    """Say where a document goes inside itself, or nests too deep, and how."""
    anchors: list[str | None] = []
    for event in yaml.parse(text, Loader=yamlcore.CoreLoader):
        mark = event.start_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        if isinstance(event, yaml.AliasEvent) and event.anchor in anchors:
            return f"{place}: *{event.anchor} stands inside &{event.anchor}: nested without end"
        if isinstance(event, yaml.CollectionStartEvent):
            anchors.append(event.anchor)
            if len(anchors) > MOST_LEVELS:
                return f"{place}: nested more than {MOST_LEVELS} deep"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchors.pop()
    return "1:1: nested too deep"


def _walk(node: yaml.Node, data: Any, path: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    yield path, (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode) and isinstance(data, dict):
        # No key comes twice, so the orders are the same.
        for (written, below), key in zip(node.value, data, strict=True):
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the name of a setting is text, not {key!r}",
                    problem_mark=written.start_mark,
                )
            here = (*path, key)
            yield from _walk(below, data[key], here)
            # A key is where the eye looks for a misspelt or misplaced setting.
            yield here, (written.start_mark.line + 1, written.start_mark.column + 1)
    elif isinstance(node, yaml.SequenceNode) and isinstance(data, list):
        for index, below in enumerate(node.value):
            yield from _walk(below, data[index], (*path, index))
