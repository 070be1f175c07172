"""An interval that ends at rounding above 0 has not told a floor from 0."""

import numpy as np
import pytest

from trm_lab.fit.verdicts import Verdict, with_interval


@pytest.mark.parametrize(("lower", "floor"), [(1e-16, "E"), (0.0, "E"), (0.2, "")])
def test_a_floor_is_told_from_0_by_an_interval_that_is_clear_of_it(lower, floor):
    verdict = Verdict(10.0, (), (), (), "E", 0.0, agreement=1.0)
    assert verdict.status == "floor_not_identified"
    found = with_interval(verdict, ("E", "A"), np.array([lower, 1.0]), np.array([0.5, 2.0]))
    assert found.floor == floor
    assert (found.status == "converged") == (not floor)
