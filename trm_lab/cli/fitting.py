"""`trm-lab fit`: the laws that a study asks for, or one law on any table."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trm_lab.cli import output
from trm_lab.cli.planning import root_of
from trm_lab.errors import ConfigError, near_path
from trm_lab.formatting import between

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import xarray as xr

    from trm_lab.fit.describe import Rounded


_TABLES = (".csv", ".tsv", ".nc")
_STUDIES = (".yaml", ".yml")
_SETTINGS = (
    "objective", "delta", "residuals", "weights", "by", "share", "interval", "draws", "level",
    "seed",
)  # fmt: skip
"""Options that go to `trm_lab.fit.fit` as they are, where they are given."""
RESULTS = "results.nc"


@dataclass(frozen=True)
class Asked:
    """One law asked for on the command line; what is not given is None or empty."""

    law: str | None
    x: str | None
    y: str | None
    cluster: tuple[str, ...]
    objective: str | None
    delta: float | None
    residuals: str | None
    weights: str | None
    by: str | None
    share: tuple[str, ...]
    interval: str | None
    draws: int | None
    level: float | None
    seed: int | None
    out: Path | None
    where: tuple[str, ...] = ()
    """Rows to take, COLUMN=VALUE."""


def fit(
    place: Path, on: Path | None, settings: list[str], runs: Path, asked: Asked, *,
    describe: bool, json: bool,
) -> None:  # fmt: skip
    """Fit and save the laws of a study, or the one that is asked for."""
    table = _is_table(place)
    if table and (on is not None or settings or runs != Path("runs")):
        raise ConfigError(f"{place}: is a table; --on, --set and --runs go with a study")
    if asked.law is None:
        _refuse_rest(asked)
        if table:
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
        output.as_json([_brief(one) for one in made])
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


def _brief(made: "xr.Dataset") -> dict[str, Any]:
    """Give what a fit says of its parameters: draws, starts, rows and curve are in its file."""
    return made.drop_dims(["draw", "start", "row", "grid"], errors="ignore").to_dict(data="list")


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
    given = [one.name for one in fields(asked) if getattr(asked, one.name) not in (None, ())]
    if given:
        raise ConfigError(f"--{given[0]}: without --law the laws of the study's file are fitted")


def _one(
    place: Path, on: Path | None, settings: list[str], runs: Path, asked: Asked
) -> tuple["xr.Dataset", Path, bool]:
    """Fit one law to a table or a study's completed runs, save it, and say if a file was there."""
    import warnings

    from trm_lab.fit import ClusterWarning
    from trm_lab.fit import fit as fit_law
    from trm_lab.laws import law as law_named
    from trm_lab.results.files import write_netcdf

    text = str(asked.law)
    if asked.x and not text.strip().isidentifier():
        raise ConfigError(f"--x: goes with a law's plain name; {text!r} names its own columns")
    law = law_named(text, asked.x)
    if not asked.y:
        raise ConfigError("--y: name the column to fit, or two of them for counts: --y solved,of")
    y = tuple(asked.y.split(","))
    if len(y) > 2:
        raise ConfigError(f"--y: {asked.y!r} names {len(y)} columns; give one, or two for counts")
    name = asked.out.stem if asked.out else law.name
    about = {}
    if _is_table(place):
        path = asked.out or place.with_name(f"{place.stem}.{name}.nc")
        frame = _read(place)
        kept, note = _where(frame, asked.where)
        about["data_hash"] = _hash(place)
    else:
        root = root_of(place, on, settings, runs)
        path = asked.out or root / "fits" / f"{name}.nc"
        frame, kept, note, about = _of_study(root, (*law.columns_read, *y), asked.where)
    _expect_room(path, place)
    cluster: Any = list(asked.cluster) if len(asked.cluster) > 1 else (*asked.cluster, None)[0]
    given = {key: getattr(asked, key) for key in _SETTINGS}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ClusterWarning)
        made = fit_law(
            frame[kept], y[0] if len(y) == 1 else (y[0], y[1]), law, cluster=cluster, name=name,
            **{key: value for key, value in given.items() if value not in (None, ())},
        )  # fmt: skip
    messages = [
        m.for_cli() if isinstance(m := one.message, ClusterWarning) else str(m) for one in told
    ]
    notes = [made.attrs["note"], note, *messages]
    made.attrs |= {**about, "note": "; ".join(filter(None, notes))}
    if not bool(made["coefficients"].notnull().any()):
        raise ConfigError(f"{place}: {made.attrs['note']}; nothing is saved")
    there = path.exists()
    write_netcdf(made, path)
    return made, path, there


