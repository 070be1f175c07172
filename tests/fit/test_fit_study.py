"""Fits of a study's runs, as its plan asks for them."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from factories import DEPTHS, Cell, make_study

from trm_lab.errors import ConfigError
from trm_lab.fit import describe, fit_specs, fit_study, save_fit
from trm_lab.results import collect, data_hash, gather

SPEC = {"name": "depth", "law": "saturating", "x": "effective_depth", "y": "puzzle_accuracy"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    states = {("n1T1", 1): "diverged", ("n8T3", 0): "failed"}
    cells = (*DEPTHS, Cell("hrm", series="HRM", n=3))
    return make_study(
        tmp_path_factory.mktemp("runs"), cells, states=states, fits=[{**SPEC, "series": "TRM"}]
    )


def test_a_study_is_fitted_as_its_plan_says(study: Path):
    tree = collect(study)
    (spec,) = fit_specs(tree)
    found = fit_study(tree, spec, draws=50)
    assert found.attrs["n_points"] == 13
    assert found.attrs["cluster"] == "seed"
    assert found.attrs["n_clusters"] == 3
    assert "left out of 15 runs: 1 diverged, 1 failed" in found.attrs["note"]
    assert found.attrs["data_hash"] == data_hash(tree)
    assert found.attrs["series"] == "TRM"
    assert (
        found["effective_depth"].attrs["long_name"]
        == "Effective depth, layers x T x updates of a cycle"
    )
    assert set(found["cluster"].values) == {"0", "1", "2"}
    assert f"{DEPTHS[0].name}/seed-0" in found["name_of_row"].values
    np.testing.assert_allclose(found["coefficients"], [0.9, 0.8, 20], rtol=0.2)


def test_variants_can_be_chosen_and_runs_outside_the_plan_stay_out(study: Path):
    tree = gather(study)
    few = fit_study(tree, {**SPEC, "variants": ["n1T1", "n2T2"]}, draws=5)
    assert few.attrs["n_points"] == 5
    assert few.attrs["variants"] == "n1T1, n2T2"
    assert few.attrs["status"] == "not_identified"
    text = describe(fit_study(tree, {**SPEC, "series": "TRM", "variants": ["n1T1", "n2T2"]}))
    assert "puzzle_accuracy of 5 runs (series TRM; variants n1T1, n2T2), minimising" in text
    assert "- [x] How N, D and FLOPs are counted: as in the study's results" in text
    tree["runs/planned"].values[:] = 0
    assert fit_study(tree, SPEC).attrs["status"] == "too_few_points"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"law": "powr"}, "law: 'powr' is not one of .*; did you mean 'power'"),
        ({"x": "effectiv_depth"}, "fit depth: x: .* did you mean 'effective_depth'"),
        ({"y": "variant"}, "fit depth: y: the study has no 'variant'"),
        ({"series": "TMR"}, "fit depth: series: the study has no 'TMR'; did you mean 'TRM'"),
        ({"variants": ["n9"]}, "fit depth: variants: the study has no 'n9'"),
        ({"cluster": "sed"}, "fit depth: cluster: .* did you mean 'seed'"),
        ({"y": ""}, "fit depth: y not given"),
    ],
)
def test_a_spec_that_does_not_fit_the_study_is_refused(study: Path, change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        fit_study(gather(study), {**SPEC, **change})


def test_a_fit_round_trips_through_its_file(study: Path):
    found = fit_study(gather(study), SPEC, draws=30)
    path = save_fit(found, study)
    assert path == study / "fits" / "depth.nc"
    assert xr.load_dataset(path, engine="netcdf4").identical(found)
    empty = fit_study(gather(study), {**SPEC, "variants": ["hrm"], "name": "empty"})
    assert xr.load_dataset(save_fit(empty, study), engine="netcdf4").identical(empty)
    assert sorted(p.name for p in path.parent.iterdir()) == ["depth.nc", "empty.nc"]
    with pytest.raises(ConfigError, match="fit 'a/b': a name has letters, digits"):
        save_fit(found.assign_attrs(name="a/b"), study)
