"""A study so small that all of it runs: 4x4 Sudoku, width 16, two cells, two seeds."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors.numpy import load_file

from trm_lab.config.execution import Execution, InProcess, Local, Sweep
from trm_lab.config.source import Source, parse_yaml
from trm_lab.study.plan import Plan, Run, make_plan

STUDY = """\
name: tiny
question: Does a second latent update help?
hypothesis: It does.
base:
  task: {kind: sudoku, size: 4, clues: 8, train: 32, validation: 8, test: 12}
  model: {layers: 1, width: 16, round_to: 8, mixer: token_mlp, positions: none, puzzle: null, n: 1,
          T: 1}
  supervision: {N_sup: 2, loss: {kind: stablemax, dtype: float32}}
  train:
    updates: 4
    batch: 8
    optimizer: {kind: adam_atan2, lr: 1e-2}
    schedule: {kind: constant, warmup: 1}
    ema: 0.5
    dtype: float32
  eval: {every: 2, steps: [2], final_steps: [1, 2]}
variants:
  - {name: shallow, series: TRM}
  - {name: deep, series: TRM, set: {model.n: 2}}
seeds: [0, 1]
metric: {name: puzzle_accuracy, steps: 2}
contrasts:
  - {name: depth, title: Latent updates, baseline: shallow, against: [deep]}
"""  # fmt: skip
SHALLOW, DEEP = "shallow-94dcb425", "deep-99e168d3"
"""The cells' folders."""
ORDER = (f"{DEEP}/seed-0", f"{DEEP}/seed-1", f"{SHALLOW}/seed-0", f"{SHALLOW}/seed-1")
"""The runs in the order in which a driver starts them: costly ones first."""

LESS = (
    ("  - {name: deep, series: TRM, set: {model.n: 2}}\n", ""),
    ("contrasts:\n  - {name: depth, title: Latent updates, baseline: shallow, against: [deep]}\n",
     ""),
)  # fmt: skip
"""Takes the deep cell out of the study."""

EXECUTION = Execution(device="cpu", threads=1, log_every=1)
HERE = Sweep(name="here", executor=InProcess(), execution=EXECUTION)


def local(workers: int) -> Sweep:
    """Give a sweep on processes of this machine."""
    return Sweep(name="local", executor=Local(workers=workers), execution=EXECUTION)


def study(*replacements: tuple[str, str]) -> Source:
    """Give the study with parts of its text replaced."""
    return parse_yaml(written(*replacements), "tiny.yaml")


def written(*replacements: tuple[str, str]) -> str:
    """Give the study's text with parts of it replaced."""
    text = STUDY
    for old, new in replacements:
        assert old in text, f"{old!r} is not in the study"
        text = text.replace(old, new, 1)
    return text


def planned(runs: Path, *replacements: tuple[str, str], sweep: Sweep = HERE) -> Plan:
    """Plan the study."""
    return make_plan(study(*replacements), sweep=sweep, runs=runs)


def runs_by_key(plan: Plan) -> dict[str, Run]:
    """Give the runs by their folders below the study's."""
    return {run.key: run for run in plan.runs()}


def trials(root: Path) -> list[optuna.trial.FrozenTrial]:
    """Read the journal as any user of Optuna would."""
    storage = JournalStorage(JournalFileBackend(str(root / "optuna.journal")))
    return optuna.load_study(study_name="tiny", storage=storage).get_trials()


def statuses(root: Path) -> dict[str, dict[str, Any]]:
    """Read every status.json, by the run's key."""
    return {
        f"{path.parent.parent.name}/{path.parent.name}": json.loads(path.read_text())
        for path in sorted(root.glob("*/seed-*/status.json"))
    }


def states(root: Path) -> dict[str, str]:
    """Read every recorded state."""
    return {key: status["state"] for key, status in statuses(root).items()}


def results(root: Path) -> dict[str, Any]:
    """Give what runs computed, as text and bytes: weights, records without times, outcomes."""
    found: dict[str, Any] = {}
    for folder in sorted(root.glob("*/seed-*")):
        key = f"{folder.parent.name}/{folder.name}"
        weights = load_file(folder / "weights.safetensors")
        found[key, "weights"] = {k: v.tobytes() for k, v in weights.items()}
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        found[key, "records"] = [_timeless(record) for record in records]
        found[key, "outcomes"] = (folder / "evaluation" / "last.npz").read_bytes()
    return found


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("seconds", "cpu_seconds")}


def write_files(folder: Path, *replacements: tuple[str, str], sweep: Sweep = HERE) -> list[str]:
    """Write study and sweep files and give the arguments that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(written(*replacements))
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep.model_dump(mode="json")))
    return [str(folder / "tiny.yaml"), "--on", str(folder / "sweep.yaml")]


def snapshot(paths: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Give time of change and size of every file."""
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in paths if p.is_file()}
