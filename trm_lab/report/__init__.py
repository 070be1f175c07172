"""One HTML file per study, with the figures and the numbers behind them beside it."""

from trm_lab.report.answer import answer
from trm_lab.report.build import build

__all__ = ["answer", "build"]
