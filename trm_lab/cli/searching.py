"""The verb that looks at a search: importance."""

from pathlib import Path

from trm_lab.cli import output
from trm_lab.cli.planning import root_of
from trm_lab.cli.steering import RUNS, Json, On, Place, Runs, Set


def importance(
    study: Place,
    on: On = None,
    set_: Set = None,
    runs: Runs = RUNS,
    json: Json = False,
) -> None:
    """Say how much of a search's outcome each parameter explains; no test of anything."""
    from trm_lab.study.importance import importances

    root: Path = root_of(study, on, set_ or [], runs)
    rows, remarks = importances(root)
    if json:
        output.as_json({"importance": rows, "remarks": remarks})
        return
    output.table(f"{root}: importance on validation puzzles", rows)
    for remark in remarks:
        output.say(f"remark: {remark}")
    if rows:
        output.say("shares of an arm's parameters add up to 1 by each evaluator; their scales "
                   "differ, and none is a test")  # fmt: skip
        if "fANOVA" not in rows[0]:
            output.say("fANOVA needs scikit-learn: pip install 'trm-lab[importance]'")
