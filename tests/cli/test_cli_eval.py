"""`trm-lab eval`: a table, a file, a figure; errors with code 2."""

import json
import re
from pathlib import Path

import pytest
import xarray as xr

from tests.cli.conftest import Done, TrmLab
from tests.training.tiny_run import EXECUTION, tiny_recipe
from trm_lab.accounting import account
from trm_lab.cli.output import duration
from trm_lab.config.execution import Execution
from trm_lab.errors import ConfigError
from trm_lab.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eval") / "run"
    train(tiny_recipe(), path, execution=EXECUTION)
    return path


@pytest.mark.slow
def test_a_grid_is_printed_and_saved(run: Path, trm_lab: TrmLab) -> None:
    done = trm_lab("eval", run, "--steps", "1,4", "--rollouts", "1,2,4", "--noise", "0.2",
                   "--select", "head,vote", "--figure")  # fmt: skip
    assert (done.code, done.err) == (
        0,
        "10 puzzles x 4 rollouts x 4 steps, about 0 s of one core\n",
    )
    lines = [re.split(r" {2,}", line) for line in done.out.splitlines()]
    assert lines[0] == [
        f"{run}: puzzle accuracy on 10 test puzzles, last weights, n 2, T 2, "
        "noise 0.2 after the first rollout"
    ]
    assert lines[1] == ["steps", "rollouts", "FLOP/puzzle", "head", "vote"]
    assert [line[:2] for line in lines[2:8]] == [
        [s, k] for s in ("1", "4") for k in ("1", "2", "4")
    ]
    written = [Path(line[0].removeprefix("wrote ")) for line in lines[8:]]
    assert [path.suffix for path in written] == [".nc", ".pdf", ".svg", ".png"]
    assert all(path.parent == run / "evaluation" for path in written)
    with xr.open_dataset(written[0]) as grid:
        assert dict(grid.sizes)["rollout"] == 4


def test_solves_that_did_not_converge_have_a_column(tmp_path: Path, trm_lab: TrmLab) -> None:
    hopeless = {"kind": "implicit", "tolerance": 0.0, "backward_iterations": 1}
    train(tiny_recipe(model={"gradient": hopeless}), tmp_path / "run", execution=EXECUTION)
    done = trm_lab("eval", tmp_path / "run", "--steps", "1", "--rollouts", "1", "--limit", 2)
    lines = [re.split(r" {2,}", line) for line in done.out.splitlines()[1:]]
    assert lines[0] == [
        "steps", "rollouts", "FLOP/puzzle", "head", "residual", "vote", "oracle", "unconverged",
    ]  # fmt: skip
    assert float(lines[1][-1]) == 1


def test_json_holds_the_rows_and_what_was_asked(run: Path, trm_lab: TrmLab) -> None:
    done = trm_lab("eval", run, "--steps", "2", "--rollouts", "1,3", "--restarts", "--split",
                   "validation", "--limit", 4, "--weights", "raw", "--T", 1, "--json")  # fmt: skip
    found = json.loads(done.out)
    assert [row["rollouts"] for row in found["rows"]] == [1, 3]
    assert (found["puzzles"], found["split"], found["weights"]) == (4, "validation", "raw")
    assert (found["T"], found["restarts"], found["noise"]) == (1, 1, 0)
    assert Path(found["file"]).exists()


