"""Laws: how loss or accuracy moves with depth, recursion, parameters, data or compute.

`law("SumPower(N, D)")` or `SumPower("N", "D")`; `docs/laws.md` has all of them with formula, source
and use.  Torch-free, on numpy alone.
"""

from trm_lab.laws.accuracy import Gompertz, Logistic, NeverSolved, PowerError, Saturating, Sigmoid
from trm_lab.laws.axes import Axis, Column, EffectiveN
from trm_lab.laws.base import Columns, FloatArray, Law, Parameter
from trm_lab.laws.bounded import M4
from trm_lab.laws.curves import BNSL, M3, LogQuadratic, TestTime
from trm_lab.laws.grouped import GROUP, Grouped
from trm_lab.laws.power import Power, PowerFloor, SumPower
from trm_lab.laws.text import LAWS, law

__all__ = [
    "BNSL", "GROUP", "LAWS", "M3", "M4", "Axis", "Column", "Columns", "EffectiveN", "FloatArray",
    "Gompertz", "Grouped", "Law", "LogQuadratic", "Logistic", "NeverSolved", "Parameter", "Power",
    "PowerError", "PowerFloor", "Saturating", "Sigmoid", "SumPower", "TestTime", "law",
]  # fmt: skip
