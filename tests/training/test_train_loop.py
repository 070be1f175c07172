"""What a run writes, and how it ends."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from tests.training.tiny_run import (
    CLOCK,
    EXECUTION,
    HRM,
    TOKEN_MLP,
    records,
    results,
    tiny_recipe,
)
from trm_lab.accounting import account
from trm_lab.config import Recipe
from trm_lab.core.core import Core, Weights
from trm_lab.core.evaluation import Outcomes
from trm_lab.errors import ConfigError, RunBusyError
from trm_lab.parameters import Geometry
from trm_lab.runs import Labels, RunFolder, State
from trm_lab.tasks.build import build
from trm_lab.training import Execution, train
from trm_lab.training.environment import prepare
from trm_lab.training.evaluation import outcomes
from trm_lab.training.optimizers import rate
from trm_lab.training.session import Session

LEARNS = tiny_recipe(
    TOKEN_MLP,
    task={"clues": 12, "train": 14, "validation": 10, "test": 3},
    model={"puzzle": None, "n": 1, "T": 1},
    supervision={"exploration": 0.0, "N_sup": 2},
    train={"updates": 80, "batch": 16, "optimizer": {"lr": 0.03}},
    eval={"every": 10, "steps": [1, 2], "final_steps": [1, 2]},
)
"""A run that solves its validation puzzles long before it ends: about a second."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The tiny run with all its parts."""
    path = tmp_path_factory.mktemp("run")
    labels = Labels(study="depth", variant="T=2", series="TRM", cell="t-2")
    assert train(tiny_recipe(), path, execution=EXECUTION, labels=labels) is State.COMPLETED
    return RunFolder(path)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("learned")
    assert train(LEARNS, path, execution=EXECUTION) is State.COMPLETED
    return RunFolder(path)


def evaluated(recipe: Recipe, params: dict[str, torch.Tensor], folder: RunFolder) -> Outcomes:
    """Evaluate parameters on the test puzzles, with the rest of the weights from the run."""
    tensors = load_file(folder.weights)
    names = recipe.model.layout.latents
    weights = Weights(params, tuple(tensors[f"initial/{n}"] for n in names), tensors.get("table"))
    data = build(recipe.task)
    core = Core(recipe.model, Geometry.of(recipe.task), getattr(torch, recipe.train.dtype))
    return outcomes(recipe, core, weights, data.test, recipe.eval.final_steps)


def part(folder: RunFolder, prefix: str) -> dict[str, torch.Tensor]:
    tensors = load_file(folder.weights)
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def test_a_run_folder_has_its_files(run: RunFolder) -> None:
    files = {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()}
    assert files - {".lock"} == {
        "recipe.yaml", "status.json", "metrics.jsonl", "weights.safetensors",
        "checkpoints/last.pt", "checkpoints/best.pt", "evaluation/last.npz", "evaluation/best.npz",
    }  # fmt: skip
    assert run.recipe() == tiny_recipe()


def test_the_status_says_what_was_run_where_and_on_what(run: RunFolder) -> None:
    status, recipe = run.status(), tiny_recipe()
    assert {k: status[k] for k in ("study", "variant", "series", "cell")} == {
        "study": "depth", "variant": "T=2", "series": "TRM", "cell": "t-2",
    }  # fmt: skip
    assert status["state"] == "completed"
    assert status["recipe_id"] == recipe.id
    assert (status["seed"], status["updates"], status["update"], status["attempt"]) == (
        0,
        12,
        12,
        1,
    )
    assert status["accounting"] == account(recipe)._asdict()
    assert status["flops"] == 12 * account(recipe).flops_per_update
    assert status["error"] is None
    assert status["started_utc"] <= status["finished_utc"] <= status["updated_utc"]
    assert 0 < status["cpu_seconds"] < 60
    assert 0 < status["seconds"] < 60
    data = build(recipe.task)
    assert status["data"] == {
        "fingerprint": data.fingerprint, "train": 24, "validation": 8, "test": 10,
    }  # fmt: skip


