"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


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
