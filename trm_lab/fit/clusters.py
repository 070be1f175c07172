"""Clusters of rows: how they are drawn again, and how many of them tell a parameter."""

import numpy as np
import numpy.typing as npt

from trm_lab.laws import Grouped, Law
from trm_lab.laws.base import FloatArray


def resample(
    rng: np.random.Generator,
    member: npt.NDArray[np.intp],
    n: int,
    group: FloatArray | None,
    draws: int,
) -> npt.NDArray[np.int64]:
    """Give how often each of n clusters is drawn, [draw, n].

    Clusters that occur in the same groups are drawn among themselves, so that every draw has as
    many of each kind as the data.
    """
    stratum = strata(member, n, group)
    counts = np.zeros((draws, n), dtype=np.int64)
    for value in np.unique(stratum):
        here = np.flatnonzero(stratum == value)
        p = np.full(len(here), 1 / len(here))
        counts[:, here] = rng.multinomial(len(here), p, size=draws)
    return counts


def strata(member: npt.NDArray[np.intp], n: int, group: FloatArray | None) -> npt.NDArray[np.intp]:
    """Give the stratum of each of n clusters: the set of groups that it occurs in.

    A set that only one cluster has goes with the most frequent one: alone it would never vary.
    """
    if group is None:
        return np.zeros(n, dtype=np.intp)
    sets = [tuple(sorted(set(group[member == c]))) for c in range(n)]
    kinds = sorted(set(sets))
    stratum = np.array([kinds.index(one) for one in sets], dtype=np.intp)
    sizes = np.bincount(stratum, minlength=len(kinds))
    return np.where(sizes[stratum] == 1, int(np.argmax(sizes)), stratum)


def fewest(law: Law, member: npt.NDArray[np.intp], group: FloatArray | None) -> int:
    """Count the clusters behind the parameters with fewest: those of the smallest group."""
    counts = [len(np.unique(member))]
    if isinstance(law, Grouped) and group is not None:
        counts += [len(np.unique(member[group == g])) for g, own in enumerate(law.alone) if own]
    return min(counts)
