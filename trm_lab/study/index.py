"""The index of a study: its trials in Optuna, opened and brought in line with run folders.

They are the truth, so that the index can be made again from them at any time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trm_lab.errors import ConfigError
from trm_lab.study.agenda import Agenda, MatrixAgenda
from trm_lab.study.driver_lock import sole_driver
from trm_lab.study.journal import Journal
from trm_lab.study.overview import last_sweep, read_plan
from trm_lab.study.plan import Plan, Run
from trm_lab.study.search import SearchAgenda
from trm_lab.study.storage import opened, study_name

Say = Callable[[str], None]
"""Takes a remark about the study as a whole."""


@contextmanager
def agenda_of(plan: Plan, only: str | None, runs: list[Run], say: Say) -> Iterator[Agenda]:
    """Open the plan's storage, and give what is to be done."""
    name = study_name(plan.sweep.storage, plan.root, plan.study.name)
    with opened(plan.sweep.storage, plan.root, say) as storage:
        if plan.arms:
            yield SearchAgenda(plan, only, storage, name, say)
        else:
            yield MatrixAgenda(plan, runs, Journal(storage, name))


def reindex(plan: Plan, say: Say) -> None:
    """Mend a study's storage and bring it in line with the run folders, running nothing.

    A plan that cannot be read is written anew; any other is left, as it may be of another sweep.

    Raises:
        ConfigError: a driver works on the study, or the storage cannot be had.
    """
    runs = list(plan.runs())
    plan_torn = _plan_torn(plan)
    with sole_driver(plan.root, drives=False), agenda_of(plan, None, runs, say) as agenda:
        agenda.begin(again=False)
        if plan_torn:
            if not plan.arms:  # a search has written its own, with the winners
                plan.write()
            say(f"{plan.root}: the plan could not be read, and is written anew")


def _plan_torn(plan: Plan) -> bool:
    try:
        read_plan(plan.root)
        last_sweep(plan.root)
    except ConfigError:
        return True
    return False