def test_the_environment_that_decides_the_bits_is_recorded(run: RunFolder) -> None:
    environment = run.status()["environment"]
    assert environment["threads"] == 1 == torch.get_num_threads()
    assert environment["torch"] == torch.__version__
    assert environment["numpy"] == np.__version__
    assert environment["python"] == platform.python_version()
    assert environment["matmul_precision"] == "highest"
    assert environment["deterministic"] is False
    assert environment["device"] == f"cpu: {platform.machine()}"
    assert environment["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    root = Path(__file__).parents[2]
    head = subprocess.run(
        ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert environment["git_commit"] == head
    assert isinstance(environment["git_dirty"], bool)


def test_records_come_at_their_updates(run: RunFolder) -> None:
    found = records(run.path)
    kinds = [(r["kind"], r["update"]) for r in found]
    assert kinds == [
        ("train", 2), ("train", 4), ("train", 5), ("evaluation", 5), ("train", 6), ("train", 8),
        ("train", 10), ("evaluation", 10), ("train", 12), ("evaluation", 12),
    ]  # fmt: skip
    schedule = tiny_recipe().train.schedule
    for record in found:
        assert record["flops"] == record["update"] * account(tiny_recipe()).flops_per_update
        if record["kind"] == "train":
            assert record["lr"] == pytest.approx(0.01 * rate(schedule, record["update"], 12))
            assert record["loss"] == pytest.approx(
                record["lm_loss"] + 0.5 * record["halt_loss"], rel=1e-6
            )
        else:
            assert (record["split"], record["weights"], record["puzzles"]) == (
                "validation",
                "ema",
                8,
            )
            assert record["steps"] == [1, 3]
            assert len(record["puzzle_accuracy"]) == len(record["cell_accuracy"]) == 2
    whole = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    assert all(set(CLOCK) <= set(r) for r in whole)
    seconds = [r["seconds"] for r in whole]
    assert seconds == sorted(seconds)


def test_how_often_is_logged_changes_no_number(run: RunFolder, tmp_path: Path) -> None:
    seldom = EXECUTION.model_copy(update={"log_every": 100})
    train(tiny_recipe(), tmp_path, execution=seldom)
    found, every = results(tmp_path), results(run.path)
    assert found["file"] == every["file"]
    assert [r["update"] for r in found["records"]] == [5, 5, 10, 10, 12, 12]
    # The mean of updates 1..5 is that of 1..2, 3..4 and 5.
    losses = [r["loss"] for r in every["records"] if r["kind"] == "train"]
    mean = (2 * losses[0] + 2 * losses[1] + losses[2]) / 5
    assert found["records"][0]["loss"] == pytest.approx(mean, rel=1e-12)


def test_progress_sees_every_record(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    train(tiny_recipe(), tmp_path, execution=EXECUTION, progress=seen.append)
    assert seen == [
        json.loads(x) for x in RunFolder(tmp_path).metrics_file.read_text().splitlines()
    ]


@pytest.mark.parametrize(
    ("N_sup", "expected"),
    [
        # Every slot is refilled at every update.
        (1, [4 * u for u in (2, 4, 5, 6, 8, 10, 12)]),
        # Four slots start at updates 1, 4, 7 and 10.
        (3, [4, 8, 8, 8, 12, 16, 16]),
        # ... at updates 1, 6 and 11.
        (5, [4, 4, 4, 8, 8, 8, 12]),
    ],
)
def test_examples_are_puzzles_started(tmp_path: Path, N_sup: int, expected: list[int]) -> None:
    recipe = tiny_recipe(
        supervision={"N_sup": N_sup, "halting": "fixed", "exploration": 0.0},
        eval={"steps": [1], "final_steps": [1]},
    )
    train(recipe, tmp_path, execution=EXECUTION)
    found = [r["examples"] for r in records(tmp_path) if r["kind"] == "train"]
    assert found == expected
    assert RunFolder(tmp_path).status()["examples"] == expected[-1]


@pytest.mark.slow
def test_slots_that_halt_start_more_examples(tmp_path: Path) -> None:
    """A head that always says "solved" and no exploration: every update starts a full batch."""
    recipe = tiny_recipe(supervision={"exploration": 0.0, "halt_weight": 0.0})
    sure = _with_bias(recipe, tmp_path / "sure", 5.0)
    never = _with_bias(recipe, tmp_path / "never", -5.0)
    assert sure["examples"] == 4 * 12
    assert never["examples"] == 4 * 4
    held = _with_bias(tiny_recipe(supervision={"exploration": 1.0, "halt_weight": 0.0}),
                      tmp_path / "held", 5.0)  # fmt: skip
    # Exploration keeps each slot for 2 or 3 steps.
    assert 4 * 4 <= held["examples"] <= 4 * 6


def _with_bias(recipe: Recipe, path: Path, bias: float) -> dict[str, Any]:
    """Train with a frozen halting head: with no weight on its loss it only decays."""
    fresh = Session.fresh.__func__

    def biased(cls: type[Session], *args: Any) -> Session:
        session = fresh(cls, *args)
        with torch.no_grad():
            session.weights.params["head.halt.bias"].fill_(bias)
        return session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "fresh", classmethod(biased))
        train(recipe, path, execution=EXECUTION)
    return RunFolder(path).status()


def test_averaged_weights_are_those_evaluated(run: RunFolder) -> None:
    recipe = tiny_recipe()
    raw, ema = part(run, "raw/"), part(run, "ema/")
    assert raw.keys() == ema.keys()
    assert not torch.equal(raw["embed.tokens"], ema["embed.tokens"])
    with np.load(run.evaluation("last")) as stored:
        stored = dict(stored)
    found = evaluated(recipe, ema, run)
    assert stored["weights"] == "ema"
    assert stored["update"] == 12
    assert stored["steps"].tolist() == [1, 2, 3]
    assert np.array_equal(stored["solved"], found.solved)
    assert np.array_equal(stored["cell_accuracy"], found.cell_accuracy)
    assert np.array_equal(stored["halt_logit"], found.halt_logit)
    assert not np.array_equal(evaluated(recipe, raw, run).halt_logit, found.halt_logit)
    tests = build(recipe.task).test
    assert np.array_equal(stored["clues"], tests.clues)
    assert np.array_equal(stored["signature"], tests.signature)
    assert np.array_equal(stored["guesses"], tests.guesses)
    assert np.array_equal(stored["rating"], tests.rating, equal_nan=True)


def test_without_averaging_the_raw_weights_are_evaluated(tmp_path: Path) -> None:
    recipe = tiny_recipe(train={"ema": None})
    train(recipe, tmp_path, execution=EXECUTION)
    folder = RunFolder(tmp_path)
    assert part(folder, "ema/") == {}
    with np.load(folder.evaluation("last")) as stored:
        assert stored["weights"] == "raw"
        found = evaluated(recipe, part(folder, "raw/"), folder)
        assert np.array_equal(stored["halt_logit"], found.halt_logit)
    assert {r["weights"] for r in records(tmp_path) if r["kind"] == "evaluation"} == {"raw"}


def test_averaging_changes_no_training(run: RunFolder, tmp_path: Path) -> None:
    train(tiny_recipe(train={"ema": None}), tmp_path, execution=EXECUTION)
    raw, other = part(run, "raw/"), part(RunFolder(tmp_path), "raw/")
    assert all(torch.equal(raw[k], other[k]) for k in raw)


def test_all_weights_are_in_one_file(run: RunFolder) -> None:
    names = set(load_arrays(run.weights))
    params = {k.removeprefix("raw/") for k in names if k.startswith("raw/")}
    assert names == (
        {f"raw/{k}" for k in params} | {f"ema/{k}" for k in params}
        | {"initial/z", "initial/y", "table"}
    )  # fmt: skip
    table = load_file(run.weights)["table"]
    assert table.shape == (1, 16)
    assert table.abs().sum() > 0


@pytest.mark.slow
def test_the_best_weights_are_chosen_by_validation(learned: RunFolder) -> None:
    found = [r for r in records(learned.path) if r["kind"] == "evaluation"]
    accuracy = [r["puzzle_accuracy"][-1] for r in found]
    top = accuracy.index(max(accuracy))
    # A real choice: the top is reached before the end, and not at once.
    assert 0 < top < len(accuracy) - 1
    best = learned.status()["best"]
    assert best == {"update": found[top]["update"], "puzzle_accuracy": accuracy[top]}
    params = torch.load(learned.best, weights_only=True)["params"]
    with np.load(learned.evaluation("best")) as stored:
        assert stored["update"] == best["update"]
        expected = evaluated(LEARNS, params, learned)
        assert np.array_equal(stored["halt_logit"], expected.halt_logit)
        assert np.array_equal(stored["solved"], expected.solved)
    with np.load(learned.evaluation("last")) as stored:
        assert stored["update"] == 80
        assert not np.array_equal(stored["halt_logit"], expected.halt_logit)


def test_the_best_weights_are_evaluated_with_their_own_table(tmp_path: Path) -> None:
    """The table goes on moving after the best evaluation, and the averaged one is another."""
    recipe = tiny_recipe(train={"ema_table": True, "table_optimizer": {"lr": 0.3}})
    train(recipe, tmp_path, execution=EXECUTION)
    folder = RunFolder(tmp_path)
    content, tensors = torch.load(folder.best, weights_only=True), load_file(folder.weights)
    tables = {
        "best": content["table"], "last": tensors["ema_table"], "raw": tensors["table"]
    }  # fmt: skip
    params = {"best": content["params"], "last": part(folder, "ema/")}
    initial = tuple(tensors[f"initial/{n}"] for n in recipe.model.layout.latents)
    data, core = build(recipe.task), Core(recipe.model, Geometry.of(recipe.task))
    assert folder.status()["best"]["update"] < 12

    def logits(which: str, table: str) -> np.ndarray:
        weights = Weights(params[which], initial, tables[table])
        return outcomes(recipe, core, weights, data.test, (1, 2, 3)).halt_logit

    for which, other in (("best", "last"), ("last", "raw")):
        with np.load(folder.evaluation(which)) as stored:
            assert np.array_equal(stored["halt_logit"], logits(which, which))
            assert not np.array_equal(stored["halt_logit"], logits(which, other))


@pytest.mark.slow
def test_a_run_learns(learned: RunFolder) -> None:
    found = [r for r in records(learned.path) if r["kind"] == "train"]
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]
    assert found[-1]["cell_accuracy"] > 0.95
    with np.load(learned.evaluation("last")) as stored:
        assert stored["solved"][:, -1].mean() > 0.6


def test_the_best_weights_are_evaluated_only_if_asked(tmp_path: Path) -> None:
    train(tiny_recipe(eval={"best": False}), tmp_path, execution=EXECUTION)
    assert not RunFolder(tmp_path).evaluation("best").exists()
    assert RunFolder(tmp_path).best.exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "float32"])
