"""The studies and sweeps that ship, and the identity of the demonstration study's cells."""

from pathlib import Path

import pytest

from trm_lab.accounting import account
from trm_lab.config.source import read_yaml
from trm_lab.demo import study as demo
from trm_lab.study.plan import load_sweep, make_plan

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def test_the_ids_of_the_demo_are_those_of_its_published_results():
    # A change here gives every cell another folder, so that no finished run is found again.
    assert [cell.name for cell in make_plan(demo()).matrix.cells] == [
        "trm-1-1-6ed9b746",
        "trm-1-2-9b08f1bd",
        "trm-2-2-3365ddba",
        "trm-3-2-ba97e193",
        "trm-2-2-one-step-gradient-31c75642",
        "hrm-1-1-c5c97975",
        "hrm-2-2-a91239a4",
    ]


def test_the_demo_compares_at_equal_depth_and_names_its_confounds():
    plan = make_plan(demo())
    depth = {c.variant: account(c.recipe).effective_depth for c in plan.matrix.cells}
    assert depth == {
        "TRM (1,1)": 4,
        "TRM (1,2)": 6,
        "TRM (2,2)": 12,
        "TRM (3,2)": 18,
        "TRM (2,2) one-step gradient": 12,
        "HRM (1,1)": 4,
        "HRM (2,2)": 12,
    }
    assert plan.confounds() == [
        "HRM (2,2) against TRM (2,2) one-step gradient: 2 settings change at once: "
        "model.layout.nets, supervision.halting.kind",
        "HRM (2,2) against TRM (2,2): 3 settings change at once: "
        "model.layout.nets, model.gradient.kind, supervision.halting.kind",
        "HRM (1,1) against TRM (1,1): 3 settings change at once: "
        "model.layout.nets, model.gradient.kind, supervision.halting.kind",
    ]


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_study_is_valid_and_named_as_its_file(path: Path):
    plan = make_plan(read_yaml(path))
    assert plan.matrix.study.name == path.stem
    assert len({cell.name for cell in plan.matrix.cells}) == len(plan.matrix.cells) > 0


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_every_sweep_is_valid_and_named_as_its_file(path: Path):
    sweep = load_sweep(path)
    assert sweep.sweep.name == path.stem
    assert sweep.sweep.execution.threads == 1


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_study_can_be_tried_with_the_smoke_sweep(path: Path):
    plan = make_plan(read_yaml(path), sweep=load_sweep(ROOT / "sweeps" / "smoke.yaml"))
    assert plan.root == Path(f"runs/{path.stem}-smoke")
    assert {run.recipe.train.updates for run in plan.runs()} == {4}
