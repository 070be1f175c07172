"""The variables of results.nc as data: one table that writes the file, checks it and documents it.

Numbers that are missing are NaN, text that is missing is "".  Nothing is filled with zero: counts
of an evaluation that did not happen are 0 of 0, and `evaluated` says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from trm_lab.runs import State

SCHEMA_VERSION = 1
STATES = tuple(state.value for state in State)
"""What can become of a run; stored as the index into this tuple."""
WEIGHTS = ("last", "best")
"""Which weights were evaluated on the test puzzles: the final ones, or the best on validation."""
GROUPS = ("runs", "curves", "eval", "puzzles")
ROOT = {
    "title": str,
    "schema_version": int,
    "created_utc": str,
    "study": str,
    "question": str,
    "hypothesis": str,
    "metric": str,
    "metric_steps": int,
    "study_yaml": str,
    "sweep_yaml": str,
    "plan_json": str,
    "trm_lab_version": str,
    "git_commit": str,
    "git_dirty": int,
    "python": str,
    "torch": str,
    "hosts": str,
    "history": str,
    "problems": str,
}
"""Attributes of the root and their type; several values (hosts) are one comma-separated text."""


@dataclass(frozen=True)
class Variable:
    """One variable of the file."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    """A numpy type, or "text"."""
    long_name: str
    units: str = "1"
    """"1" for counts, fractions and text."""
    coord: bool = False
    flags: tuple[str, ...] = ()
    """Meanings of the values 0, 1, ... (CF flag_values and flag_meanings)."""
    comment: str = ""
    """What has to be known to read the values right."""

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes as written."""
        attrs: dict[str, Any] = {"long_name": self.long_name, "units": self.units}
        if self.flags:
            attrs["flag_values"] = np.arange(len(self.flags), dtype=self.dtype)
            attrs["flag_meanings"] = " ".join(self.flags)
        return attrs | ({"comment": self.comment} if self.comment else {})


_RUN = Variable("run", ("run",), "text", "Run, <cell>/seed-<k>", coord=True)
_WEIGHTS = Variable("weights", ("weights",), "text", "Evaluated weights", coord=True)
_STEP = Variable("step", ("step",), "int64", "Supervision step", coord=True)
_MOST = "of an implicit gradient the most that it can take"
_BEFORE = f"before the run: the mean over what is drawn, {_MOST}"


def _many(dims: str, dtype: str, rows: str, *, coord: bool = False) -> list[Variable]:
    """Read `name | long name | units | comment` lines; units default to "1"."""
    variables = []
    for row in rows.strip().splitlines():
        name, long_name, *rest = (part.strip() for part in row.split("|"))
        unit, comment = (*rest, *("1", "")[len(rest) :])
        variables.append(
            Variable(name, tuple(dims.split()), dtype, long_name, unit, coord, comment=comment)
        )
    return variables


