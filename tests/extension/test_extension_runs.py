"""The worked example from the command line: plan, run in worker processes, results."""

import json
import sys
from pathlib import Path

import pytest
import xarray as xr

from tests.cli.conftest import Done, in_a_process
from tests.extension.example import write_example

# One process: what the module's fixtures make is made once.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Done]]:
    place = tmp_path_factory.mktemp("example")
    write_example(place)
    said = {
        "validate": in_a_process("validate", "sorting.yaml", cwd=place),
        "plan": in_a_process("plan", "sorting.yaml", "--json", cwd=place),
        "run": in_a_process("run", "sorting.yaml", "--set", "train.updates=8", cwd=place),
    }
    return place, said


def test_the_page_works_as_it_says(done: tuple[Path, dict[str, Done]]) -> None:
    _, said = done
    assert said["validate"].out == "sorting.yaml: a study of 2 cells, valid\n"
    assert {verb: (d.code, d.err) for verb, d in said.items()} == dict.fromkeys(said, (0, ""))
    cells = json.loads(said["plan"].out)["cells"]
    assert [cell["recipe"]["model"]["layout"]["kind"] for cell in cells] == [
        "two_latents", "my_parts:Ring",
    ]  # fmt: skip
    assert "4 completed" in said["run"].out


def test_results_hold_the_kinds_and_fields_and_need_no_code(
    done: tuple[Path, dict[str, Done]],
) -> None:
    place, _ = done
    (file,) = place.glob("runs/*/results.nc")
    with xr.open_datatree(file) as tree:
        runs = tree["runs"].load()
        assert set(runs["model.layout.kind"].values) == {"two_latents", "my_parts:Ring"}
        assert set(runs["model.mixer.kind"].values) == {"my_parts:Mean"}
        assert set(runs["task.digits"].values) == {3}
        assert (tree["eval"]["puzzle_accuracy"].sel(weights="last").values >= 0).all()
    (place / "my_parts.py").unlink()
    assert "my_parts" not in sys.modules
    collected = in_a_process("collect", file.parent.relative_to(place), cwd=place)
    assert (collected.code, collected.err) == (0, "")
    status = in_a_process("status", file.parent.relative_to(place), cwd=place)
    assert (status.code, status.err) == (0, "")
    for arguments in (("status", "sorting.yaml"), ("explain", next(file.parent.glob("*/seed-0")))):
        assert in_a_process(*arguments, cwd=place).code == 2
    again = in_a_process("plan", "sorting.yaml", cwd=place)
    assert again.code == 2
    assert "sorting.yaml:5:3: task: my_parts:Sorting: no module my_parts; it must be" in again.err