def test_activations_of_every_type_train(tmp_path: Path, dtype: str) -> None:
    train(tiny_recipe(train={"dtype": dtype}), tmp_path, execution=EXECUTION)
    wide = torch.float64 if dtype == "float64" else torch.float32
    assert {t.dtype for t in load_file(RunFolder(tmp_path).weights).values()} == {wide}
    losses = [r["loss"] for r in records(tmp_path) if r["kind"] == "train"]
    assert losses[-1] < losses[0]
    exact = {"float32": 1e-6, "bfloat16": 2e-2, "float64": 1e-6}[dtype]
    # The same run but for rounding: update 1 and 2 from equal weights.
    assert losses[0] == pytest.approx(1.9457196, rel=exact)


def test_hrm_trains_both_values_of_its_head(tmp_path: Path) -> None:
    recipe = tiny_recipe(HRM, train={"updates": 30})
    train(recipe, tmp_path, execution=EXECUTION)
    losses = [r["loss"] for r in records(tmp_path) if r["kind"] == "train"]
    assert losses[-1] < 0.75 * losses[0]
    raw = part(RunFolder(tmp_path), "raw/")
    assert (raw["head.halt.weight"].abs().sum(-1) > 0).all()
    assert abs(raw["head.halt.bias"][1].item() + 5 * decay(recipe)) > 0.01
    assert "net.1.layer.0.mixer.qkv" in raw


