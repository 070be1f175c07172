"""Normal numbers keyed by what they are for."""

import numpy as np
import torch
from scipy import stats

from trm_lab.core.noise import derive, mix, normal


def keys(count: int) -> torch.Tensor:
    return derive(torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_words_are_splitmix64s() -> None:
    """The first outputs of SplitMix64 from state 1234567, as published with its reference code."""
    gamma = 0x9E3779B97F4A7C15
    states = [(1234567 + i * gamma) % 2**64 for i in (1, 2, 3)]
    words = torch.from_numpy(np.array(states, dtype=np.uint64).view(np.int64))
    assert mix(words).numpy().view(np.uint64).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


def test_the_numbers_are_standard_normal() -> None:
    drawn = normal(keys(50), 2001).double().numpy()
    assert drawn.shape == (50, 2001)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.var() - 1) < 0.02
    assert abs(stats.kurtosis(drawn.ravel())) < 0.05


def test_the_numbers_of_two_keys_and_of_two_places_are_unrelated() -> None:
    drawn = normal(keys(400), 400).double().numpy()
    between = np.corrcoef(drawn)[np.triu_indices(400, 1)]
    along = np.corrcoef(drawn.T)[np.triu_indices(400, 1)]
    for found in (between, along):
        # Correlations of 400 independent pairs have std 1/20.
        assert abs(found.mean()) < 0.001
        assert abs(found.std() - 0.05) < 0.002
        assert abs(found).max() < 0.3


def test_a_draw_depends_on_its_key_alone() -> None:
    whole = normal(keys(9), 33)
    order = torch.tensor([4, 0, 8])
    assert torch.equal(normal(keys(9)[order], 33), whole[order])
    assert torch.equal(normal(keys(9), 12), whole[:, :12])


def test_parts_have_keys_of_their_own() -> None:
    base = keys(100)
    derived = torch.cat([base, *(derive(base, part) for part in range(50))])
    assert len(derived.unique()) == len(derived)
    assert not torch.equal(derive(derive(base, 1), 2), derive(derive(base, 2), 1))
