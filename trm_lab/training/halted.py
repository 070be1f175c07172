"""Evaluates a finished run up to each puzzle's halting step, under rules it was not asked for."""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from trm_lab.accounting import account
from trm_lab.config.execution import Execution
from trm_lab.config.halting import AsTrained, Confidence, Residual, Rule, WhenHalted
from trm_lab.config.recipe import Recipe
from trm_lab.config.source import Source
from trm_lab.config.test_time import Halted, Subject
from trm_lab.config.validate import validate
from trm_lab.errors import ConfigError
from trm_lab.results.files import write_netcdf
from trm_lab.results.halting import halted_dataset
from trm_lab.training.evaluation import outcomes
from trm_lab.training.stored import stored_recipe, stored_run
from trm_lab.training.test_time import Evaluated


def evaluate_halted(
    run_dir: Path | str,
    setting: Halted,
    subject: Subject = Subject(),  # noqa: B008  # frozen
    *,
    execution: Execution | None = None,
    cache: Path | None = None,
    announce: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Evaluate a run as its recipe with `eval.policy: when_halted` would, and save it beside it.

    Outcomes of the last weights are, to the last bit, those that the run would have stored under
    that policy, as training has no part in it; the best ones are those that its own policy chose.
    The file is `evaluation/halted-<split>-<weights>-<8 hex of the setting>.nc`; equal settings
    write it anew.  `announce` is called once before the work, with the number of puzzles and the
    most FLOPs that it can take.

    Raises:
        ConfigError: no run there, no such weights, a rule that has nothing to go by, or `own`
            beside what it is.
    """
    recipe = stored_recipe(run_dir)
    recipes = [_under(recipe, rule) for rule in setting.rules]
    rules = [_told(recipe, rule) for rule in setting.rules]
    if again := [kind for i, (kind, at) in enumerate(rules) if (kind, at) in rules[:i]]:
        raise ConfigError(f"rule own: is {again[0]} in this run, which is given too; drop one")
    stored = stored_run(run_dir, subject, execution or Execution(), cache)
    puzzles, step = stored.puzzles, account(recipe).eval_flops
    if announce is not None:
        announce(len(puzzles), step * setting.steps[-1] * len(recipes) * len(puzzles))
    began = time.perf_counter()
    found = [outcomes(one, stored.core, stored.weights, puzzles, setting.steps) for one in recipes]
    attrs: dict[str, Any] = {
        "title": "Halting at test time",
        **stored.provenance(subject),
        "N_sup": recipe.supervision.N_sup,
        "step_flops": float(step),
        "seconds": time.perf_counter() - began,
    }
    facts = {name: getattr(puzzles, name) for name in ("signature", "clues", "guesses")}
    halted = halted_dataset(found, rules, step, facts, attrs)
    mark = sha256(f"{setting.model_dump_json()} {subject.limit}".encode()).hexdigest()[:8]
    name = f"halted-{subject.split}-{subject.weights}-{mark}.nc"
    path = stored.folder.path / "evaluation" / name
    write_netcdf(halted, path)
    return Evaluated(halted, path)


def _under(recipe: Recipe, rule: Rule) -> Recipe:
    """Give the recipe with another policy of evaluation, or the reason why it cannot have it."""
    fields = recipe.as_dict()
    fields["eval"]["policy"] = WhenHalted(rule=rule).model_dump(mode="json")
    return validate(Recipe, Source(fields, "eval"))


def _told(recipe: Recipe, rule: Rule) -> tuple[str, float | None]:
    """Give kind and threshold of a rule; what is `own` by its own name."""
    acts = recipe.supervision.halting if isinstance(rule, AsTrained) else rule
    return acts.kind, acts.threshold if isinstance(acts, Confidence | Residual) else None
