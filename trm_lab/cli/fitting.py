"""`trm-lab fit`: the laws that a study asks for, or one law on any table."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.cli import output
from trm_lab.cli.planning import root_of
from trm_lab.errors import ConfigError, near_path
from trm_lab.formatting import between

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from trm_lab.fit.describe import Rounded


_TABLES = (".csv", ".tsv", ".nc")
RESULTS = "results.nc"


@dataclass(frozen=True)
class Asked:
    """One law asked for on the command line."""

    law: str | None
    x: str | None
    y: str | None
    cluster: tuple[str, ...]
    objective: str | None
    delta: float
    residuals: str | None
    weights: str | None
    by: str | None
    share: tuple[str, ...]
    interval: str
    draws: int
    level: float
    seed: int
    out: Path | None
    where: tuple[str, ...] = ()
    """Rows to take, COLUMN=VALUE."""


def fit(
    place: Path, on: Path | None, settings: list[str], runs: Path, asked: Asked, *,
    describe: bool, json: bool,
) -> None:  # fmt: skip
    """Fit and save the laws of a study, or the one that is asked for."""
    if asked.law is None:
        _refuse_rest(asked)
        if _is_table(place):
            raise ConfigError(f"{place}: a table needs --law, --y and mostly --cluster")
        replaced = False
        root = root_of(place, on, settings, runs)
        made = fit_all(root)
        if not made and not json:
            output.say(f"{root}: the study asks for no fit; `--law` and `--y` fit one")
        files: dict[str, Path] = {}
    else:
        one, path, replaced = _one(place, on, settings, runs, asked)
        made, files = [one], {str(one.attrs["name"]): path}
    if json:
        output.as_json([one.to_dict(data="list") for one in made])
        return
    for one in made:
        show(one)
        if str(one.attrs["name"]) in files:
            verb = "replaced" if replaced else "saved"
            output.say(f"{verb}: {files[str(one.attrs['name'])]}")
        if describe:
            from trm_lab.fit import describe as told

            output.say(told(one))


def fit_all(root: Path) -> list["xr.Dataset"]:
    """Fit and save every law that a study asks for."""
    from trm_lab.fit import fit_specs, fit_study, save_fit
    from trm_lab.results import open_results

    tree = open_results(root)
    fits = [fit_study(tree, spec) for spec in fit_specs(tree)]
    for made in fits:
        save_fit(made, root)
    return fits


def show(made: "xr.Dataset") -> None:
    """Print a fit's parameters, and what is to be said of them."""
    from trm_lab.fit.describe import fit_error, rounded, unit

    attrs = made.attrs
    rows = [
        {
            "parameter": one.name,
            "estimate": one.value or 0,
            f"{100 * attrs['level']:g} % interval": "held" if one.held else _between(one),
        }
        for one in rounded(made)
    ]
    output.table(f"{attrs['name']}: {attrs['formula']}", rows)
    size = (
        f"{attrs['n_points']} {unit(made)} in {attrs['n_clusters']} clusters ({attrs['cluster']})"
    )
    interval = "no interval" if attrs["interval"] == "none" else attrs["interval"]
    about = [attrs["status"].replace("_", " "), size, interval]
    about += ["descriptive"] * attrs["descriptive"]
    output.say(f"{attrs['name']}: {'; '.join(about)}")
    if attrs.get("note"):
        output.say(f"  {attrs['note']}")
    if attrs["rmse"] == attrs["rmse"]:
        output.say(f"  {fit_error(made)}; to compare laws: `backtest` in Python, docs/laws.md")


def _between(one: "Rounded") -> str:
    """Write an interval, whose lower end may be nothing but 0."""
    text = between(one.lower, one.upper)
    return f"[0, {text.partition(', ')[2]}" if one.lower == 0 else text


def _refuse_rest(asked: Asked) -> None:
    given = [
        name
        for name, value in (
            ("--x", asked.x), ("--y", asked.y), ("--cluster", asked.cluster),
            ("--objective", asked.objective), ("--weights", asked.weights), ("--by", asked.by),
            ("--share", asked.share), ("--residuals", asked.residuals), ("--out", asked.out),
            ("--where", asked.where),
        )
        if value
    ]  # fmt: skip
    if given:
        raise ConfigError(f"{given[0]}: without --law the laws of the study's file are fitted")


