"""Finds a layout, halting rule, mixer or task of your own by the kind that a recipe gives.

A kind that is not one of ours is the name of an entry point (groups `trm_lab.layouts`,
`trm_lab.halting`, `trm_lab.mixers`, `trm_lab.tasks`) or an import path `package.module:Class`.
Modules are imported only when a recipe names them.
"""

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from trm_lab.config.contracts import Own
from trm_lab.errors import ConfigError


@dataclass(frozen=True)
class Extensible:
    """Marks a union of kinds that takes classes of other packages too."""

    group: str
    """Entry points are of the group `trm_lab.<group>`."""
    contract: type[Own]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Put the search around the union; write every member by its own class."""
        ours = {model.model_fields["kind"].default for model in get_args(source)}

        def check(value: Any, union: Callable[[Any], Any]) -> Any:
            if isinstance(value, self.contract):
                return held(value)
            kind = value.get("kind") if isinstance(value, dict) else value
            if not isinstance(kind, str) or kind in ours:
                return union(value)
            if ":" not in kind and kind not in self.installed():
                return union(value)
            return self.make(kind, value if isinstance(value, dict) else {"kind": kind})

        return core_schema.no_info_wrap_validator_function(
            check, handler(source), serialization=core_schema.simple_ser_schema("any")
        )

    def installed(self) -> dict[str, list[metadata.EntryPoint]]:
        """Give the entry points of installed packages by name."""
        return _entry_points(f"trm_lab.{self.group}", tuple(sys.path))

    def find(self, kind: str) -> type[Own]:
        """Import the class that a kind names and hold it to its contract.

        Raises:
            ValueError: what is wrong with the path, the module or the class.
        """
        path = kind if ":" in kind else self._path(kind)
        found = _import(kind, path)
        base = f"{self.contract.__module__}.{self.contract.__name__}"
        if not (isinstance(found, type) and issubclass(found, self.contract)):
            raise ValueError(f"{kind}: {_name(found)} does not derive from {base}")
        if missing := found.missing():
            raise ValueError(f"{kind}: {found.__name__} lacks {', '.join(missing)}; see {base}")
        if not found.model_config.get("frozen") or found.model_config.get("extra") != "forbid":
            raise ValueError(f"{kind}: {found.__name__} must stay frozen and forbid extra fields")
        return found

    def make(self, kind: str, data: dict[str, Any]) -> Own:
        """Build the settings object.

        Raises:
            ValueError: the class, or what its members give, does not hold to its contract.
            ValidationError: fields that it refuses.
        """
        return held(self.find(kind).model_validate(data))

    def _path(self, kind: str) -> str:
        points = self.installed()[kind]
        if len({point.value for point in points}) > 1:
            packages = ", ".join(sorted(_package(point) for point in points))
            raise ValueError(
                f"{kind}: given by several packages ({packages}); name it by its import path"
            )
        return f"{points[0].module}:{points[0].attr}"


def held(made: Own) -> Own:
    """Give back an object that holds to its contract and survives a recipe file.

    Raises:
        ValueError: what does not.
    """
    _digest(type(made))  # now: the file may change while this process lives
    try:
        problems = made.problems()
    except Exception as error:  # anything may go wrong in somebody else's code
        problems = [_said(error)]
    if problems:
        raise ValueError(f"{made.kind}: " + "; ".join(dict.fromkeys(problems)))
    try:
        hash(made)
        again = type(made).model_validate(made.model_dump(mode="json"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{made.kind}: does not survive a recipe file: {_said(error)}") from None
    if again != made:
        raise ValueError(f"{made.kind}: comes back from a recipe file as {again!r}")
    return made


def extensible(annotation: Any) -> Extensible | None:
    """Give the mark of a field's annotation or metadata, if it has one."""
    return next((m for m in annotation if isinstance(m, Extensible)), None)


def once_per_module(lines: list[str]) -> list[str]:
    """Leave out equal lines, and of those about one missing module all but the first."""
    kept: dict[str, str] = {}
    for line in lines:
        missing = re.search(r": (no module \S+); it must be installed", line)
        kept.setdefault(missing[1] if missing else line, line)
    return list(kept.values())


def sources(recipe: BaseModel) -> dict[str, dict[str, str]]:
    """Say where each class of another package in a recipe comes from.

    By kind: package and version ("" outside a package), and the first 16 hex digits of the hash of
    the module's text as it was imported ("" without a file).  The identity of a recipe holds
    fields, not code.
    """
    parts, found = _walk(recipe), {}
    packages = metadata.packages_distributions() if parts else {}
    for part in parts:
        package = packages.get(type(part).__module__.split(".")[0], [])
        found[part.kind] = {
            "package": " ".join(f"{name} {metadata.version(name)}" for name in sorted(package)),
            "source": _digest(type(part)),
        }
    return found


def refuse_changed(recipe: BaseModel, before: Mapping[str, Any], where: str) -> None:
    """Refuse to go on from what other code of one's own has trained.

    `before` is what `sources` gave then; what it does not tell is not compared.

    Raises:
        ConfigError: the module of a part has another text now; begins with `where`.
    """
    for kind, now in sources(recipe).items():
        told = before.get(kind)
        then = told.get("source") if isinstance(told, Mapping) else None
        if then and then != now["source"]:
            raise ConfigError(
                f"{where}: the module of {kind} has changed (hash {then} when it trained, "
                f"{now['source']} now); put its text back, give the part another `version` "
                "(docs/extend.md), or train in an empty folder"
            )


def _walk(part: BaseModel) -> list[Own]:
    if isinstance(part, Own):
        return [part]
    below = [getattr(part, name) for name in type(part).model_fields]
    return [own for value in below if isinstance(value, BaseModel) for own in _walk(value)]


@cache
def _digest(made: type[Own]) -> str:
    """Hash the text of a class's module; once, so as not to read what was changed since."""
    file = getattr(inspect.getmodule(made), "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""
    except OSError:  # as inside a zip file
        return ""


@lru_cache(maxsize=16)
def _entry_points(group: str, _path: tuple[str, ...]) -> dict[str, list[metadata.EntryPoint]]:
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found


def _import(kind: str, path: str) -> Any:
    name, _, attribute = path.partition(":")
    if not name or not attribute.isidentifier():
        raise ValueError(f"{kind!r} is no import path; write package.module:Class")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that nothing installed is hidden
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"{kind}: importing {name} failed: {error}") from None
        raise ValueError(
            f"{kind}: no module {error.name}; it must be installed, on PYTHONPATH or in {here}, "
            "where this was started"
        ) from None
    except Exception as error:  # anything may go wrong in somebody else's module
        raise ValueError(f"{kind}: importing {name} failed: {_said(error)}") from None
    if not hasattr(module, attribute):
        file = getattr(module, "__file__", None) or name
        raise ValueError(f"{kind}: {file} has no {attribute}")
    return getattr(module, attribute)


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"


def _name(found: Any) -> str:
    return found.__name__ if isinstance(found, type) else repr(found)


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
