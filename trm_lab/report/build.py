"""Write a study's report: figures, tables as CSV, and one HTML page that needs nothing else."""

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import xarray as xr

from trm_lab.atomic import replacing, write_text
from trm_lab.plots.tables import fits, plan, planned, run_table
from trm_lab.report import figures, tables
from trm_lab.report.answer import answer
from trm_lab.results import not_in_sweep, open_results


def build(study_dir: Path, out: Path | None = None, tree: xr.DataTree | None = None) -> Path:
    """Write the report of a study and give the path of its HTML page.

    `out` is the page to write, `report/report.html` in the study's folder if not given; `figures/`
    and `tables/` stand beside it.  `tree` saves opening the results again.
    """
    tree = open_results(study_dir) if tree is None else tree
    page = study_dir / "report" / "report.html" if out is None else out
    drawn = figures.pictures(tree, fits(tree))
    for picture in drawn:
        write_csv(picture.table, page.parent / "tables" / f"{picture.stem}.csv")
    parts = {
        "cells": tables.cells(tree),
        "contrasts": tables.contrasts(tree),
        "fits": tables.fits(tree, fits(tree, stale=True)),
        "failures": tables.failures(tree),
    }
    for name, table in parts.items():
        write_csv(table.data, page.parent / "tables" / f"table_{name}.csv")
    write_csv(run_table(tree), page.parent / "tables" / "table_runs.csv")
    elsewhere = int(not_in_sweep(tree).sum())
    text = _template().render(
        title=str(tree.attrs.get("title") or tree.attrs.get("study") or study_dir.name),
        attrs=tree.attrs,
        answer=answer(tree),
        figures=[
            {"svg": figures.save(picture, page.parent / "figures"), "stem": picture.stem,
             "title": picture.title, "caption": picture.caption}
            for picture in drawn
        ],
        **parts,
        problems=str(tree.attrs.get("problems") or "").splitlines(),
        outside=tree["runs"].sizes["run"] - planned(tree)["runs"].sizes["run"] - elsewhere,
        elsewhere=elsewhere,
        commands=commands(tree),
        study_yaml=str(tree.attrs.get("study_yaml") or ""),
        sweep_yaml=str(plan(tree).get("sweep_yaml") or ""),
        provenance=provenance(tree),
    )  # fmt: skip
    write_text(page, text)
    return page


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table in full precision."""
    with replacing(path) as part:
        table.to_csv(part, index=False, lineterminator="\n")


def commands(tree: xr.DataTree) -> list[str]:
    """Give the commands that make this report again, from the texts shown beside them."""
    made = plan(tree)
    options = ["study.yaml"] + ["--on sweep.yaml"] * bool(made.get("sweep_yaml"))
    options += [f"--set {shlex.quote(setting)}" for setting in made.get("settings", [])]
    return [f"trm-lab {verb} {' '.join(options)}" for verb in ("run", "fit", "report")]


def provenance(tree: xr.DataTree) -> list[tuple[str, str]]:
    """Give what made these numbers: versions, commit, data, machines."""
    a = tree.attrs
    dirty = " with uncommitted changes" if int(a.get("git_dirty") or 0) else ""
    rows = [
        ("trm_lab", a.get("trm_lab_version")),
        ("git commit", f"{a.get('git_commit')}{dirty}" if a.get("git_commit") else ""),
        ("Python", a.get("python")),
        ("torch", a.get("torch")),
        ("hosts", a.get("hosts")),
        ("devices", _distinct(tree, "device")),
        ("CPU threads per run", _distinct(tree, "threads")),
        ("data, fingerprint", _distinct(tree, "data_fingerprint")),
        ("test puzzles, fingerprint", _fingerprints(tree)),
        ("results collected", a.get("created_utc")),
    ]
    return [(name, str(value) if value else "not recorded") for name, value in rows]


def _distinct(tree: xr.DataTree, name: str) -> str:
    runs = tree["runs"].to_dataset()
    if name not in runs:
        return ""
    values: list[Any] = [
        value
        for value in np.unique(runs[name].values)
        if not (isinstance(value, float) and np.isnan(value))
    ]
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values if v != "")


def _fingerprints(tree: xr.DataTree) -> str:
    puzzles = tree["puzzles"].to_dataset()
    if "fingerprint" not in puzzles:
        return ""
    return ", ".join(map(str, puzzles["fingerprint"].values))


def _template() -> jinja2.Template:
    text = files("trm_lab.report").joinpath("template.html").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)