def _one(
    place: Path, on: Path | None, settings: list[str], runs: Path, asked: Asked
) -> tuple["xr.Dataset", Path, bool]:
    """Fit one law to a table or a study's completed runs, save it, and say if a file was there."""
    import warnings

    from trm_lab.fit import ClusterWarning, save_fit
    from trm_lab.fit import fit as fit_law
    from trm_lab.laws import law as law_named
    from trm_lab.results.files import write_netcdf

    if not asked.y:
        raise ConfigError("--y: name the column to fit, or two of them for counts: --y solved,of")
    table = _is_table(place)
    root, data_hash, note, study = place.parent, "", "", ""
    if table:
        frame = _read(place)
    else:
        frame, root, data_hash, note = _study(root_of(place, on, settings, runs))
        study = root.name
    frame, left = _where(frame, asked.where)
    note = "; ".join(filter(None, [note, left]))
    law = law_named(str(asked.law), asked.x)
    name = asked.out.stem if asked.out else law.name
    y = tuple(asked.y.split(","))
    if len(y) > 2:
        raise ConfigError(f"--y: {asked.y!r} names {len(y)} columns; give one, or two for counts")
    cluster: Any = list(asked.cluster) if len(asked.cluster) > 1 else (*asked.cluster, None)[0]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ClusterWarning)
        made = fit_law(
            frame, y[0] if len(y) == 1 else (y[0], y[1]), law, cluster=cluster,
            objective=asked.objective, delta=asked.delta, residuals=asked.residuals,  # type: ignore[arg-type]
            weights=asked.weights, by=asked.by, share=asked.share, interval=asked.interval,
            draws=asked.draws, level=asked.level, seed=asked.seed, name=name,
        )  # fmt: skip
    for one in told:
        note = "; ".join(filter(None, [note, str(one.message)]))
    made.attrs["note"] = "; ".join(filter(None, [made.attrs["note"], note]))
    made.attrs["data_hash"] = data_hash or _hash(place)
    if study:
        made.attrs["study"] = study
    if asked.out is None and not table:
        there = (root / "fits" / f"{name}.nc").exists()
        return made, save_fit(made, root), there
    path = asked.out or place.with_name(f"{place.stem}.{name}.nc")
    if path.suffix != ".nc":
        raise ConfigError(f"--out: {path} is not a .nc file")
    there = path.exists()
    write_netcdf(made, path)
    return made, path, there


def _where(frame: "pd.DataFrame", asked: tuple[str, ...]) -> tuple["pd.DataFrame", str]:
    """Give the rows that have all these values, and what was left out.

    Numbers are compared as numbers, everything else as text.
    """
    from trm_lab.fit.data import column, near

    kept = frame
    for one in asked:
        name, equals, value = (part.strip() for part in one.partition("="))
        if not (name and equals):
            raise ConfigError(f"--where: {one!r} is not COLUMN=VALUE")
        values = column(frame, name, "--where")
        here = _same(values, value)
        if not here.any():
            known = dict.fromkeys(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
            raise ConfigError(f"--where: no row has {name} {value!r}{near(value, known)}")
        kept = kept[here[kept.index]]
        if not len(kept):
            raise ConfigError(f"--where: no row has all of {', '.join(asked)}")
    left = len(frame) - len(kept)
    note = f"left out: {left} of {len(frame)} rows, not {', '.join(asked)}" * bool(asked)
    return kept.reset_index(drop=True), note


def _same(values: "pd.Series[Any]", value: str) -> "pd.Series[bool]":
    """Say of every value whether it is the one that was written."""
    if values.dtype.kind in "iuf":
        try:
            return values == float(value)
        except ValueError:
            return values.isin([])
    return values.astype(str).str.lower() == value.lower()


def _is_table(place: Path) -> bool:
    return place.suffix.lower() in _TABLES and place.name != RESULTS


def _read(path: Path) -> "pd.DataFrame":
    """Read a table: CSV, or the variables of a netCDF file; results.nc gives its completed runs."""
    import pandas as pd

    if not path.is_file():
        raise ConfigError(f"{path}: no such file{near_path(path)}")
    if path.suffix.lower() != ".nc":
        try:
            return pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
        except (ValueError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as a table: {error}") from None
    import xarray as xr

    from trm_lab.fit.data import table
    from trm_lab.results.files import ENGINE

    try:
        with xr.open_datatree(path, engine=ENGINE) as opened:
            tree = opened.load()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable netCDF file ({error})") from None
    if "runs" in tree.children:
        return _study(path.parent)[0]
    return table(tree.to_dataset())


def _study(root: Path) -> tuple["pd.DataFrame", Path, str, str]:
    """Give a study's completed runs, its folder, the hash of its data, and what was left out."""
    from trm_lab.results import data_hash, frame, open_results

    tree = open_results(root)
    rows = frame(tree)
    done = rows[rows["state"] == "completed"]
    left = len(rows) - len(done)
    note = f"left out: {left} of {len(rows)} runs, which are not completed" * bool(left)
    return done.reset_index(drop=True), root, data_hash(tree), note


def _hash(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
