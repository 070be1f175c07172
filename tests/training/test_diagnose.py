"""Diagnosing a run folder: the file, its labels, the command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from tests.training.tiny_run import EXECUTION, tiny_recipe
from trm_lab.cli.app import app
from trm_lab.config.test_time import Subject
from trm_lab.errors import ConfigError
from trm_lab.training import train
from trm_lab.training.diagnose import DIMS, diagnose_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(tiny_recipe(train={"dtype": "bfloat16"}), folder, execution=EXECUTION)
    return folder


def test_diagnostics_are_saved_with_labels(run: Path) -> None:
    data, path = diagnose_run(run, Subject(limit=5), iterations=8, execution=EXECUTION)
    assert path.parent == run / "evaluation"
    assert re.fullmatch(r"diagnostics-test-last-[0-9a-f]{8}\.nc", path.name)
    with xr.open_dataset(path) as saved:
        xr.testing.assert_identical(saved.load(), data.load())
    assert dict(data.sizes) == {"puzzle": 5, "step": 3, "update": 6, "latent": 2}
    for name, dims in DIMS.items():
        assert data[name].dims == dims
        assert np.isfinite(data[name].values).all()
        assert data[name].attrs["long_name"]
    assert data["latent"].values.tolist() == ["z", "y"]
    assert data["step"].values.tolist() == [1, 2, 3]
    assert (data["cosine"] <= 1 + 1e-6).all()
    assert ((data["participation"] >= 1) & (data["participation"] <= 16)).all()
    assert data.attrs["recipe_id"] == tiny_recipe(train={"dtype": "bfloat16"}).id
    assert data.attrs["dtype"] == "float32"


def test_weights_and_puzzles_are_those_asked_for(run: Path) -> None:
    last, _ = diagnose_run(run, Subject(limit=2), steps=1, iterations=2, execution=EXECUTION)
    raw, path = diagnose_run(
        run, Subject(limit=2, weights="raw", split="validation"), steps=1, iterations=2,
        execution=EXECUTION,
    )  # fmt: skip
    assert path.name.startswith("diagnostics-validation-raw-")
    assert set(last["signature"].values).isdisjoint(raw["signature"].values)
    assert not np.array_equal(last["residual"], raw["residual"])


def test_the_command_prints_a_line_per_step(run: Path) -> None:
    told = CliRunner().invoke(
        app, ["diagnose", str(run), "--steps", "2", "--iterations", "4", "--limit", "3",
              "--threads", "1", "--json"],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    made = json.loads(told.output)
    with xr.open_dataset(made["file"]) as data:
        assert [row["step"] for row in made["rows"]] == [1, 2]
        radius = data["spectral_radius"].mean("puzzle").values
        assert [row["spectral radius"] for row in made["rows"]] == pytest.approx(list(radius))
    lines = CliRunner().invoke(
        app, ["diagnose", str(run), "--steps", "1", "--iterations", "2", "--threads", "1"]
    )
    assert "dimension of y" in lines.output
    assert "diagnostics-test-last-" in lines.output
    assert f"{run}: means over 10 test puzzles, last weights" in lines.output


def test_other_settings_have_a_file_of_their_own(run: Path) -> None:
    def file(limit: int, steps: int | None, iterations: int) -> Path:
        subject = Subject(limit=limit)
        return diagnose_run(run, subject, steps=steps, iterations=iterations, execution=EXECUTION)[
            1
        ]

    first = file(2, 3, 2)
    kept = first.read_bytes()
    others = {file(1, 3, 2), file(2, 1, 2), file(2, 3, 3)}
    assert len(others | {first}) == 4
    assert first.read_bytes() == kept
    assert file(2, None, 2) == first  # N_sup


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, not one run"):
        diagnose_run(tmp_path)
