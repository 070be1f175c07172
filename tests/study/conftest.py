"""Studies that were driven without disturbance, to compare with."""

import shutil
from pathlib import Path

import pytest

from tests.study.tiny import planned
from trm_lab.runs import State
from trm_lab.study.driver import drive
from trm_lab.study.plan import Plan


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The tiny study, driven once; not to be written to."""
    plan = planned(tmp_path_factory.mktemp("undisturbed"))
    assert drive(plan) == {State.COMPLETED: 4}
    return plan


@pytest.fixture
def finished(undisturbed: Plan, tmp_path: Path) -> Plan:
    """A copy of the driven study, to be damaged."""
    shutil.copytree(undisturbed.root.parent, tmp_path / "runs")
    return planned(tmp_path / "runs")
