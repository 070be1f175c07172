"""What is known of a search before it goes on: the most runs it has left, a pruner without effect.

Torch-free and Optuna-free.
"""

from collections import Counter

from trm_lab.config.execution import Sweep
from trm_lab.config.search import Search
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder
from trm_lab.study.overview import read_plan
from trm_lab.study.plan import Plan
from trm_lab.study.trials import trial_files


def most_runs(search: Search, seeds: int) -> int:
    """Give the most runs of an arm: its trials, and its winners on so many seeds."""
    return search.trials + min(search.confirm.top, search.trials) * seeds


def runs_ahead(plan: Plan) -> dict[str, int]:
    """Give the most runs that each arm of a search has yet to do, by its folder's name.

    What an earlier drive did counts if the study is the same; what it asked beyond runs is in the
    storage alone.
    """
    search = plan.study.search
    assert search is not None
    try:
        made = read_plan(plan.root)
    except ConfigError:
        made = {}
    same = (made.get("study_yaml"), made.get("settings")) == (plan.matrix.text, [*plan.settings])
    known = {arm["variant"]: arm for arm in made["search"]} if same else {}
    ended: dict[str, Counter[bool]] = {}
    for folder, told in trial_files(plan.root) if same else ():
        for name in {entry["search"] for entry in told["trials"]}:
            ended.setdefault(name, Counter())[RunFolder(folder).state().final] += 1
    found = {}
    for arm in plan.taken:
        told = known.get(arm.variant, {})
        runs = ended.get(told.get("optuna", ""), Counter())
        if "spent" not in told:
            found[arm.name] = most_runs(search, len(plan.seeds)) - runs[True]
            continue
        cells = [plan.root / winner["cell"] for winner in told["winners"]]
        folders = [RunFolder(cell / f"seed-{seed}") for cell in cells for seed in plan.seeds]
        found[arm.name] = runs[False] + sum(not folder.state().final for folder in folders)
    return found


def unpruned(search: Search | None, sweep: Sweep) -> list[str]:
    """Say of a pruner that it will not act: a run of this process is heard of when it is over."""
    if search is None or search.pruner == "none" or sweep.executor.kind != "in_process":
        return []
    return [f"search.pruner {search.pruner}: prunes nothing where the sweep's executor is "
            "in_process, as a run is heard of when it is over"]  # fmt: skip