def test_what_it_will_cost_is_said_before_it_starts(
    run: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trm_lab.study.cost.CPU_FLOPS", 1e5)

    def stop(*_: object, **__: object) -> None:
        raise ConfigError("stopped")

    monkeypatch.setattr("trm_lab.training.test_time.roll_out", stop)
    done = trm_lab("eval", run, "--steps", "1,2", "--rollouts", "1", "--limit", 1)
    seconds = account(tiny_recipe()).eval_flops * 2 / 1e5
    expected = f"1 puzzle x 1 rollout x 2 steps, about {duration(seconds)} of one core\n"
    assert duration(seconds) not in ("0 s", "1 s")
    assert done == Done(2, "", expected + "error: stopped\n")


def test_a_curve_of_thresholds_comes_from_one_run(run: Path, trm_lab: TrmLab) -> None:
    asked = ("eval", run, "--steps", "2,3", "--rule", "confidence", "--threshold", "-1e9,0,1e9")
    done = trm_lab(*asked)
    assert (done.code, done.err) == (
        0,
        "10 puzzles x 3 rules x 3 steps, at most 0 s of one core\n",
    )
    lines = [re.split(r" {2,}", line) for line in done.out.splitlines()]
    assert lines[0] == [
        f"{run}: puzzle accuracy on 10 test puzzles, last weights, up to each one's halting step"
    ]
    columns = ["rule", "steps", "FLOP/puzzle", "mean steps", "puzzle accuracy", "cell accuracy"]
    assert lines[1] == columns
    found = [line[:2] + line[3:4] for line in lines[2:8]]
    assert found[:2] == [["confidence -1000000000", s, "1.000"] for s in ("2", "3")]
    assert found[4:] == [["confidence 1000000000", s, f"{s}.000"] for s in ("2", "3")]
    file = Path(lines[8][0].removeprefix("wrote "))
    told = json.loads(trm_lab(*asked, "--json").out)
    assert (told["file"], told["figures"], told["N_sup"]) == (str(file), [], 3)
    with xr.open_dataset(file) as stored:
        accuracy = stored["puzzle_accuracy"].values.ravel().tolist()
    assert [row["puzzle_accuracy"] for row in told["rows"]] == accuracy


@pytest.mark.parametrize("verb", ["eval", "diagnose"])
def test_one_thread_is_taken_unless_told(
    verb: str, run: Path, trm_lab: TrmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def stop(execution: Execution) -> None:
        seen.append(execution.threads)
        raise ConfigError("stopped")

    monkeypatch.setattr("trm_lab.training.stored.prepare", stop)
    for more in ((), ("--threads", "2")):
        assert trm_lab(verb, run, *more) == Done(2, "", "error: stopped\n")
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "4,1"), "eval: steps must rise, not [4, 1]"),
        (("--rollouts", "1;2"), "--rollouts: expected whole numbers with commas between"),
        (("--rollouts", "4"), "4 rollouts without noise or restarts are all the same"),
        (("--select", "head,voting"), "'voting' is not one of head, residual, vote, oracle"),
        (("--weights", "ema"), "'ema' is not one of last, best, raw"),
        (("--split", "train"), "'train' is not one of test, validation"),
        (("--noise", "-1"), "noise: input should be greater than or equal to 0"),
        (("--threshold", "1"), "--threshold: of which rule? give --rule confidence or residual"),
        (("--rule", "residual", "--threshold", "a"), "--threshold: expected numbers with commas"),
        (("--rule", "residual"), "--rule residual: rules.0.threshold: is required"),
        (
            ("--rule", "oracle", "--threshold", "1"),
            "--rule oracle --threshold 1: rules.0.threshold: unknown setting",
        ),
        (
            ("--rule", "orakle"),
            "--rule orakle: rules.0: no such kind 'orakle'; did you mean oracle?",
        ),
        (
            ("--rule", "confidnce", "--threshold", "0,1"),
            "error: --rule confidnce --threshold 0,1: rules.0: no such kind 'confidnce'; did you "
            "mean confidence?\n",
        ),
        (("--rule", "q_learning"), "rule q_learning reads a head"),
        (
            ("--rule", "own", "--T", "1", "--rollouts", "1,2", "--noise", "0.1", "--figure"),
            "leave out --rollouts, --noise, --T, --figure",
        ),
    ],
)
def test_errors_say_what_is_wrong(
    run: Path, trm_lab: TrmLab, arguments: tuple[str, ...], message: str
) -> None:
    done = trm_lab("eval", run, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_folder_without_a_run_is_an_error(tmp_path: Path, trm_lab: TrmLab) -> None:
    done = trm_lab("eval", tmp_path)
    assert done.code == 2
    assert f"{tmp_path}: is a folder, not one run" in done.err
