"""A finished run under halting rules: what a run with that policy would have stored, to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.training.test_test_time import able
from tests.training.tiny_run import EXECUTION
from trm_lab import Halted, evaluate_halted, train
from trm_lab.accounting import account
from trm_lab.config.source import Source
from trm_lab.config.test_time import Subject
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError
from trm_lab.results.halting import rows
from trm_lab.runs import RunFolder

QUIET = EXECUTION.model_copy(update={"checkpoint_seconds": 60.0})
RULES: list[Any] = [{"kind": "residual", "threshold": 0.5}, "oracle", "own"]


def halted(**given: Any) -> Halted:
    return validate(Halted, Source(given, "eval"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("halted") / "run"
    train(able(), path, execution=QUIET)
    return path


def test_a_rule_gives_the_bits_of_a_run_with_that_policy(run: Path, tmp_path: Path) -> None:
    with np.load(RunFolder(run).evaluation("last")) as plain:
        low, high = np.quantile(plain["halt_logit"], (0.25, 0.75)).tolist()
    curve = [{"kind": "confidence", "threshold": threshold} for threshold in (low, high)]
    rules = [*curve, *RULES]
    found = evaluate_halted(run, halted(steps=[1, 2, 3], rules=rules), execution=EXECUTION).grid
    steps = []
    for place, rule in enumerate(rules):
        policy = {"kind": "when_halted", "rule": rule}
        path = tmp_path / str(place)
        train(able(eval={"policy": policy}), path, execution=QUIET)
        with np.load(RunFolder(path).evaluation("last")) as stored:
            for name in ("solved", "halt_logit", "halting_step"):
                assert np.array_equal(found[name][place], stored[name]), (rule, name)
            mean = stored["cell_accuracy"].mean(axis=0, dtype=np.float64)
            assert np.array_equal(found["cell_accuracy"][place], mean)
            assert np.array_equal(found["puzzle_accuracy"][place], stored["solved"].mean(axis=0))
            assert float(found["mean_steps"][place, -1]) == stored["halting_step"].mean()
        steps.append(float(found["mean_steps"][place, -1]))
    assert 1 < steps[0] < steps[1], "the thresholds tell puzzles apart"


def test_the_file_says_what_each_rule_cost(run: Path) -> None:
    setting = halted(steps=[1, 3], rules=RULES)
    subject = Subject(split="validation", limit=5)
    asked: list[tuple[int, int]] = []
    found = evaluate_halted(
        run, setting, subject, execution=EXECUTION, announce=lambda *told: asked.append(told)
    )
    step = account(able()).eval_flops
    assert asked == [(5, step * 3 * len(RULES) * 5)]
    assert found.path.name.startswith("halted-validation-last-")
    with xr.open_dataset(found.path) as stored:
        assert stored.identical(found.grid)
    grid = found.grid
    assert grid["rule"].values.tolist() == ["residual 0.5", "oracle", "confidence 0"]
    assert grid["threshold"].values.tolist() == pytest.approx([0.5, np.nan, 0], nan_ok=True)
    taken = np.minimum(grid["halting_step"].values[:, :, None], [1, 3]).mean(axis=1)
    assert np.array_equal(grid["mean_steps"], taken)
    assert np.array_equal(grid["flops"], step * taken)
    told = rows(grid)
    assert [(row["rule"], row["steps"]) for row in told[:3]] == [
        ("residual 0.5", 1), ("residual 0.5", 3), ("oracle", 1),
    ]  # fmt: skip
    assert told[3]["puzzle_accuracy"] == float(grid["puzzle_accuracy"][1, 1])
    assert grid["flops"].attrs["comment"] == "of an implicit gradient the most that it can take"
    # The oracle stops on what is right at any step, so no rule is right more often.
    assert (grid["puzzle_accuracy"] <= grid["puzzle_accuracy"].sel(rule="oracle")).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": [2, 1]}, r"steps must rise, not \[2, 1\]"),
        ({"rules": ["oracle", "oracle"]}, "the same rule with the same threshold stands twice"),
        ({"rules": ["luck"]}, "no such kind 'luck'; known: own, confidence"),
        ({"rules": [{"kind": "q_learning"}]},
         r"^eval: eval\.policy: rule q_learning reads a head that supervision\.halting: confidence "
         "does not train"),
    ],
)  # fmt: skip
def test_what_cannot_halt_is_refused(run: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_halted(run, halted(**given), execution=EXECUTION)


def test_names_tell_thresholds_apart_and_own_is_not_given_twice(run: Path) -> None:
    near = [{"kind": "confidence", "threshold": at} for at in (0.1234567, 0.1234568)]
    found = evaluate_halted(run, halted(steps=[1], rules=near), execution=EXECUTION).grid
    assert found["rule"].values.tolist() == ["confidence 0.1234567", "confidence 0.1234568"]
    twice = halted(steps=[1], rules=["own", {"kind": "confidence", "threshold": 0.0}])
    with pytest.raises(ConfigError, match="rule own: is confidence in this run, which is given to"):
        evaluate_halted(run, twice, execution=EXECUTION)
