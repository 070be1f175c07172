"""Data to settings, with every error at once, each at its place and with the near miss."""

import math
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trm_lab.config.extension import extensible, once_per_module
from trm_lab.config.source import Path, Source
from trm_lab.errors import ConfigError, near_miss

S = TypeVar("S", bound=BaseModel)
NEAR = 0.5
"""Least similarity of a name to the one that it is meant for, as `near_miss` has it."""
MEANT = {"gpu": "cuda"}
"""What a word stands for that looks like another."""
TRUTHS = {"yes": "true", "on": "true", "true": "true"} | {
    "no": "false", "off": "false", "false": "false"
}  # fmt: skip
"""Words that YAML 1.1 reads as truth values, and YAML 1.2 as text."""


def validate(kind: type[S], source: Source, data: Any = None) -> S:
    """Validate `data` (the source's own if not given) as a settings object.

    `data` may hold more than the source says, as a preset with the source's changes laid over it.

    Raises:
        ConfigError: one line per error, `place: path: what; did you mean ...?`.
    """
    values = mapping(source) if data is None else data
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        details = error.errors()
        left = [d for d in details if not _follows(d, details, kind, values)]
        lines = [_explain(d, kind, values, source) for d in left]
        raise ConfigError("\n".join(once_per_module(lines))) from None


def mapping(source: Source) -> dict[str, Any]:
    """Give the source's data.

    Raises:
        ConfigError: they are no settings.
    """
    if isinstance(source.data, dict):
        return source.data
    found = "nothing" if source.data is None else show(source.data)
    raise ConfigError(f"{source.place(())}: expected a mapping of settings, found {found}")


def suggest(word: object, known: list[str], between: str = ", ") -> str:
    """Give "; did you mean ...?" or, with nothing near, the choices if they are few."""
    meant = MEANT.get(str(word).lower())
    near = meant if meant in known else near_miss(word, known, cutoff=NEAR)
    if near is not None:
        return f"; did you mean {near}?"
    return f"; known: {between.join(known)}" if 0 < len(known) <= 20 else ""


def unknown(kind: type[BaseModel], path: Path) -> str:
    """Say which part of a name no setting of a kind has; empty if it may be one."""
    models = [kind]
    for end, part in enumerate(path, 1):
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        if not fields:
            known = list(dict.fromkeys(name for m in models for name in m.model_fields))
            return f"{'.'.join(map(str, path[:end]))}: unknown setting{suggest(part, known)}"
        if any(extensible(field.metadata) for field in fields):
            return ""  # another package's class may have any settings
        models = [m for field in fields for m in _models(field.annotation)]
    return ""


def _explain(detail: ErrorDetails, kind: type[BaseModel], values: Any, source: Source) -> str:
    path, owner = _locate(detail["loc"], kind, values)
    context: dict[str, Any] = detail.get("ctx") or {}
    word = path[-1] if path else ""
    match detail["type"]:
        case "extra_forbidden":
            what = "unknown setting" + suggest(word, list(owner.model_fields) if owner else [])
        case "missing":
            what = "is required"
        case "union_tag_invalid":
            tags = [t.strip(" '") for t in context["expected_tags"].split(",")]
            tags += [t for t in _theirs(owner, word, context["tag"]) if t not in tags]
            what = f"no such kind {context['tag']!r}" + suggest(context["tag"], tags)
        case "union_tag_not_found":
            what = "needs a kind" + suggest("", _tags(kind, path))
        case "literal_error":
            choices = [c.strip(" '") for c in context["expected"].replace(" or ", ",").split(",")]
            what = f"{show(detail['input'])} is not one of {', '.join(choices)}"
            what += suggest(detail["input"], choices) if isinstance(detail["input"], str) else ""
        case "model_type":
            what = f"needs settings, as {{name: value}}, not {show(detail['input'])}"
        case "tuple_type":
            what = f"input should be a list, not {show(detail['input'])}"
        case "too_short":
            least = context["min_length"]
            what = f"needs {least} or more, and is {show(detail['input'])}"
        case "value_error":
            what = str(context["error"])
        case _:
            what = f"{detail['msg'][0].lower()}{detail['msg'][1:]}, not {show(detail['input'])}"
            what += _meant(detail)
    dotted = ".".join(str(part) for part in path)
    unknown = detail["type"] == "extra_forbidden"
    place = source.place((*path, *_named(what, kind, path)), key=unknown)
    line = f"{place}: {dotted}: {what}" if dotted else f"{place}: {what}"
    # One error is one line, whatever the message of a class of another package or a key holds.
    return " ".join(part.strip() for part in line.splitlines())


