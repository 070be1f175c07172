"""The base of all settings: frozen, strict, complete.

A setting is data.  Unknown keys, wrong types and out-of-range values are errors; nothing is filled
in at run time.  Values that *act* on tensors are dispatched from the modules that own torch.
"""

import unicodedata
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
)


class Setting(BaseModel):
    """A frozen settings object; two with the same values compare equal and hash equal."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _kind_from_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


BY_NAME = BeforeValidator(_kind_from_name)
"""Lets a union member without further settings be written as its bare name: `halting: fixed`."""

Pick = dict[str, Any]
"""Names cells of a study: `variant` and factors by dotted name, each with one value, and all must
hold.  A value with settings is also named by its kind alone."""


def _one_line(value: Any) -> Any:
    if isinstance(value, str) and any(unicodedata.category(c) in BREAKS for c in value):
        raise ValueError(f"must be one line without control characters, not {value!r}")
    return value


BREAKS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters, line and paragraph separators."""
ONE_LINE = AfterValidator(_one_line)
Line = Annotated[str, Field(min_length=1), ONE_LINE]
"""A name that stands in tables and scripts."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=100)]
"""A name that files and folders have, several in one."""


def one_of(words: str) -> WrapValidator:
    """Make the errors of a union of plain types, one per type, the one that says what it takes."""

    def check(value: Any, union: Callable[[Any], Any]) -> Any:
        try:
            return union(value)
        except ValidationError:
            raise ValueError(f"input should be {words}, not {value!r}") from None

    return WrapValidator(check)


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1, le=1000)]
"""Of what is repeated: recursions, rollouts."""
