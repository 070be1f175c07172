"""Which parameter of a search mattered."""

import json
import math
from pathlib import Path

import pytest

from tests.cli.conftest import in_a_process
from tests.study.search_study import scripted, searching
from tests.study.tiny import planned
from trm_lab.errors import ConfigError
from trm_lab.study.driver import drive
from trm_lab.study.importance import importances
from trm_lab.study.plan import Plan, Run


def lr_matters_alone(run: Run, update: int) -> float:
    return 0.9 * math.exp(-((math.log10(run.recipe.train.optimizer.lr) + 2) ** 2))


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    scripted(monkeypatch, lr_matters_alone)
    plan = searching(tmp_path, ("trials: 6", "trials: 30\n  sampler: random"))
    drive(plan)
    return plan


def test_the_parameter_that_matters_has_most_of_the_importance(searched: Plan):
    rows, remarks = importances(searched.root)
    assert remarks == []
    assert [(row["arm"], row["objective"], row["trials"]) for row in rows] == [
        ("shallow", "puzzle_accuracy", 30)] * 2 + [("deep", "puzzle_accuracy", 30)] * 2  # fmt: skip
    for first, second in (rows[:2], rows[2:]):
        assert (first["parameter"], second["parameter"]) == ("train.optimizer.lr", "model.ffn")
        assert first["PED-ANOVA"] > 0.8
        assert first["PED-ANOVA"] + second["PED-ANOVA"] == pytest.approx(1)


@pytest.mark.slow
def test_fanova_stands_beside_it_where_scikit_learn_is_installed(searched: Plan):
    pytest.importorskip("sklearn")
    rows, _ = importances(searched.root)
    assert all(row["fANOVA"] > 0.8 for row in rows[::2])


@pytest.mark.slow
def test_the_verb_names_the_evaluator_and_calls_it_no_test(searched: Plan):
    shown = in_a_process("importance", searched.root)
    assert shown.code == 0
    assert "PED-ANOVA" in shown.out.splitlines()[1]
    assert "none is a test" in shown.out
    told = json.loads(in_a_process("importance", searched.root, "--json").out)
    assert (told["importance"], told["remarks"]) == importances(searched.root)


def test_few_trials_and_trials_of_one_value_are_said_instead_of_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch, lambda *_: 0.5)
    plan = searching(tmp_path / "few")
    drive(plan)
    assert importances(plan.root) == ([], [
        f"{name}, puzzle_accuracy: 6 complete trials, and all have one value"
        for name in ("shallow", "deep")
    ])  # fmt: skip
    scripted(monkeypatch, lr_matters_alone)
    plan = searching(tmp_path / "other")
    drive(plan)
    assert importances(plan.root)[1][0] == (
        "shallow, puzzle_accuracy: 6 complete trials, and 10 are the least"
    )


def test_what_is_no_search_is_refused(tmp_path: Path):
    plan = planned(tmp_path)
    plan.root.mkdir()
    plan.write()
    with pytest.raises(ConfigError) as caught:
        importances(plan.root)
    assert str(caught.value) == (
        f"{plan.root}: is no search; importance is of the parameters of one"
    )