def _meant(detail: ErrorDetails) -> str:
    """Give "; did you mean ...?" for a value that reads as one of the right type."""
    said = detail["input"]
    match detail["type"]:
        case "bool_type" if isinstance(said, str) and said.lower() in TRUTHS:
            return f"; did you mean {TRUTHS[said.lower()]}?"
        case "int_type" | "int_from_float" | "float_type" if isinstance(said, str | float):
            try:
                number = float(said)
            except ValueError:
                return ""
            if number.is_integer():
                return f"; did you mean {int(number)}?"
            right = detail["type"] == "float_type" and math.isfinite(number)
            return f"; did you mean {number}?" if right else ""
    return ""


def _named(what: str, kind: type[BaseModel], path: Path) -> Path:
    """Give the setting that the error of several settings starts with, so that its place is shown.

    "train.ema_table: ..." is an error of a whole recipe and reads as one at train.ema_table.
    """
    named: list[str | int] = []
    models = [kind]
    for part in (*path, *what.partition(":")[0].partition(" ")[0].split(".")):
        if isinstance(part, int):  # an item of a list of the models at hand
            named.append(part)
            continue
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if not fields:
            break
        named.append(part)
        models = [m for field in fields for m in _models(field.annotation)]
    return tuple(named[len(path) :])


def _theirs(owner: type[BaseModel] | None, field: str | int, said: str) -> list[str]:
    """Name the kinds that others add to a union: of installed packages, and a path that is meant.

    `package.module.Class` is no kind, and means the import path `package.module:Class`.
    """
    found = owner.model_fields.get(str(field)) if owner else None
    mark = extensible(found.metadata) if found else None
    if mark is None:
        return []
    module, _, name = said.rpartition(".")
    parts = [*module.split("."), name]
    return sorted(mark.installed()) + [f"{module}:{name}"] * all(map(str.isidentifier, parts))


def _follows(
    detail: ErrorDetails, others: list[ErrorDetails], kind: type[BaseModel], values: Any
) -> bool:
    """Say whether an error is but the consequence of another.

    A list is too short because its items were not valid, or a setting is missing because its name
    is misspelt.
    """
    loc = detail["loc"]
    match detail["type"]:
        case "too_short":
            return any(o["loc"][: len(loc)] == loc and o is not detail for o in others)
        case "missing":
            _, owner = _locate(loc, kind, values)
            fields = list(owner.model_fields) if owner else []
            return any(
                o["type"] == "extra_forbidden" and o["loc"][:-1] == loc[:-1]
                and near_miss(o["loc"][-1], fields, cutoff=NEAR) == loc[-1]
                for o in others
            )  # fmt: skip
    return False


def _locate(loc: Path, kind: type[BaseModel], values: Any) -> tuple[Path, type[BaseModel] | None]:
    """Drop union tags from pydantic's location; also give the model that owns the last part."""
    path: list[str | int] = []
    owner: type[BaseModel] | None = kind
    options: list[type[BaseModel]] = [kind]
    here, keyed = values, False
    for part in loc:
        if keyed:  # a key of a mapping to settings is none of their fields
            path.append(part)
            here, keyed = _get(here, part), False
            continue
        chosen = [o for o in options if _tag(o) == part] if len(options) > 1 else []
        if chosen:
            options = chosen
            continue
        path.append(part)
        owner = options[0] if len(options) == 1 else None
        field = owner.model_fields.get(str(part)) if owner else None
        if field:
            options = _models(field.annotation)
            keyed = get_origin(field.annotation) is dict
            own = _own(field.metadata, _get(here, part))
            options = [own] if own else options
        elif isinstance(part, str):
            options = []
        here = _get(here, part)
    return tuple(path), owner


def _own(metadata: Any, value: Any) -> type[BaseModel] | None:
    """Give the class of another package that a value's kind names, where it can be had."""
    kind = value.get("kind") if isinstance(value, dict) else value
    mark = extensible(metadata)
    if mark is None or not isinstance(kind, str) or not (":" in kind or kind in mark.installed()):
        return None
    try:
        return mark.find(kind)
    except ValueError:
        return None


def _get(here: Any, part: str | int) -> Any:
    try:
        return here[part]
    except (KeyError, IndexError, TypeError):
        return None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = (
        get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    )
    return [m for part in parts for m in _models(part)]


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return None if field is None else str(field.default)


def _tags(kind: type[BaseModel], path: Path) -> list[str]:
    models: list[type[BaseModel]] = [kind]
    for part in path:
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        models = [m for f in fields for m in _models(f.annotation)]
    return [t for m in models if (t := _tag(m))]


def show(value: Any) -> str:
    """Write a value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
