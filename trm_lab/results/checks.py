"""Does a tree keep to the schema?  Every breach is one line of text, and nothing is raised."""

import numbers
from typing import Any

import numpy as np
import xarray as xr

from trm_lab.results.schema import GROUPS, ROOT, VARIABLES, Variable


def check(tree: xr.DataTree) -> list[str]:
    """List every way in which `tree` breaks the schema; an empty list is a sound tree."""
    found = [f"/: attribute {name} is missing" for name in ROOT if name not in tree.attrs]
    for name, value in tree.attrs.items():
        if not isinstance(value, str | numbers.Real):
            found.append(f"/: attribute {name} is {type(value).__name__}, not text or a number")
        elif ROOT.get(str(name)) is str and not isinstance(value, str):
            found.append(f"/: attribute {name} is a number, not text")
    if tree.to_dataset().variables:
        found.append(f"/: holds variables {list(tree.to_dataset().variables)}, not only attributes")
    present = [group for group in GROUPS if group in tree.children]
    found += [f"/{group}: group is missing" for group in GROUPS if group not in present]
    for group in present:
        found += _group(group, tree[group].to_dataset())
    if not found:
        found += _sense(tree)
    return found


def _group(group: str, data: xr.Dataset) -> list[str]:
    found: list[str] = []
    expected = {v.name: v for v in VARIABLES[group]}
    for name in data.variables:
        known = str(name) in expected or data[name].attrs.get("source") == "recipe"
        if not known:
            found.append(f"/{group}/{name}: not in the schema")
        for attr in ("long_name", "units"):
            if not data[name].attrs.get(attr):
                found.append(f"/{group}/{name}: attribute {attr} is missing")
    for v in VARIABLES[group]:
        if v.name not in data.variables:
            found.append(f"/{group}/{v.name}: variable is missing")
        else:
            found += _variable(f"/{group}/{v.name}", v, data[v.name], v.name in data.coords)
    return found


def _variable(place: str, expected: Variable, data: xr.DataArray, coord: bool) -> list[str]:
    found = []
    if data.dims != expected.dims:
        found.append(f"{place}: dims {data.dims}, not {expected.dims}")
    text = data.dtype.kind in "UOT"
    if text != (expected.dtype == "text") or (not text and data.dtype != expected.dtype):
        found.append(f"{place}: type {data.dtype}, not {expected.dtype}")
    if coord != expected.coord:
        found.append(f"{place}: should {'' if expected.coord else 'not '}be a coordinate")
    for name, value in expected.attrs.items():
        if name in data.attrs and not np.array_equal(data.attrs[name], value):
            found.append(f"{place}: attribute {name} is {data.attrs[name]!r}, not {value!r}")
        elif name.startswith("flag_") and name not in data.attrs:
            found.append(f"{place}: attribute {name} is missing")
    if expected.flags and data.dtype == expected.dtype and data.size:
        worst = int(data.max())
        if worst >= len(expected.flags) or int(data.min()) < 0:
            found.append(f"{place}: value {worst} has no meaning in the flags")
    return found


def _sense(tree: xr.DataTree) -> list[str]:
    """Check what a well-formed tree must also mean."""
    found: list[str] = []
    groups = {group: tree[group].to_dataset() for group in GROUPS}
    runs = groups["runs"]["run"].values
    if len(set(runs)) != len(runs):
        found.append("/runs/run: names occur twice")
    for group, dataset in groups.items():
        if not np.array_equal(dataset["run"].values, runs):
            found.append(f"/{group}/run: differs from /runs/run")
        for name, data in dataset.data_vars.items():
            if str(name).endswith("accuracy") and _outside(data.values):
                found.append(f"/{group}/{name}: a fraction outside [0, 1]")
    evaluation = groups["eval"]
    if bool((evaluation["solved_count"] > evaluation["puzzles"]).any()):
        found.append("/eval/solved_count: more puzzles solved than evaluated")
    puzzles = groups["puzzles"]
    index = puzzles["test_set"].values
    if index.size and (index.min() < -1 or index.max() >= puzzles.sizes["test_set"]):
        found.append("/puzzles/test_set: index outside the test sets")
    return found


def _outside(values: Any) -> bool:
    finite = values[np.isfinite(values)]
    return bool(((finite < 0) | (finite > 1)).any())
