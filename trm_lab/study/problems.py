"""The errors of a study, said all at once: what can still be looked at of one that has some."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from trm_lab.config.source import Source
from trm_lab.config.study import Study
from trm_lab.config.validate import NEAR, validate
from trm_lab.errors import ConfigError, near_miss

STAND_INS: dict[str, Any] = {
    "name": "unnamed", "question": "?", "hypothesis": "?", "seeds": [0], "held": [], "fits": [],
    "contrasts": [],
}  # fmt: skip
"""What no cell is made of, and what stands for it where it is wrong."""


@contextmanager
def noted(problems: list[str]) -> Iterator[None]:
    """Add the lines of an error to others and go on."""
    try:
        yield
    except ConfigError as error:
        problems += str(error).split("\n")


def validated(source: Source) -> tuple[Study, Source, list[str]]:
    """Validate a study; give it, its source and a line for every error.

    Where there are errors and no cell depends on what is wrong, the study is without it, and a
    misspelt key is read as what it was meant for.

    Raises:
        ConfigError: all errors, where there is nothing more to look at.
    """
    problems: list[str] = []
    with noted(problems):
        return validate(Study, source), source, problems
    if isinstance(source.data, dict):
        source, again = _as_meant(source), list[str]()
        with noted(again):
            validate(Study, source)
        problems += [line for line in again if line not in problems]
        if (study := _without_wrong(source.data)) is not None:
            return study, source, problems
    raise ConfigError("\n".join(problems))


def _as_meant(source: Source) -> Source:
    missing = [key for key in Study.model_fields if key not in source.data]
    unknown = [key for key in source.data if key not in Study.model_fields]
    near = {key: near_miss(key, missing, cutoff=NEAR) or key for key in unknown}
    meant = {key: name for key, name in near.items() if list(near.values()).count(name) == 1}
    data = {meant.get(key, key): value for key, value in source.data.items()}
    places = {(meant.get(p[0], p[0]), *p[1:]) if p else p: at for p, at in source.places.items()}
    return replace(source, data=data, places=places)


def _without_wrong(data: dict[str, Any]) -> Study | None:
    wrong: set[str] = set()
    for _ in range(2):
        kept = {k: v for k, v in data.items() if k not in wrong}
        try:
            return Study.model_validate(kept | {k: STAND_INS[k] for k in wrong if k in STAND_INS})
        except ValidationError as error:
            wrong |= {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
        if wrong & (Study.model_fields.keys() - STAND_INS.keys()):
            return None
    return None
