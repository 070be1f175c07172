import json

import numpy as np
import pytest
from synthetic import CONTRASTS, DEMO, FITS, Arm, fit_dataset, study_tree

from trm_lab.plots import accuracy
from trm_lab.plots.abscissa import abscissas, lines, named, values
from trm_lab.plots.tables import cell_table
from trm_lab.report.answer import answer
from trm_lab.report.figures import pictures

WIDTHS, PARAMS = (16, 24, 32, 48), (9442, 14162, 21954, 42146)
MEANS = (0.1, 0.2, 0.35, 0.5)


def wide(fits=(), widths=WIDTHS, factor="model.width", arms=("TRM",)):
    """A study over one factor, of one depth: every cell has its number of parameters."""
    made = [
        Arm(f"{arm}, {factor}={width}", "TRM", 2, 2, (mean - 0.01, mean, mean + 0.01))
        for arm in arms
        for width, mean in zip(widths, MEANS, strict=True)
    ]
    tree = study_tree(made, contrasts=(), fits=fits)
    tree["runs"]["params"][:] = np.tile(np.repeat(PARAMS, 3), len(arms))
    runs = tree["runs"].to_dataset()
    column = np.tile(np.repeat(np.array(widths, dtype=float), 3), len(arms))
    tree["runs"] = runs.assign({factor: ("run", column, {"source": "recipe"})})
    made_plan = json.loads(tree.attrs["plan_json"])
    for cell, (arm, width) in zip(
        made_plan["cells"], [(a, w) for a in arms for w in widths], strict=True
    ):
        cell |= {"arm": arm, "factors": {factor: str(width)}}
    tree.attrs["plan_json"] = json.dumps(made_plan)
    return tree


def over_params():
    return [{**FITS[0], "name": "width", "x": "params"}]


def law(x_name="params"):
    fit = fit_dataset("width")
    fit.attrs["x_name"] = x_name
    return fit.assign(grid_x=("grid", np.geomspace(PARAMS[0], PARAMS[-1], 40)))


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def test_a_study_is_drawn_against_the_x_of_its_fits():
    assert [x.name for x in abscissas(study_tree())] == ["effective_depth"]
    assert [x.name for x in abscissas(wide(over_params()))] == ["params"]
    both = [*over_params(), *FITS, {**FITS[0], "name": "again"}]
    assert [x.name for x in abscissas(wide(both))] == ["params", "effective_depth"]


def test_without_fits_what_varies_is_x():
    assert [x.name for x in abscissas(study_tree(fits=()))] == ["effective_depth"]
    assert [x.name for x in abscissas(wide())] == ["model.width"]
    gradients = [DEMO[2], DEMO[4]]
    assert [x.name for x in abscissas(study_tree(gradients, fits=()))] == ["graph_updates"]
    alone = study_tree([DEMO[0]], contrasts=(), fits=())
    assert [x.name for x in abscissas(alone)] == ["effective_depth"]


def test_a_factor_that_acts_through_the_depth_is_the_depth():
    arms = [Arm(f"l{k}", "TRM", 1, 2, (0.1, 0.2, 0.3), layers=k, crossed=True) for k in (1, 2, 4)]
    assert [x.name for x in abscissas(study_tree(arms, contrasts=(), fits=()))] == [
        "effective_depth"
    ]


def test_means_stand_at_their_parameters_and_the_law_through_them():
    ax = accuracy.draw(wide(over_params()), fits=[law()], x=named("params"))
    points = line(ax, "TRM")
    assert points.get_xdata() == pytest.approx(PARAMS)
    assert points.get_ydata() == pytest.approx([100 * mean for mean in MEANS])
    assert line(ax, "_fit saturating law").get_xdata()[[0, -1]] == pytest.approx([9442, 42146])
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        "9442", "14.2 k", "22 k", "42.1 k",
    ]  # fmt: skip
    assert ax.get_xlabel() == "Parameters"
    assert not [found for found in accuracy.draw(wide(), fits=[law("max_depth")],
                x=named("params")).get_lines() if "_fit" in found.get_label()]  # fmt: skip


@pytest.mark.parametrize("name", ["params", "model.width"])
def test_a_factor_joins_the_cells_of_an_arm(name):
    tree = wide(arms=("one", "two"))
    cells = cell_table(tree)
    keys = lines(tree, cells, name)
    assert len(set(keys[:4])) == 1
    assert len(set(keys)) == 2
    joined = [found for found in accuracy.draw(tree, x=named(name)).get_lines()
              if found.get_label() == "_TRM line"]  # fmt: skip
    assert [len(found.get_xdata()) for found in joined] == [4, 4]


def test_a_factor_with_zero_has_a_linear_axis():
    tree = wide(widths=(0.0, 0.1, 0.2, 0.4), factor="train.optimizer.weight_decay")
    (x,) = abscissas(tree)
    ax = accuracy.draw(tree, x=x)
    assert ax.get_xscale() == "linear"
    assert line(ax, "TRM").get_xdata() == pytest.approx([0.0, 0.1, 0.2, 0.4])
    assert list(values(tree, cell_table(tree), x.name)) == [0.0, 0.1, 0.2, 0.4]


@pytest.mark.parametrize("count", [2, 12, 30])
def test_every_mark_stands_inside_the_axes(count):
    arms = [Arm(f"v{i}", f"s{i % 3}", 2, 2, (0.1, 0.2, 0.3)) for i in range(count)]
    for ax in accuracy.panels(study_tree(arms, contrasts=(), fits=())).axes:
        low, high = ax.get_xlim()
        x = np.concatenate([np.asarray(found.get_xdata(), float) for found in ax.get_lines()])
        assert low < x.min() <= x.max() < high
        assert not [found for found in ax.get_lines() if "line" in found.get_label()]
        assert len(set(np.round(line(ax, "s0").get_xdata(), 6))) == len(arms[::3])


@pytest.mark.slow
def test_the_report_has_a_figure_and_a_sentence_for_every_x():
    tree = wide(over_params())
    first = pictures(tree, [law()])[0]
    assert (first.stem, first.title) == ("accuracy_by_params", "Accuracy by parameters")
    assert list(first.table["params"]) == list(np.repeat(PARAMS, 3))
    assert first.caption.startswith(
        "Puzzle accuracy against parameters, the puzzle table left out. "
    )
    assert "Line, TRM: saturating law" in first.caption
    said = answer(tree)[0]
    assert said.startswith(
        "After 600 updates, more parameters raised the puzzle accuracy of TRM: 10.0 % for TRM, "
        "model.width=16 at 9442 parameters, 50.0 % for TRM, model.width=48 at 42.1 k parameters, "
        "+40.0 pp"
    )
    assert said.endswith("; model.width differs too.")
    assert pictures(wide(), [])[0].stem == "accuracy_by_width"
    own = answer(wide())[0]
    assert "greater model.width raised the puzzle accuracy of TRM: 10.0 %" in own
    assert "differs too" not in own


@pytest.mark.slow
def test_names_of_the_contrasts_study_stay():
    stems = [picture.stem for picture in pictures(study_tree(contrasts=CONTRASTS), [])]
    assert stems[:2] == ["accuracy_by_depth", "contrasts"]
