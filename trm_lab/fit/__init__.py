"""Fit laws to runs: estimates, intervals that hold, verdicts, forecasts.

Torch-free, on scipy, and usable on any table:

    from trm_lab.fit import fit
    made = fit(frame, "loss", "SumPower(N, D)", cluster="model")

What is asked of a fit takes the Dataset that `fit` gives, or the file it was saved in.
"""

from typing import TYPE_CHECKING, Any

from trm_lab.fit.contrast import contrast
from trm_lab.fit.describe import describe
from trm_lab.fit.design import design_report, suggest_runs
from trm_lab.fit.fitting import fit
from trm_lab.fit.influence import influence, sensitivity
from trm_lab.fit.isoflop import isoflop
from trm_lab.fit.rows import ClusterWarning
from trm_lab.fit.saved import law_of, predict
from trm_lab.fit.selection import backtest, curve_laws, forecast

if TYPE_CHECKING:
    from trm_lab.fit.study import fit_specs, fit_study, save_fit

__all__ = [
    "ClusterWarning", "backtest", "contrast", "curve_laws", "describe", "design_report", "fit",
    "fit_specs", "fit_study", "forecast", "influence", "isoflop", "law_of", "predict",
    "save_fit", "sensitivity", "suggest_runs",
]  # fmt: skip

_OF_STUDIES = ("fit_specs", "fit_study", "save_fit")


def __getattr__(name: str) -> Any:
    """Load what needs a study's results when it is first asked for: any table is fitted without."""
    if name in _OF_STUDIES:
        from trm_lab.fit import study

        return getattr(study, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
