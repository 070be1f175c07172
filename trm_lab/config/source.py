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

from trm_lab.errors import ConfigError

Path = tuple[str | int, ...]
"""Keys and indices from the top of a document."""


@dataclass(frozen=True)
class Source:
    """Parsed data and where each part of it stands."""

    data: Any
    name: str
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """1-based line and column by path."""
    arguments: dict[Path, str] = field(default_factory=dict)
    """Command-line arguments that replaced a path."""
    text: str = ""
    """The whole file, verbatim."""

    def place(self, path: Path) -> str:
        """Say where `path`, or its nearest written ancestor, stands."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.arguments:
                return self.arguments[path[:end]]
            if path[:end] in self.places:
                line, column = self.places[path[:end]]
                return f"{self.name}:{line}:{column}"
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
        )


def read_yaml(path: FilePath) -> Source:
    """Read a YAML file.

    Raises:
        ConfigError: the file is missing, not text, not YAML, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{near_path(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Source:
    """Parse YAML text; `name` is what errors call it.

    Raises:
        ConfigError: not YAML, or a key given twice.
    """
    try:
        node = yaml.compose(text, Loader=yamlcore.CoreLoader)
        data = yaml.load(text, Loader=yamlcore.CoreLoader)
        places = dict(_walk(node, ()))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem}{_key(text, error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise ConfigError(f"{name}:{line}:{column}: {error.reason}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested without end, as by an alias of itself") from None
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
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return change
    if "kind" in change and change["kind"] != base.get("kind"):
        return change
    return {**base, **{k: merge(base.get(k), v) if k in base else v for k, v in change.items()}}


def _key(text: str, error: yaml.MarkedYAMLError) -> str:
    """Name the key of an error that stands at a key, and nothing else."""
    mark = error.problem_mark
    if mark is None or error.problem != "found duplicate key":
        return ""
    key, colon, _ = text.splitlines()[mark.line][mark.column :].partition(":")
    return f" {key.strip()}" if colon else ""


def _walk(node: yaml.Node | None, path: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    if node is None:
        return
    yield path, (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            yield from _walk(value, here)
            # A key is where the eye looks for a misspelt or misplaced setting.
            yield here, (key.start_mark.line + 1, key.start_mark.column + 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _walk(value, (*path, index))


def near_path(path: FilePath) -> str:
    """Give "; did you mean ...?" for the nearest name beside a path, endings left out.

    A bare name is also looked for in studies/, sweeps/ and runs/.
    """
    import difflib

    folders = [path.parent]
    if path.parent == FilePath():
        folders += [FilePath("studies"), FilePath("sweeps"), FilePath("runs")]
    there = [p for folder in folders if folder.is_dir() for p in sorted(folder.iterdir())]
    visible = {p.stem: p for p in reversed(there) if not p.name.startswith(".")}
    found = difflib.get_close_matches(path.stem, visible, n=1)
    return f"; did you mean {visible[found[0]]}?" if found else ""
