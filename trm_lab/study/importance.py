"""How much of a search's outcome each parameter explains, arm by arm.

Evaluators differ in what they ask and in scale, and none is a test: PED-ANOVA asks what tells the
best trials from the others, fANOVA what share of the variance a parameter has.
"""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
)
from optuna.trial import FrozenTrial, TrialState

from trm_lab.config.search import SMALLER
from trm_lab.config.source import read_yaml
from trm_lab.errors import ConfigError
from trm_lab.study.storage import JOURNAL, opened

FEWEST = 10
"""Complete trials below which nothing is said."""


def importances(root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Give a row per arm, objective and parameter of a study's folder, and remarks.

    Every evaluator has a column: shares that add up to 1 over an arm's parameters.

    Raises:
        ConfigError: the folder is of no search, or its storage cannot be had.
    """
    plan = _plan(root)
    setting = read_yaml(root / "sweep.yaml").data.get("storage")
    if setting is None and not (root / JOURNAL).exists():
        raise ConfigError(f"{root / JOURNAL}: no such file; `trm-lab run STUDY` writes it")
    rows: list[dict[str, Any]] = []
    remarks: list[str] = []
    with opened(setting, root) as storage:
        for arm in plan["search"]:
            study = optuna.load_study(storage=storage, study_name=arm["optuna"])
            for index, name in enumerate(plan["objectives"]):
                found, why = _rows(study, index, name)
                rows += [{"arm": arm["variant"], "objective": name} | row for row in found]
                remarks += [f"{arm['variant']}, {name}: {why}"] if why else []
    return rows, remarks


def _rows(study: optuna.Study, index: int, name: str) -> tuple[list[dict[str, Any]], str]:
    """Give a row per parameter, or why there is none."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = {trial.values[index] for trial in done}
    if len(done) < FEWEST or len(values) == 1:
        why = "all have one value" if len(values) == 1 else f"{FEWEST} are the least"
        return [], f"{len(done)} complete trials, and {why}"
    shares = _shares(study, index, name)
    return [
        {"parameter": parameter, "trials": len(done)}
        | {which: found[parameter] for which, found in shares.items()}
        for parameter in next(iter(shares.values()))
    ], ""


def _shares(study: optuna.Study, index: int, name: str) -> dict[str, dict[str, float]]:
    """Give the share of every parameter by evaluator."""
    # PED-ANOVA takes a target to be the better the less it is.
    sign = 1.0 if name in SMALLER else -1.0

    def target(trial: FrozenTrial) -> float:
        return sign * float(trial.values[index])

    evaluators: dict[str, BaseImportanceEvaluator] = {"PED-ANOVA": PedAnovaImportanceEvaluator()}
    if find_spec("sklearn") is not None:
        evaluators["fANOVA"] = FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few trials, which we say ourselves
        return {
            which: optuna.importance.get_param_importances(
                study, evaluator=evaluator, target=target
            )
            for which, evaluator in evaluators.items()
        }


def _plan(root: Path) -> dict[str, Any]:
    try:
        plan = json.loads((root / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{root / 'plan.json'}: cannot be read: {error}") from None
    if not plan.get("search"):
        raise ConfigError(f"{root}: is no search; importance is of the parameters of one")
    return dict(plan)
