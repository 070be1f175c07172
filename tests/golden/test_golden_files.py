"""Identities and loss curves are what they were; `make golden` writes the files anew."""

import json
from pathlib import Path

import pytest

from tests.golden.recipes import identified, trained
from tests.golden.regenerate import CURVES, FIELDS, IDS, curve, ids

CURVE = json.loads(CURVES.read_text(encoding="utf-8"))


def test_identities_are_what_they_were() -> None:
    """A changed identity orphans every run folder: results of old runs are no longer found."""
    assert ids() == json.loads(IDS.read_text(encoding="utf-8"))


def test_identities_are_all_different() -> None:
    assert len(set(ids().values())) == len(identified())


@pytest.mark.parametrize("name", trained())
def test_losses_of_twenty_updates_are_what_they_were(name: str, tmp_path: Path) -> None:
    found, expected = curve(trained()[name], tmp_path), CURVE[name]
    assert set(expected) == set(FIELDS)
    for field in FIELDS:
        assert len(found[field]) == 20
        assert found[field] == [
            None if value is None else pytest.approx(value, rel=1e-6) for value in expected[field]
        ], field


def test_no_curve_is_left_over() -> None:
    assert set(CURVE) == set(trained())
    # They differ from each other and they fall.
    assert len({curve["loss"][-1] for curve in CURVE.values()}) == 3
    assert all(curve["loss"][-1] < 0.9 * curve["loss"][0] for curve in CURVE.values())
