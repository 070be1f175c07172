"""From run folders to one labelled file, and from the file to what figures ask.

    tree = open_results("runs/depth")     # or xarray.open_datatree("runs/depth/results.nc")

docs/results.md describes the file; `trm_lab.results.schema` is that description as data.
"""

from trm_lab.results.checks import check
from trm_lab.results.collect import collect, gather
from trm_lab.results.read import data_hash, open_results
from trm_lab.results.schema import STATES
from trm_lab.results.views import at_step, equal_compute, frame, not_in_sweep, outcomes, states

__all__ = [
    "STATES",
    "at_step",
    "check",
    "collect",
    "data_hash",
    "equal_compute",
    "frame",
    "gather",
    "not_in_sweep",
    "open_results",
    "outcomes",
    "states",
]