VARIABLES: dict[str, tuple[Variable, ...]] = {
    "runs": (
        _RUN,
        *_many(
            "run",
            "text",
            """
            cell | Cell: readable slug and 8 hex digits of the recipe id
            recipe_id | SHA-256 of the science fields without the seed
            variant | Variant
            series | Series
            """,
            coord=True,
        ),
        *_many("run", "int64", "seed | Seed", coord=True),
        Variable("state", ("run",), "int8", "State of the run", flags=STATES),
        Variable(
            "planned",
            ("run",),
            "uint8",
            "In the plan and its sweep, or begun; every run, where there is no plan",
            flags=("no", "yes"),
        ),
        Variable("baseline", ("run",), "uint8", "Of the baseline variant", flags=("no", "yes")),
        *_many(
            "run",
            "text",
            """
            recipe | Recipe as JSON
            error | Error that ended the run
            host | Host
            device | Device
            started_utc | Start of the run, UTC
            finished_utc | End of the run, UTC
            data_fingerprint | Fingerprint of the data set
            """,
        ),
        *_many(
            "run",
            "float64",
            f"""
            attempt | Attempt
            threads | CPU threads
            params | Parameters without puzzle table
            table_params | Parameters of the puzzle table
            recurring_params | Parameters used in every update
            once_params | Parameters used once per supervision step
            effective_depth | Effective depth, layers x T x updates of a cycle | 1 | {_MOST}
            max_depth | Effective depth x N_sup | 1 | {_MOST}
            graph_updates | Latent updates with a graph
            flops_per_update | Training compute per optimiser update | FLOP | {_BEFORE}
            puzzle_accuracy | Test puzzle accuracy
            cell_accuracy | Test cell accuracy
            updates | Optimiser updates done
            examples | Training puzzles started
            flops | Training compute spent | FLOP
            seconds | Training time, wall clock | s
            cpu_seconds | Training time, CPU | s
            loss | Last training loss
            best_validation_puzzle_accuracy | Best validation puzzle accuracy (last of eval.steps)
            best_validation_update | Update of the best validation puzzle accuracy
            last_validation_puzzle_accuracy | Last validation puzzle accuracy (metric's steps)
            """,
        ),
    ),
    "curves": (
        _RUN,
        *_many("update", "int64", "update | Optimiser update", coord=True),
        *_many(
            "validation_update",
            "int64",
            "validation_update | Optimiser update of the evaluation",
            coord=True,
        ),
        *_many("validation_step", "int64", "validation_step | Supervision step", coord=True),
        *_many(
            "run update",
            "float64",
            """
            loss | Training loss
            lm_loss | Training loss of the answer
            halt_loss | Training loss of the halting head
            cell_accuracy | Training cell accuracy
            puzzle_accuracy | Training puzzle accuracy
            mean_steps | Mean supervision steps per puzzle
            lr | Learning rate
            examples | Training puzzles started
            flops | Training compute spent | FLOP
            seconds | Training time, wall clock | s
            cpu_seconds | Training time, CPU | s
            residual | Relative change of the latents in the last cycle
            iterations | Cycles that an implicit gradient's solver took
            unconverged | Share of those solves above the tolerance
            backward_unconverged | Share of the backward solves above the tolerance
            """,
        ),
        *_many(
            "run validation_update validation_step",
            "float64",
            """
            validation_puzzle_accuracy | Validation puzzle accuracy
            validation_cell_accuracy | Validation cell accuracy
            """,
        ),
        *_many(
            "run validation_update",
            "float64",
            """
            validation_examples | Training puzzles started at the evaluation
            validation_flops | Training compute spent at the evaluation | FLOP
            validation_seconds | Training time at the evaluation, wall clock | s
            validation_cpu_seconds | Training time at the evaluation, CPU | s
            """,
        ),
    ),
    "eval": (
        _RUN,
        _WEIGHTS,
        _STEP,
        *_many(
            "run weights step",
            "float64",
            """
            puzzle_accuracy | Test puzzle accuracy
            cell_accuracy | Test cell accuracy
            unconverged | Share of puzzles whose implicit solve at this step is above the tolerance
            """,
        ),
        *_many(
            "run weights step",
            "int64",
            """
            solved_count | Test puzzles solved
            puzzles | Test puzzles evaluated
            """,
        ),
        *_many(
            "run weights",
            "float64",
            """
            update | Optimiser update of the evaluated weights
            mean_steps | Mean supervision steps per puzzle; fewer than `step` under `when_halted`
            """,
        ),
        *_many("run weights", "text", "averaging | Evaluated weights: ema or raw"),
    ),
    "puzzles": (
        _RUN,
        _WEIGHTS,
        _STEP,
        *_many("test_set", "text", "fingerprint | Hash of the puzzles' signatures", coord=True),
        Variable(
            "solved",
            ("run", "weights", "puzzle", "step"),
            "uint8",
            "All cells right",
            flags=("wrong", "solved", "not_evaluated"),
        ),
        Variable("evaluated", ("run", "weights"), "uint8", "Evaluated", flags=("no", "yes")),
        *_many(
            "run weights puzzle",
            "int16",
            "halting_step | Supervision steps that the puzzle had, -1 where there is none",
        ),
        Variable(  # named like a dimension, so a coordinate for xarray
            "test_set",
            ("run",),
            "int64",
            "Index of the test set, -1 where nothing is evaluated",
            coord=True,
        ),
        *_many("test_set", "int64", "test_set_size | Puzzles of the test set; the rest is padding"),
        *_many(
            "test_set puzzle",
            "float64",
            """
            clues | Given cells
            guesses | Guesses a backtracking solver needs
            rating | Difficulty rating of the source
            """,
        ),
        *_many("test_set puzzle", "uint64", "signature | Hash of the puzzle"),
    ),
}
"""Every variable by group; /runs also has one per setting of the recipes (`recipe_variable`)."""


def recipe_variable(path: str, values: npt.NDArray[Any]) -> xr.Variable:
    """Give the column of one recipe setting, named by its dotted path."""
    attrs = {"long_name": f"Recipe setting {path}", "units": "1", "source": "recipe"}
    return xr.Variable(("run",), values, attrs)


def build(
    group: str, data: Mapping[str, Any], extra: Mapping[str, xr.Variable] | None = None
) -> xr.Dataset:
    """Assemble one group; `data` has exactly the variables of the schema."""
    assert set(data) == {v.name for v in VARIABLES[group]}, set(data)
    made = {
        v.name: xr.Variable(
            v.dims, np.asarray(data[v.name], dtype=str if v.dtype == "text" else v.dtype), v.attrs
        )
        for v in VARIABLES[group]
    }
    coords = {v.name: made.pop(v.name) for v in VARIABLES[group] if v.coord}
    return xr.Dataset({**made, **(extra or {})}, coords=coords)


def table() -> str:
    """Give the schema as Markdown, one table per group; docs/results.md holds this text."""
    parts = []
    for group in GROUPS:
        lines = [f"#### /{group}", "", "| name | dims | type | units | meaning |"]
        lines += ["|---|---|---|---|---|"]
        for v in VARIABLES[group]:
            role = "coordinate: " if v.coord else ""
            flags = ": " + ", ".join(f"{i} {f}" for i, f in enumerate(v.flags)) if v.flags else ""
            comment = f"; {v.comment}" if v.comment else ""
            meaning = f"{role}{v.long_name}{flags}{comment}"
            lines.append(
                f"| `{v.name}` | {', '.join(v.dims)} | {v.dtype} | {v.units} | {meaning} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
