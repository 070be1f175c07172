"""Opening results.nc, with the fits that belong to it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.paths import RESULTS as RESULTS_FOLDER
from trm_lab.paths import expect, missing
from trm_lab.results.collect import RESULTS
from trm_lab.results.files import ENGINE, read_netcdf
from trm_lab.results.schema import GROUPS


def open_results(path: Path | str) -> xr.DataTree:
    """Load a study's results from its folder or from the file, and close the file.

    Fits of the study stand under /fits/<name> with the attribute `stale`: 1 where a fit was made
    from other data than the file now holds.  A fit that cannot be read is named in `problems`.

    Raises:
        ConfigError: there is no such file, or it is not a results file.
    """
    place = Path(path)
    file = place / RESULTS if place.is_dir() else place
    if not file.exists():
        if place.is_dir():
            expect(place, RESULTS_FOLDER)
            raise ConfigError(f"{file}: no such file; `trm-lab collect {place}` makes it")
        raise missing(place, "folder or file of results", "`trm-lab run STUDY` makes it")
    try:
        tree = read_netcdf(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: not a readable netCDF file ({error}); "
            f"`trm-lab collect {file.parent}` makes it anew"
        ) from None
    absent = [f"/{group}" for group in GROUPS if group not in tree.children]
    if absent:
        raise ConfigError(f"{file}: not a results file of trm_lab: no {', '.join(absent)}")
    return _with_fits(tree, file.parent / "fits")


def data_hash(tree: xr.DataTree) -> str:
    """Hash the values of /runs, /curves, /eval and /puzzles: 64 hex digits.

    Names, dims, types and values count; attributes, the time of collecting and fits do not.
    """
    digest = hashlib.sha256()
    for group in GROUPS:
        data = tree[group].to_dataset()
        for name in sorted(map(str, data.variables)):
            variable = data.variables[name]
            digest.update(repr((group, name, variable.dims, variable.shape)).encode())
            digest.update(_bytes(variable.values))
    return digest.hexdigest()


def _bytes(values: np.ndarray[Any, Any]) -> bytes:
    if values.dtype.kind in "UOT":
        return b"text" + "\0".join(map(str, values.ravel())).encode()
    order = values.dtype.newbyteorder("<")
    content: bytes = np.ascontiguousarray(values, dtype=order).tobytes()
    return str(order.str).encode() + content


def _with_fits(tree: xr.DataTree, folder: Path) -> xr.DataTree:
    files = sorted(folder.glob("*.nc"))
    if not files:
        return tree
    now = data_hash(tree)
    fits: dict[str, xr.DataTree | xr.Dataset] = {}
    for file in files:
        try:
            with xr.open_dataset(file, engine=ENGINE) as opened:
                fit = opened.load()
        except (OSError, ValueError) as error:
            lines = [*str(tree.attrs.get("problems", "")).splitlines()]
            lines.append(f"fits/{file.name}: unreadable ({error}); `trm-lab fit` makes it anew")
            tree.attrs["problems"] = "\n".join(lines)
            continue
        fit.attrs["stale"] = int(fit.attrs.get("data_hash") != now)
        fits[file.stem] = fit
    tree["fits"] = xr.DataTree.from_dict(fits)
    return tree
