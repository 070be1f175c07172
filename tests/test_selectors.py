"""Choosing one rollout: small cases by hand, and what holds of all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm_lab.config.test_time import SELECTORS
from trm_lab.selectors import Trials, choose, pick, votes


def trials(halt: list[float], residual: list[float], same: list[int], solved: list[bool]) -> Trials:
    """One puzzle at one depth."""

    def shaped(values: list, kind: type) -> np.ndarray:
        return np.array(values, dtype=kind)[None, :, None]

    right = shaped(solved, bool)
    return Trials(
        np.array([1]), right, np.where(right, 1.0, 0.5).astype(np.float32),
        shaped(halt, np.float32), shaped(residual, np.float32), shaped(same, np.int16),
        np.where(right, 0, -1), ~right,
    )  # fmt: skip


CASE = trials([1.0, 5.0, 2.0, 0.0, 3.0], [0.4, 0.3, 0.2, 0.1, 0.5], [0, 1, 0, 0, 1],
              [False, False, False, True, False])  # fmt: skip


@pytest.mark.parametrize(
    ("selector", "K", "expected"),
    [
        ("head", 1, 0), ("head", 2, 1), ("head", 5, 1),
        ("residual", 2, 1), ("residual", 5, 3),
        ("vote", 2, 1),  # one each: the halting logit decides
        ("vote", 3, 2),  # answer 0 twice; of its rollouts the surer
        ("vote", 5, 2),  # three against two
        ("oracle", 3, 0), ("oracle", 4, 3),
    ],
)  # fmt: skip
def test_what_each_selector_takes(selector: str, K: int, expected: int) -> None:
    assert choose(selector, CASE, K).tolist() == [[expected]]  # type: ignore[arg-type]


def test_the_residual_of_a_rollout_without_noise_is_not_compared_with_noisy_ones() -> None:
    noisy = replace(trials([0.0] * 4, [0.1, 0.4, 0.2, 0.3], [0] * 4, [False] * 4), quiet=1)
    assert [choose("residual", noisy, K).item() for K in (1, 2, 3, 4)] == [0, 1, 2, 2]
    assert choose("residual", replace(noisy, quiet=0), 4).item() == 0


def test_numbers_that_are_none_are_never_taken() -> None:
    broken = trials([np.nan, -3.0, -np.inf], [np.nan, 0.9, np.inf], [0, 1, 2], [False] * 3)
    for selector in ("head", "residual", "vote"):
        assert choose(selector, broken, 3).tolist() == [[1]]  # type: ignore[arg-type]


def test_votes_are_counted_per_answer() -> None:
    same = np.array([[0, 1, 0, 0, 1], [0, 1, 2, 3, 4]])[:, :, None]
    assert votes(same)[..., 0].tolist() == [[3, 2, 3, 3, 2], [1] * 5]


@given(seed=st.integers(0, 1000))
def test_no_selector_beats_the_oracle_and_the_oracle_never_loses_by_more_rollouts(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    shape = (6, 8, 3)
    cells = rng.integers(0, 5, shape) / 4
    same = np.minimum(rng.integers(0, 8, shape), np.arange(8)[:, None])
    found = Trials(
        np.arange(3),
        cells == 1,
        cells,
        rng.normal(size=shape),
        rng.random(shape),
        same,
        np.where(cells == 1, 0, -1),
        cells < 0,
    )
    best = np.zeros(3)
    for K in range(1, 9):
        accuracy = {s: pick(found.solved, choose(s, found, K)).mean(0) for s in SELECTORS}
        assert (accuracy["oracle"] == found.solved[:, :K].any(1).mean(0)).all()
        assert all((accuracy[s] <= accuracy["oracle"]).all() for s in SELECTORS)
        assert (accuracy["oracle"] >= best).all()
        best = accuracy["oracle"]
        if K == 1:
            assert len({accuracy[s].tobytes() for s in SELECTORS}) == 1
