"""Clusters for tests: started when a test first asks, one of a kind for a session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, cluster, missing
from tests.slurm.configuration import Options

ROOT = Path(__file__).parents[2]


def _session(options: Options) -> Iterator[Cluster]:
    reason = missing(options)
    if reason and os.environ.get("REQUIRE_SLURM") == "1":
        pytest.fail(f"REQUIRE_SLURM=1, but {reason}")
    if reason:
        pytest.skip(f"no SLURM here: {reason}")
    with cluster(options) as slurm:
        yield slurm


@pytest.fixture(scope="session")
def _bare_session() -> Iterator[Cluster]:
    yield from _session(Options(accounting=False))


@pytest.fixture(scope="session")
def _accounted_session() -> Iterator[Cluster]:
    yield from _session(Options(accounting=True))


def _entered(slurm: Cluster, patch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Make a cluster this process's, and leave it clean."""
    for name in list(os.environ):  # the tests themselves may run in a job
        if name.startswith(("SLURM_", "SBATCH_", "SUBMITIT_")):
            patch.delenv(name)
    for name, value in slurm.env.items():
        patch.setenv(name, value)
    # Jobs import the package and the tests' own parts, as this process does.
    patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    yield slurm
    slurm.cancel_all()


@pytest.fixture
def slurm(_bare_session: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster without accounting, which is the hard case."""
    yield from _entered(_bare_session, monkeypatch)


@pytest.fixture
def accounted(_accounted_session: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster with accounting."""
    yield from _entered(_accounted_session, monkeypatch)


@pytest.fixture(params=["accounting off", "accounting on"])
def either(request: pytest.FixtureRequest) -> Cluster:
    """Both kinds of cluster in turn."""
    found = request.getfixturevalue("slurm" if request.param == "accounting off" else "accounted")
    assert isinstance(found, Cluster)
    return found
