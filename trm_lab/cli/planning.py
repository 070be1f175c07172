"""From the paths on the command line to a plan, and to the folder of its results."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from trm_lab.cli.output import announce
from trm_lab.errors import ConfigError
from trm_lab.paths import RESULTS, expect, kind_of, missing

if TYPE_CHECKING:
    from trm_lab.study.plan import Plan


def plan_of(
    study: Path, on: Path | None, settings: list[str], runs: Path, yes_really: bool = False
) -> "Plan":
    """Plan a study file on a sweep file; `yes_really` takes any number of cells."""
    from trm_lab.config.source import read_yaml
    from trm_lab.paths import STUDY, SWEEP
    from trm_lab.study.combinations import MOST_CELLS
    from trm_lab.study.plan import load_sweep, make_plan

    expect(study, STUDY)
    if on is not None:
        expect(on, SWEEP)
    source = read_yaml(study)
    sweep = None if on is None else load_sweep(on)
    most = None if yes_really else MOST_CELLS
    return make_plan(source, sweep=sweep, settings=tuple(settings), runs=runs, most=most)


def root_of(study: Path, on: Path | None, settings: list[str], runs: Path) -> Path:
    """Give the folder of results that a study file, the folder or its results.nc stands for."""
    if study.name == "results.nc" and study.is_file():
        study = study.parent
    if study.is_dir():
        if on is not None or settings:
            raise ConfigError(f"{study}: is a folder of results; --on and --set go with a study")
        expect(study, RESULTS)
        return study
    if study.suffix not in (".yaml", ".yml") and not study.exists():
        what = "study file or folder of results"
        raise missing(study, what, "`trm-lab run STUDY` makes the folder")
    plan = plan_of(study, on, settings, runs)
    root = plan.root
    if not root.exists():
        options = ["--on", str(on)] if on is not None else []
        options += [word for setting in settings for word in ("--set", setting)]
        options += ["--runs", str(runs)] if runs != Path("runs") else []
        made = shlex.join(["trm-lab", "run", str(study), *options])
        raise ConfigError(f"{root}: no results yet; `{made}` makes them{_others(plan)}")
    planned = root / "study.yaml"
    if planned.is_file() and planned.read_text(encoding="utf-8") != plan.matrix.text:
        announce(f"{study}: is not what was run, {planned}, which is what follows; `trm-lab plan` "
                 "tells of the new one, `trm-lab run` takes it")  # fmt: skip
    return root


def _others(plan: "Plan") -> str:
    """Name the folders of results that the study has with other settings."""
    name = plan.matrix.study.name
    there = [path for path in sorted(plan.root.parent.glob(f"{name}*"))
             if path.name.partition("-")[0] == name and kind_of(path) == RESULTS]  # fmt: skip
    found = f"; there are results with another --on or --set: {', '.join(map(str, there))}"
    return found * bool(there)
