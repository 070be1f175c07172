"""Fixtures for all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: one thread is faster on small tensors and leaves the other cores alone,
# and bit equality holds only between runs of the same number of threads.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("trm_lab", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("trm_lab")


TOGETHER = (
    "tests/slurm/",
    "tests/cli/test_end_to_end.py",
    "tests/extension/test_extension_runs.py",
    "tests/test_report.py",
)
"""Tests that share what is dear to make (a cluster, a study) and so run on one worker."""


class Scheduler(LoadScopeScheduling):
    """Sends every test by itself, but for those that belong together."""

    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduler:
    # Not marks of xdist_group: xdist 3.8 writes them where pytest 9.2 no longer reads.
    return Scheduler(config, log)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep generated puzzles out of the user's cache, and make each set once per session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRM_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real data that is not part of the project.

    `TRM_LAB_SHARED`, by default `../shared` beside the repository.  Tests that need it are skipped
    without it, or fail with REQUIRE_SHARED=1.
    """
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("TRM_LAB_SHARED") or root.parent / "shared")
    if not (folder / "data").is_dir():
        reason = f"no real data: TRM_LAB_SHARED names no folder with data/ ({folder})"
        if os.environ.get("REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Let commands that tests start hear SIGINT: a shell's background job has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
