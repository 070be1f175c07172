"""Reading netCDF whole, and writing it so that a reader sees the old file or the new one."""

from pathlib import Path
from typing import Any, Literal

import xarray as xr

from trm_lab.atomic import write_bytes

ENGINE: Literal["netcdf4"] = "netcdf4"


def read_netcdf(path: Path) -> xr.DataTree:
    """Load every variable and close the file.

    Raises:
        OSError: there is no such file, or it is no netCDF.
        ValueError: xarray cannot decode it.
    """
    with xr.open_datatree(path, engine=ENGINE) as opened:
        # DataTree.load (xarray 2026.9) leaves out variables that share the name of a group, here
        # `puzzles` of /eval.  Used later they open the file again, whatever it holds by then, and
        # that handle is closed by the garbage collector: in another thread, it crashes the process.
        for node in opened.subtree:
            for variable in node.variables.values():
                variable.load()
        return opened


def write_netcdf(data: xr.DataTree | xr.Dataset, path: Path) -> None:
    """Write atomically; numeric arrays are deflated.

    Raises:
        DiskFullError: no space; the old file is whole.
    """
    # Made in memory: netCDF's own word for a full disk is "Permission denied".
    if isinstance(data, xr.DataTree):
        groups = {node.path: _encoding(node.to_dataset()) for node in data.subtree}
        content = data.to_netcdf(engine=ENGINE, format="NETCDF4", encoding=groups)
    else:
        content = data.to_netcdf(engine=ENGINE, format="NETCDF4", encoding=_encoding(data))
    write_bytes(path, content)


def _encoding(data: xr.Dataset) -> dict[Any, dict[str, Any]]:
    return {
        name: {"zlib": True, "complevel": 4}
        for name, variable in data.variables.items()
        if variable.dtype.kind in "iufb" and variable.ndim and variable.size
    }
