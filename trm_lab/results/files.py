"""Writing netCDF so that a reader sees the old file or the new one, never half of one."""

from pathlib import Path
from typing import Any, Literal

import xarray as xr

from trm_lab.atomic import replacing

ENGINE: Literal["netcdf4"] = "netcdf4"


def write_netcdf(data: xr.DataTree | xr.Dataset, path: Path) -> None:
    """Write atomically; numeric arrays are deflated."""
    with replacing(path) as temporary:
        if isinstance(data, xr.DataTree):
            groups = {node.path: _encoding(node.to_dataset()) for node in data.subtree}
            data.to_netcdf(temporary, engine=ENGINE, format="NETCDF4", encoding=groups)
        else:
            data.to_netcdf(temporary, engine=ENGINE, format="NETCDF4", encoding=_encoding(data))


def _encoding(data: xr.Dataset) -> dict[Any, dict[str, Any]]:
    return {
        name: {"zlib": True, "complevel": 4}
        for name, variable in data.variables.items()
        if variable.dtype.kind in "iufb" and variable.ndim and variable.size
    }
