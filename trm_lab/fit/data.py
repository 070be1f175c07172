"""Rows of any dataset: columns, clusters and groups, with one clear error where they do not fit."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from trm_lab.errors import ConfigError, near_miss
from trm_lab.laws.base import FloatArray

Data = xr.Dataset | pd.DataFrame | Mapping[str, npt.ArrayLike]
MOST = 20
"""Most names that an error lists."""
Labels = str | Sequence[str] | npt.ArrayLike


def table(data: Data) -> pd.DataFrame:
    """Give one row per run: a frame as it is, mappings as columns, a dataset's dims unrolled."""
    if isinstance(data, pd.DataFrame):
        return data.reset_index(drop=True)
    if isinstance(data, xr.Dataset):
        if not data.dims:
            raise ConfigError(
                "fit: the Dataset has no dimension, so no rows; give one row per run along a "
                "dimension such as run"
            )
        if len(data.dims) == 1:
            dim = next(iter(data.dims))
            columns = {str(n): v.values for n, v in data.variables.items() if v.dims == (dim,)}
            return pd.DataFrame(columns)
        return data.to_dataframe().reset_index()
    try:
        return pd.DataFrame({name: np.asarray(values) for name, values in data.items()})
    except ValueError as error:
        raise ConfigError(f"fit: the columns do not fit together: {error}") from None


def column(frame: pd.DataFrame, name: str, what: str) -> "pd.Series[Any]":
    """Give a column.

    Raises:
        ConfigError: there is none of that name, or more than one.
    """
    if name not in frame.columns:
        raise ConfigError(f"{what}: the data have no column {name!r}{near(name, frame.columns)}")
    if (several := int((frame.columns == name).sum())) > 1:
        raise ConfigError(f"{what}: the data have {several} columns {name!r}; rename all but one")
    return frame[name]


def numbers(frame: pd.DataFrame, name: str, what: str) -> FloatArray:
    """Give a column of numbers.

    Raises:
        ConfigError: there is no such column, it is no number, or a value is missing.
    """
    values = column(frame, name, what)
    if values.dtype.kind in "mM":
        raise ConfigError(
            f"{what}: {name} holds times, which have no unit; give numbers, such as days since "
            "the first"
        )
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        bad = [at for at, value in enumerate(values) if not _number(value)]
        first = values.iloc[bad[0]]
        commas = _number(str(first).replace(",", ""))
        fix = "write numbers without commas" if commas else "drop these rows first, and say why"
        raise ConfigError(
            f"{what}: {name} holds {first!r}, which is no number (row {bad[0]}, {len(bad)} such "
            f"rows); {fix}"
        ) from None
    missing = np.flatnonzero(~np.isfinite(array))
    if missing.size:
        raise ConfigError(
            f"{what}: {name} is {array[missing[0]]} in row {missing[0]} ({missing.size} such rows)"
            "; drop these rows first, and say why"
        )
    return array


def labels(frame: pd.DataFrame, given: Labels, what: str) -> tuple[npt.NDArray[np.str_], str]:
    """Give one label per row and what they are called: a column, several, or labels themselves."""
    if isinstance(given, str):
        return _text(column(frame, given, what)), given
    names = list(given) if isinstance(given, Sequence) else []
    if names and all(isinstance(one, str) for one in names) and set(names) <= set(frame.columns):
        parts = [_text(column(frame, name, what)) for name in names]
        apart = ([_escaped(part) for part in row] for row in zip(*parts, strict=True))
        return np.array([" ".join(row) for row in apart]), " x ".join(names)
    array = np.asarray(given)
    if array.shape == (len(frame),):
        return array.astype(str), what
    if names and all(isinstance(one, str) for one in names):
        for name in names:
            column(frame, name, what)
    raise ConfigError(f"{what}: {array.shape} labels for {len(frame)} rows; give a column's name")


def near(name: str, known: Iterable[Any]) -> str:
    """Give the near miss, or what there is, as the end of an error."""
    names = [str(one) for one in known]
    inner = [one for one in names if one.rpartition(".")[2] == name]  # model.T is asked for as T
    found = " or ".join(map(repr, inner)) or repr(near_miss(name, names) or "")
    if found != "''":
        return f"; did you mean {found}?"
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"; there are {', '.join(names[:MOST])}{more}"


def _text(values: "pd.Series[Any]") -> npt.NDArray[np.str_]:
    if values.isna().any():
        at = int(np.flatnonzero(values.isna())[0])
        raise ConfigError(f"{values.name}: no label in row {at}; drop such rows first, and say why")
    return np.array([_label(value) for value in values], dtype=str)


def _label(value: Any) -> str:
    """Write a label so that different ones stay different; 3.0 is 3."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(float(value))
    return str(value)


def _escaped(part: str) -> str:
    """Mark the spaces of a part, so that different parts stay different when joined by spaces."""
    return part.replace("\\", "\\\\").replace(" ", "\\ ")


def _number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
