import json
from pathlib import Path

import numpy as np
import pytest
from factories import DEPTHS, one_run, run_of, value

from trm_lab.results import collect, data_hash, gather, states


def test_a_torn_last_line_is_ignored_without_a_word(tmp_path: Path):
    study = one_run(tmp_path)
    before = gather(study)
    with (run_of(study) / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "update": 450, "lo')
    after = gather(study)
    assert after.attrs["problems"] == ""
    assert data_hash(after) == data_hash(before)


def test_a_broken_line_elsewhere_is_listed_and_the_rest_is_used(tmp_path: Path):
    study = one_run(tmp_path)
    path = run_of(study) / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]) + "\n")
    tree = gather(study)
    assert f"{DEPTHS[0].name}/seed-0/metrics.jsonl:2: unreadable" in tree.attrs["problems"]
    assert tree["curves"].sizes["update"] == 7


def test_records_written_twice_by_a_resumed_run_count_once_and_the_later_one_counts(tmp_path: Path):
    study = one_run(tmp_path)
    path = run_of(study) / "metrics.jsonl"
    again = {**json.loads(path.read_text().splitlines()[0]), "loss": 0.125}
    with path.open("a") as file:
        file.write(json.dumps(again) + "\n")
    curves = gather(study)["curves"]
    assert curves.sizes["update"] == 8
    assert curves["loss"].values[0, 0] == 0.125


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"state": "comp', "status.json: unreadable"),
        ('{"state": "sleeping"}', "status.json: state is 'sleeping', not one of waiting, running"),
        ("[]", "status.json: state is [], not one of"),
    ],
)
def test_a_run_whose_status_is_unreadable_is_lost_and_keeps_the_rest(
    tmp_path: Path, content: str, problem: str
):
    study = one_run(tmp_path)
    (run_of(study) / "status.json").write_text(content)
    tree = collect(study)
    assert states(tree).tolist() == ["lost"]
    assert f"{DEPTHS[0].name}/seed-0/{problem}" in tree.attrs["problems"]
    assert value(tree, "updates") == 400
    assert value(tree, "effective_depth") == DEPTHS[0].effective_depth
    assert np.isfinite(value(tree, "puzzle_accuracy"))


def test_a_run_that_has_begun_without_a_status_is_lost(tmp_path: Path):
    study = one_run(tmp_path)
    (run_of(study) / "status.json").unlink()
    tree = gather(study)
    assert states(tree).tolist() == ["lost"]
    assert "status.json: missing, though the run has begun" in tree.attrs["problems"]


def test_an_unreadable_evaluation_is_listed(tmp_path: Path):
    study = one_run(tmp_path)
    path = run_of(study) / "evaluation" / "last.npz"
    path.write_bytes(path.read_bytes()[:300])
    tree = gather(study)
    assert "evaluation/last.npz: unreadable" in tree.attrs["problems"]
    assert np.isnan(value(tree, "puzzle_accuracy"))


def test_no_damage_to_any_file_stops_the_collection(tmp_path: Path):
    study = one_run(tmp_path)
    rng = np.random.default_rng(0)
    files = [study / "plan.json", *(p for p in run_of(study).rglob("*") if p.is_file())]
    for path in files:
        whole = path.read_bytes()
        for cut in rng.integers(0, len(whole), size=4):
            path.write_bytes(whole[:cut])
            assert gather(study)["runs"].sizes["run"] == 1
            garbled = bytearray(whole)
            garbled[cut] ^= 0x55
            path.write_bytes(bytes(garbled))
            assert gather(study)["runs"].sizes["run"] == 1
        path.write_bytes(whole)