def _expect_room(path: Path, place: Path) -> None:
    """Refuse to write a fit over anything but an older fit."""
    import xarray as xr

    from trm_lab.fit.saved import expect_fit
    from trm_lab.results.files import ENGINE

    if path.suffix != ".nc":
        raise ConfigError(f"--out: {path} is not a .nc file")
    if not path.exists():
        return
    if place.exists() and path.samefile(place):
        raise ConfigError(f"--out: {path} is what is fitted; give another file")
    try:
        with xr.open_dataset(path, engine=ENGINE) as there:
            expect_fit(there)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: is there and no fit that may be replaced ({error}); give another file, --out"
        ) from None


def _where(frame: "pd.DataFrame", asked: tuple[str, ...]) -> tuple["npt.NDArray[np.bool_]", str]:
    """Say which rows have all these values, [row], and what is left out.

    Numbers are compared as numbers, everything else as text.
    """
    import numpy as np

    from trm_lab.fit.data import column, near

    kept = np.ones(len(frame), dtype=np.bool_)
    for one in asked:
        name, equals, value = (part.strip() for part in one.partition("="))
        if not (name and equals):
            raise ConfigError(f"--where: {one!r} is not COLUMN=VALUE")
        values = column(frame, name, "--where")
        here = _same(values, value).to_numpy()
        if not here.any():
            known = dict.fromkeys(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
            raise ConfigError(f"--where: no row has {name} {value!r}{near(value, known)}")
        kept &= here
        if not kept.any():
            raise ConfigError(f"--where: no row has all of {', '.join(asked)}")
    left = int((~kept).sum())
    return kept, f"left out: {left} of {len(frame)} rows, not {', '.join(asked)}" * bool(left)


def _same(values: "pd.Series[Any]", value: str) -> "pd.Series[bool]":
    """Say of every value whether it is the one that was written."""
    if values.dtype.kind in "iuf":
        try:
            return values == float(value)
        except ValueError:
            return values.isin([])
    return values.astype(str).str.lower() == value.lower()


def _is_table(place: Path) -> bool:
    """Whether a path is a table, by its suffix; one that is neither that nor a study is refused."""
    known = place.suffix.lower() in (*_TABLES, *_STUDIES)
    if place.is_file() and not known:
        raise ConfigError(
            f"{place}: is neither a study (.yaml) nor a table; save the table as .csv, with "
            "commas, as .tsv, with tabs, or as .nc"
        )
    return place.suffix.lower() in _TABLES and place.name != RESULTS


def _read(path: Path) -> "pd.DataFrame":
    """Read a table: CSV, or the variables of a netCDF file."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file{near_path(path)}")
    if path.suffix.lower() != ".nc":
        return _read_text(path)
    from trm_lab.fit.data import table
    from trm_lab.results.files import read_netcdf

    try:
        tree = read_netcdf(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable netCDF file ({error})") from None
    if "runs" in tree.children:
        raise ConfigError(f"{path}: is a file of results; give its folder, or name it {RESULTS}")
    return table(tree.to_dataset())


def _read_text(path: Path) -> "pd.DataFrame":
    """Read CSV or TSV; columns have the names of the header as they stand, a name twice too."""
    import warnings

    import numpy as np
    import pandas as pd

    sep = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Left to itself pandas takes the first column of longer rows for their names.
            frame = pd.read_csv(path, sep=sep, index_col=False)
        head = pd.read_csv(path, sep=sep, header=None, nrows=1, dtype=str, na_filter=False)
    except pd.errors.ParserWarning:
        raise ConfigError(
            f"{path}: rows have more fields than the header; name every column, or take out what "
            "is too many"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as CSV UTF-8") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read as a table: {error}") from None
    frame.columns = pd.Index(np.where(head.iloc[0] == "", frame.columns, head.iloc[0]))
    first = str(frame.columns[0])
    if len(frame.columns) == 1 and (other := [one for one in ";\t,|" if one in first]):
        raise ConfigError(
            f"{path}: columns are separated by {other[0]!r}; save it as .csv, with commas and "
            "decimal points, or as .tsv, with tabs"
        )
    return frame


def _of_study(
    root: Path, columns: tuple[str, ...], where: tuple[str, ...]
) -> tuple["pd.DataFrame", "npt.NDArray[np.bool_]", str, dict[str, str]]:
    """Give a study's runs, which of them are fitted [run], what was left out, and of which data."""
    from trm_lab.fit.data import column
    from trm_lab.fit.study import usable_runs
    from trm_lab.results import data_hash, frame, open_results

    tree = open_results(root)
    rows = frame(tree)
    for name in columns:
        column(rows.select_dtypes("number"), name, "fit")
    kept, note = _where(rows, where)
    used, left_out = usable_runs(tree, columns, kept)
    about = {"data_hash": data_hash(tree), "study": root.name}
    return rows, used, "; ".join(filter(None, [note, left_out])), about


def _hash(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
