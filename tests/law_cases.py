"""One or more instances of every law, with parameters and columns on which all are smooth."""

import numpy as np

from trm_lab.laws import (
    BNSL,
    M3,
    M4,
    EffectiveN,
    Gompertz,
    Law,
    Logistic,
    LogQuadratic,
    NeverSolved,
    Power,
    PowerError,
    PowerFloor,
    Saturating,
    SumPower,
    TestTime,
)

_RNG = np.random.default_rng(0)
_NAMES = ("N", "D", "N_once", "N_rec", "r", "n", "T", "T_train")
COLUMNS = {name: np.exp(_RNG.uniform(0, 3, 60)) for name in _NAMES}
"""Sixty cells of every column between 1 and 20, drawn singly, so that no two move together."""
COLUMNS["x"] = np.geomspace(1, 200, 60)

Case = tuple[Law, tuple[float, ...]]
LOSSES: tuple[Case, ...] = (
    (Power("x"), (3, 0.5)),
    (PowerFloor("x"), (1, 3, 0.5)),
    (SumPower("N", "D"), (1, 2, 3, 0.3, 0.4)),
    (SumPower("N", "D", "T"), (1, 2, 3, 1, 0.3, 0.4, 0.7)),
    (SumPower("N", "D", shared=True), (1, 2, 3, 0.3)),
    (SumPower(EffectiveN("N_once", "N_rec", r="r"), "D"), (1, 2, 3, 0.3, 0.4, 0.46)),
    (
        SumPower(EffectiveN("N_once", "N_rec", n="n", T="T"), "D"),
        (1, 2, 3, 0.3, 0.4, 0.46, 0.3),
    ),
    (TestTime("T"), (1, 2, 0.3)),
    (TestTime("T", train="T_train"), (1, 2, 0.3)),
    (M3("x"), (2, 0.5, 0.1)),
    (M4("x"), (0.5, 9, 0.7, 3, 0.6)),
    (M4("x", error_rate=True), (0.05, 0.9, 0.7, 3, 0.6)),
    (BNSL("x"), (0.2, 2, 0.3, 0.4, 5, 0.7)),
    (BNSL("x", breaks=2), (0.2, 2, 0.3, 0.4, 5, 0.7, -0.5, 30, 0.4)),
    (LogQuadratic("x"), (0.1, 0.2, -0.03)),
)
SHARES: tuple[Case, ...] = (
    (Saturating("x"), (0.9, 0.7, 5)),
    (PowerError("x"), (0.1, 0.5, 0.6)),
    (Logistic("x"), (0.9, 0, 1.2, 1.5)),
    (Logistic("x", chance=None), (0.9, 0.1, 1.2, 1.5)),
    (Logistic(EffectiveN("N_once", "N_rec", r="r"), chance=0.1), (0.9, 0.1, 2, 1.5, 0.4)),
    (Gompertz("x"), (0.9, 0, 1.2, 1.5)),
    (Gompertz("x", chance=None), (0.9, 0.05, 1.2, 1.5)),
    (NeverSolved("x"), (0.8, 5, 1.3)),
)
CASES = LOSSES + SHARES


def name(case: Case) -> str:
    """Give the id of a case."""
    return str(case[0])


def columns(law: Law, stretch: float = 1.0) -> dict[str, np.ndarray]:
    """Give the columns that a law reads."""
    return {one: COLUMNS[one] * stretch for one in law.columns_read}