def decay(recipe: Recipe) -> float:
    """What weight decay alone leaves of a parameter."""
    train, updates = recipe.train, recipe.train.updates
    rates = [rate(train.schedule, u, updates) for u in range(1, updates + 1)]
    return float(
        np.prod([1 - train.optimizer.lr * r * train.optimizer.weight_decay for r in rates])
    )


def test_trm_leaves_the_value_of_going_on_untrained(run: RunFolder) -> None:
    weight, bias = (part(run, "raw/")[f"head.halt.{k}"] for k in ("weight", "bias"))
    assert weight[0].abs().sum() > 0
    assert weight[1].abs().sum() == 0
    assert bias[1].item() == pytest.approx(-5 * decay(tiny_recipe()), rel=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_with_its_metrics(tmp_path: Path) -> None:
    recipe = tiny_recipe(train={
        "optimizer": {"lr": 1e6}, "schedule": {"kind": "constant", "warmup": 0},
    })  # fmt: skip
    assert train(recipe, tmp_path, execution=EXECUTION) is State.DIVERGED
    folder = RunFolder(tmp_path)
    status = folder.status()
    assert status["state"] == "diverged"
    assert status["error"] == {"type": "Diverged", "message": "loss is nan by update 4"}
    assert status["update"] == 4
    assert status["finished_utc"] is not None
    first, last = records(tmp_path)
    assert 1 < first["loss"] < 3
    assert (last["update"], last["loss"]) == (4, None)
    assert not folder.weights.exists()
    # A result: running again does nothing.
    before = folder.status_file.read_bytes()
    assert train(recipe, tmp_path, execution=EXECUTION) is State.DIVERGED
    assert folder.status_file.read_bytes() == before


def test_poisoned_weights_diverge_at_the_next_record(tmp_path: Path) -> None:
    advance = Session.advance

    def poisoned(session: Session) -> None:
        if session.counters.update == 6:
            with torch.no_grad():
                session.weights.params["net.0.layer.0.ffn.down"][0, 0] = float("nan")
        advance(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "advance", poisoned)
        assert train(tiny_recipe(), tmp_path, execution=EXECUTION) is State.DIVERGED
    found = records(tmp_path)
    assert [r["update"] for r in found] == [2, 4, 5, 5, 6, 8]
    assert found[-1]["loss"] is None
    assert RunFolder(tmp_path).status()["best"] == {"update": 5, "puzzle_accuracy": 0.0}


def test_a_failure_is_recorded_and_raised_again(tmp_path: Path) -> None:
    def progress(record: dict[str, Any]) -> None:
        if record["update"] == 4:
            raise ValueError("the reader of records broke")

    with pytest.raises(ValueError, match="the reader of records broke") as error:
        train(tiny_recipe(), tmp_path, execution=EXECUTION, progress=progress)
    folder = RunFolder(tmp_path)
    status = folder.status()
    assert status["state"] == "failed"
    assert status["error"] == {"type": "ValueError", "message": "the reader of records broke"}
    assert status["update"] == 4
    assert [r["update"] for r in records(tmp_path)] == [2, 4]
    # The folder is free again although the error is still held.
    assert error.value is not None
    folder.lock().release()
    assert train(tiny_recipe(), tmp_path, execution=EXECUTION) is State.COMPLETED


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_a_cancelled_run(tmp_path: Path, signal: type[BaseException]) -> None:
    def progress(record: dict[str, Any]) -> None:
        raise signal("enough")

    with pytest.raises(signal):
        train(tiny_recipe(), tmp_path, execution=EXECUTION, progress=progress)
    status = RunFolder(tmp_path).status()
    assert status["state"] == "cancelled"
    assert status["error"] == {"type": signal.__name__, "message": "enough"}


def test_data_that_cannot_be_had_is_a_failed_run(tmp_path: Path) -> None:
    csv = {"kind": "sudoku_csv", "name": "x", "train_csv": "/no/a.csv", "test_csv": "/no/b.csv"}
    with pytest.raises(ConfigError, match=r"/no/a\.csv"):
        train(tiny_recipe(task=csv), tmp_path, execution=EXECUTION)
    status = RunFolder(tmp_path).status()
    assert (status["state"], status["error"]["type"]) == ("failed", "ConfigError")
    assert status["data"] is None


def test_another_recipe_in_the_folder_is_refused(run: RunFolder) -> None:
    before = run.status_file.read_bytes()
    other = tiny_recipe(model={"n": 3})
    with pytest.raises(ConfigError) as error:
        train(other, run.path, execution=EXECUTION)
    assert str(error.value) == (
        f"{run.path}: holds recipe {tiny_recipe().id[:8]} seed 0, not {other.id[:8]} seed 0; "
        "give another folder"
    )
    with pytest.raises(ConfigError, match=r"seed 0, not \w+ seed 5"):
        train(tiny_recipe().with_seed(5), run.path)
    assert run.status_file.read_bytes() == before


def test_a_busy_folder_is_refused(tmp_path: Path) -> None:
    lock = RunFolder(tmp_path).lock()
    with pytest.raises(RunBusyError, match="another process is running this run"):
        train(tiny_recipe(), tmp_path, execution=EXECUTION)
    assert RunFolder(tmp_path).status() is None
    lock.release()
    assert train(tiny_recipe(), tmp_path, execution=EXECUTION) is State.COMPLETED


def test_a_missing_accelerator_is_said(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ConfigError) as error:
        train(tiny_recipe(), tmp_path, execution=Execution(device="cuda"))
    assert str(error.value) == "device: cuda was asked for, but torch sees no CUDA device"


def test_execution_sets_threads_and_precision() -> None:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        given = Execution(device="cpu", threads=2, matmul_precision="high")
        assert prepare(given) == torch.device("cpu")
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "high"
        prepare(Execution(device="cpu"))
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
