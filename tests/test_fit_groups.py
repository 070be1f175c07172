"""Groups count as places of the design: the same x in two groups are two."""

import numpy as np
import pytest

from trm_lab.fit import fit
from trm_lab.laws import Saturating


def test_two_groups_of_four_x_tell_five_parameters_apart():
    T = np.tile([1.0, 2.0, 4.0, 8.0], 2)
    arm = np.repeat(["a", "b"], 4)
    X = {"T": T[:4]}
    y = np.concatenate([Saturating("T").value(np.array([c, 0.6, 3.0]), X) for c in (0.9, 0.8)])
    made = fit({"T": T, "arm": arm, "acc": y, "seed": np.tile([0, 1], 4)}, "acc", "Saturating(T)",
               by="arm", share=["tau"], cluster="seed", interval="none")  # fmt: skip
    assert made.attrs["status"] == "converged"
    assert made.attrs["n_distinct_x"] == 8
    found = made["coefficients"].sel(param=["c[a]", "c[b]", "a[a]", "a[b]", "tau"]).values
    assert found == pytest.approx([0.9, 0.8, 0.6, 0.6, 3.0], rel=1e-7)
