"""The base of all settings: frozen, strict, complete.

A setting is data.  Unknown keys, wrong types and out-of-range values are errors; nothing is filled
in at run time.  Values that *act* on tensors are dispatched from the modules that own torch.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


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

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1, le=1000)]
"""Of what is repeated: recursions, rollouts."""
