"""The bench on which recursive reasoners are measured.

`Recipe` and `preset` say what a run is, `train` runs it, `open_results` opens what a study found.
Names load on first use, so that importing the package imports neither torch nor xarray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from trm_lab.config import PRESETS as PRESETS
    from trm_lab.config import Recipe as Recipe
    from trm_lab.config import preset as preset
    from trm_lab.config.execution import Execution as Execution
    from trm_lab.config.test_time import Halted as Halted
    from trm_lab.config.test_time import Rollouts as Rollouts
    from trm_lab.results import open_results as open_results
    from trm_lab.training import train as train
    from trm_lab.training.halted import evaluate_halted as evaluate_halted
    from trm_lab.training.test_time import evaluate_run as evaluate_run

_HOME = {
    "PRESETS": "trm_lab.config",
    "Recipe": "trm_lab.config",
    "preset": "trm_lab.config",
    "open_results": "trm_lab.results",
    "Execution": "trm_lab.config.execution",
    "Halted": "trm_lab.config.test_time",
    "Rollouts": "trm_lab.config.test_time",
    "evaluate_halted": "trm_lab.training.halted",
    "evaluate_run": "trm_lab.training.test_time",
    "train": "trm_lab.training",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'trm_lab' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
