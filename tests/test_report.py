import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from plots.synthetic import CONTRASTS, DEMO, Arm, fit_dataset, study_tree

from trm_lab.plots import style
from trm_lab.plots.tables import at_compute
from trm_lab.report import answer, build
from trm_lab.report.tables import cells, fits, interval, number, signed
from trm_lab.results.files import write_netcdf
from trm_lab.stats import mean_interval, paired_difference

# One process: what the module's fixtures make is made once.
pytestmark = pytest.mark.slow

MINUS = "\N{MINUS SIGN}"
FIGURES = (
    "accuracy_by_depth",
    "contrasts",
    "accuracy_by_steps",
    "training_curves",
    "training_loss",
)


def with_fits(tree, *fits):
    tree["fits"] = xr.DataTree.from_dict({fit.attrs["name"]: fit for fit in fits})
    return tree


@pytest.fixture(scope="module")
def tree():
    stale = fit_dataset("of-old-data")
    stale.attrs["stale"] = 1
    return with_fits(study_tree(), fit_dataset(), stale)


@pytest.fixture(scope="module")
def patchy():
    lost = {"TRM (3,2)": {1: "diverged"}, "HRM (2,2)": dict.fromkeys(range(3), "failed")}
    return study_tree([replace(arm, states=lost.get(arm.variant, {})) for arm in DEMO])


@pytest.fixture
def few(patchy):
    """The same with fewer runs, for speed."""
    kept = [0] * 6 + [1] * 6 + [0] * 6 + [1] * 3
    runs = patchy["runs"].to_dataset().assign(planned=("run", kept))
    root = xr.Dataset(attrs=patchy.attrs | {"question": "Is a < b & c? <script>x</script>"})
    groups = {name: node.to_dataset() for name, node in patchy.children.items()}
    return xr.DataTree.from_dict({"/": root, **groups, "runs": runs})


@pytest.fixture(scope="module")
def page(tree, tmp_path_factory):
    return build(tmp_path_factory.mktemp("runs") / "recursion", tree=tree)


@pytest.fixture(scope="module")
def html(page):
    return page.read_text("utf-8")


class Page(HTMLParser):
    """Collects what a page refers to, its identifiers and its tables' cells."""

    def __init__(self, text):
        super().__init__()
        self.references, self.ids, self.cells, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "data", "action"):
                self.references.append(value)
            if name == "id":
                self.ids.append(value)
        if tag == "td":
            self.cells.append("")
        if tag not in ("meta", "br", "use", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# The page


def test_the_page_asks_for_nothing_from_elsewhere(html):
    assert "http" not in html
    assert "<script" not in html
    assert "@import" not in html
    assert "<img" not in html
    for reference in Page(html).references:
        assert re.match(r"#|figures/|tables/", reference), reference


def test_every_file_that_the_page_names_is_there(page, html):
    for reference in Page(html).references:
        if not reference.startswith("#"):
            assert (page.parent / reference).is_file(), reference


def test_each_figure_is_in_the_page_and_in_three_formats(page, html):
    for stem in FIGURES:
        assert f'<figure id="figure-{stem}">\n<svg viewBox=' in html
        for kind in ("pdf", "svg", "png"):
            assert (page.parent / "figures" / f"{stem}.{kind}").stat().st_size > 1000
    assert html.count("<svg ") == len(FIGURES) == html.count("</svg>")


def test_identifiers_are_unique_and_every_inner_reference_has_one(html):
    found = Page(html)
    assert len(found.ids) == len(set(found.ids))
    assert {r[1:] for r in found.references if r.startswith("#")} <= set(found.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(found.ids)


def test_sections_stand_in_reading_order(html):
    sections = re.findall(r'<section id="(\w+)">', html)
    assert sections == [
        "answer",
        "question",
        "figures",
        "tables",
        "failures",
        "reproduce",
        "provenance",
    ]


def test_the_page_holds_answer_question_commands_and_provenance(tree, html):
    text = re.sub(r"\s+", " ", html)
    for sentence in answer(tree):
        assert sentence in text
    for part in (
        tree.attrs["question"],
        tree.attrs["hypothesis"],
        "trm-lab run study.yaml --on sweep.yaml",
        "trm-lab report study.yaml --on sweep.yaml",
        "0123abc",
        "5f1c0ffee0",
        "<dt>torch</dt><dd>2.9.0</dd>",
        "<dt>CPU threads per run</dt><dd>1</dd>",
        "Every planned run completed.",
    ):
        assert part in text


@pytest.fixture
def only_svg(monkeypatch):
    """Leave out the two slower formats."""
    monkeypatch.setattr(style, "FORMATS", {"svg": style.FORMATS["svg"]})


def test_the_same_tree_makes_the_same_bytes(tree, page, tmp_path, only_svg):
    again = build(tmp_path / "recursion", tree=tree)
    assert again.read_bytes() == page.read_bytes()
    files = [path for path in page.parent.rglob("*.*") if path.suffix not in (".pdf", ".png")]
    for old in files:
        assert (again.parent / old.relative_to(page.parent)).read_bytes() == old.read_bytes(), old
    assert len(list(again.parent.rglob("*.*"))) == len(files)


def test_a_page_elsewhere_lists_failures_and_escapes_what_the_study_says(few, tmp_path, only_svg):
    out = tmp_path / "elsewhere" / "page.html"
    write_netcdf(few, tmp_path / "recursion" / "results.nc")
    assert build(tmp_path / "recursion", out) == out
    assert (out.parent / "figures" / "contrasts.svg").is_file()
    assert [path.name for path in (tmp_path / "recursion").iterdir()] == ["results.nc"]
    html = re.sub(r"\s+", " ", out.read_text("utf-8"))
    assert "Is a &lt; b &amp; c? &lt;script&gt;" in html
    assert "<td>diverged</td>" in html
    assert "12 runs belong to an older plan" in html
    assert "FloatingPointError: loss is nan" in html
    assert "<td>2 of 3; 1 diverged</td>" in html
    assert "<td>0 of 3; 3 failed</td>" in html
    assert [r["state"] for r in rows(out.parent / "tables" / "table_failures.csv")] == [
        "diverged",
        *["failed"] * 3,
    ]


# The tables


def test_the_csv_of_the_cells_equals_the_tree(tree, page):
    found = rows(page.parent / "tables" / "table_cells.csv")
    assert [row["label"] for row in found] == [arm.variant for arm in DEMO]
    compute, _ = at_compute(tree)
    for place, (row, arm) in enumerate(zip(found, DEMO, strict=True)):
        updates = mean_interval(arm.accuracy)
        equal = mean_interval(compute[3 * place : 3 * place + 3].to_numpy())
        for at, expected in (("updates", updates), ("compute", equal)):
            values = [float(row[f"{at}_{name}"]) for name in ("mean", "lower", "upper")]
            assert values == pytest.approx([expected.estimate, expected.lower, expected.upper])
        assert float(row["graph_updates"]) == arm.graph_updates
        assert float(row["seconds"]) == pytest.approx(arm.flops_per_update * 600 / 1e11)


def test_the_csv_behind_the_depth_figure_equals_the_tree(tree, page):
    found = rows(page.parent / "tables" / "accuracy_by_depth.csv")
    values = [float(row["at_updates"]) for row in found]
    np.testing.assert_array_equal(values, tree["runs"]["puzzle_accuracy"])


def test_the_csv_behind_the_steps_equals_the_tree(tree, page):
    found = rows(page.parent / "tables" / "accuracy_by_steps.csv")
    values = tree["eval"]["puzzle_accuracy"].sel(weights="last").values.reshape(7, 3, 16)
    np.testing.assert_allclose([float(row["mean"]) for row in found], values.mean(axis=1).ravel())


def test_the_cells_are_readable(html):
    cells = Page(html).cells
    at = cells.index("TRM (2,2)")
    assert cells[at : at + 8] == [
        "TRM (2,2)", "TRM", "2", "2", "12", "3", "150\N{THIN SPACE}000", "3 of 3",
    ]  # fmt: skip
    assert cells[at + 8] == "62.0 [47.3,\N{NO-BREAK SPACE}76.8]"


def test_the_contrasts_say_what_differs(html):
    cells = Page(html).cells
    assert "model.gradient.k: - → 2; model.gradient.kind: last_cycles → last_updates" in cells
    assert f"{MINUS}4.4 [{MINUS}11.8,\N{NO-BREAK SPACE}3.1]" in cells


def test_fits_are_listed_with_status_and_the_stale_one_is_not_drawn(html):
    assert "ceiling = 0.900 [0.800, 1.000]; scale = 9.000 [7.500, 11.0]" in html
    assert "converged, descriptive; fewer than 8 distinct cells" in html
    assert "converged, stale: made from other data, run trm-lab fit, descriptive" in html
    assert html.count("Line, TRM: saturating law") == 1


def test_numbers_for_reading():
    assert number(1234567.0, 0) == "1\N{THIN SPACE}234\N{THIN SPACE}567"
    assert number(-0.25, 2) == f"{MINUS}0.25"
    assert number(float("nan")) == "–"
    assert interval(0.5, float("nan"), float("nan"), 100) == "50.0"
    assert (signed("1.0"), signed(f"{MINUS}1.0"), signed("–")) == ("+1.0", f"{MINUS}1.0", "–")


# The answer


def sentence(said, start):
    found = [text for text in said if text.startswith(start)]
    assert len(found) == 1, said
    return found[0]


def flipped(arms=DEMO):
    return [replace(arm, accuracy=tuple(1 - value for value in arm.accuracy)) for arm in arms]


def test_depth_is_said_with_its_numbers_and_its_sign(tree):
    text = sentence(
        answer(tree), "After 600 updates, greater effective depth raised the puzzle accuracy of TRM"
    )
    found = paired_difference(DEMO[3].accuracy, DEMO[0].accuracy)
    assert "15.1 % for TRM (1,1) at effective depth 4, 81.9 % for TRM (3,2) at depth 18" in text
    assert (
        f"{100 * found.estimate:+.1f} pp [{100 * found.lower:.1f}, {100 * found.upper:.1f}]" in text
    )
    assert "3 paired seeds, descriptive" in text


def test_depth_that_harms_is_said_to_harm():
    said = answer(study_tree(flipped()))
    text = sentence(
        said, "After 600 updates, greater effective depth lowered the puzzle accuracy of TRM"
    )
    assert f"{MINUS}66.8 pp" in text
    assert not any("raised" in text for text in said)


def test_equal_compute_has_its_own_sign():
    costly = [
        Arm("shallow", "TRM", 1, 1, (0.5, 0.52, 0.51)),
        Arm("deep", "TRM", 6, 2, (0.6, 0.61, 0.62)),
    ]
    said = answer(study_tree(costly, contrasts=()))
    sentence(said, "After 600 updates, greater effective depth raised")
    text = sentence(
        said, "At equal compute (3.6 TFLOP of training), greater effective depth lowered"
    )
    assert MINUS in text


def test_the_best_depth_in_between_is_named():
    peak = [
        replace(arm, accuracy=(0.95, 0.95, 0.96)) if arm.variant == "TRM (2,2)" else arm
        for arm in DEMO
    ]
    text = sentence(
        answer(study_tree(peak)),
        "After 600 updates, greater effective depth raised the puzzle accuracy of TRM",
    )
    assert "the highest mean is 95.3 % at depth 12" in text


def test_a_tie_has_no_direction():
    flat = [replace(arm, accuracy=(0.5, 0.6, 0.7)) for arm in DEMO]
    said = answer(study_tree(flat))
    assert "left unchanged the puzzle accuracy of TRM" in said[0]
    assert "stands level with TRM (2,2)" in sentence(said, "One-step gradient")
    assert ", 0.0 pp [0.0, 0.0], 3 paired seeds, the interval includes zero" in said[0]


def test_contrasts_are_said_with_their_sign_at_both(tree):
    text = sentence(answer(tree), "One-step gradient")
    assert "TRM (2,2) one-step gradient at depth 12 stands 4.4 pp below TRM (2,2)" in text
    assert "TRM (2,2) at depth 12 after 600 updates" in text
    assert f"({MINUS}4.4 pp [{MINUS}11.8, 3.1], 3 paired seeds, the interval includes zero" in text
    assert "and 4.4 pp above it at equal compute (3.6 TFLOP of training)" in text
    turned = sentence(answer(study_tree(flipped())), "One-step gradient")
    assert "stands 4.4 pp above TRM (2,2)" in turned


def test_settings_that_change_with_depth_are_named():
    arms = [DEMO[0], replace(DEMO[3], gradient="last_updates")]
    text = answer(study_tree(arms, contrasts=()))[0]
    assert text.endswith("; model.gradient differs too.")


def test_series_without_a_planned_contrast_are_compared_where_they_meet():
    said = answer(study_tree(contrasts=CONTRASTS[:1]))
    text = sentence(said, "Not a planned contrast")
    assert "at effective depth 12, HRM (HRM (2,2)) stands 14.4 pp below TRM (TRM (2,2))" in text


def test_a_diverged_arm_is_counted_and_an_empty_one_is_not_judged(patchy):
    said = answer(patchy)
    depth = sentence(
        said, "After 600 updates, greater effective depth raised the puzzle accuracy of TRM"
    )
    assert "2 paired seeds" in depth
    family = sentence(said, "HRM against TRM")
    assert family.endswith("have no completed seed in common, so nothing is said.")
    missing = sentence(said, "Not every planned run is in these means")
    assert "TRM (3,2): 2 of 3 seeds (1 diverged)" in missing
    assert "HRM (2,2): 0 of 3 seeds (3 failed)" in missing
    assert not any("accuracy of HRM" in text for text in said)


def test_a_missing_arm_leaves_the_rest_of_the_answer():
    said = answer(study_tree([arm for arm in DEMO if arm.series != "HRM"]))
    assert "nothing is said" in sentence(said, "HRM against TRM")
    sentence(said, "One-step gradient")


def test_nothing_completed_is_said():
    waiting = [replace(arm, states=dict.fromkeys(range(3), "waiting")) for arm in DEMO]
    said = answer(study_tree(waiting))
    assert said[0] == "No run has completed: there is no answer yet."
    assert len(said) == 2
    assert said[1].startswith("Completed so far: TRM (1,1): 0 of 3 seeds (3 waiting); TRM (1,2): 0")
    assert "Puzzle accuracy at equal compute, %" in cells(study_tree(waiting)).header


def test_a_depth_that_is_a_bound_is_called_one():
    assert not any("implicit" in text for text in answer(study_tree()))
    arms = [
        replace(arm, gradient="implicit") if arm.variant == "TRM (3,2)" else arm for arm in DEMO
    ]
    assert (
        "The depth of an implicit gradient is the most that its solver may take; its training "
        "compute is what it took: TRM (3,2)."
    ) in answer(study_tree(arms))


def test_solves_that_did_not_converge_are_said_by_cell():
    arms = [replace(arm, states={2: "diverged"} if arm.T == 3 else {}) for arm in DEMO]
    tree = study_tree(arms)
    found = tree["eval"].to_dataset()
    missed = xr.zeros_like(found["puzzle_accuracy"]).where(found["puzzle_accuracy"].notnull())

    def told():
        tree["eval"] = xr.DataTree(found.assign(unconverged=missed))
        return [text for text in answer(tree) if "converge" in text]

    assert told() == []
    deep = [i for i, run in enumerate(found["run"].values) if str(run).startswith("trm-3-2-")]
    missed.loc[{"run": found["run"][deep[0]], "weights": "last", "step": 16}] = 0.25
    missed.loc[{"run": found["run"][deep[1]], "weights": "last", "step": 16}] = 0.5
    missed.loc[{"run": found["run"][deep[1]], "weights": "last", "step": 2}] = 0.125
    assert told() == [
        "Implicit solves of the final test did not converge, and were used as they were; share of "
        "the puzzles at the worst step: TRM (3,2) 37.5 %."
    ]


def zeros(arms=DEMO):
    return [replace(arm, accuracy=(0.0, 0.0, 0.0)) for arm in arms]


def test_nothing_is_concluded_from_accuracies_that_are_all_zero():
    assert answer(study_tree(zeros())) == [
        "After 600 updates, every puzzle accuracy is 0: nothing was learned yet, so nothing is "
        "compared.",
        "All 21 planned runs completed.",
    ]


def test_a_series_without_a_solved_puzzle_is_not_judged():
    said = answer(study_tree([*DEMO[:3], *zeros(DEMO[3:])]))
    assert "After 600 updates, every puzzle accuracy of HRM is 0, so nothing is said." in said
    assert not any("accuracy of HRM:" in text for text in said)
    both = answer(study_tree([*DEMO[:2], *zeros(DEMO[2:])]))
    assert sentence(both, "HRM against TRM") == (
        "HRM against TRM: HRM (2,2) at depth 12 stands with TRM (2,2) at depth 12 at 0.0 % after "
        "600 updates (nothing was learned), and with it at 0.0 % at equal compute (3.6 TFLOP of "
        "training) (nothing was learned)."
    )


def test_a_law_that_was_not_fitted_has_no_numbers_in_the_table():
    nothing = fit_dataset(status="all_zero").map(lambda v: v * np.nan)
    nothing.attrs |= fit_dataset().attrs | {"status": "all_zero", "interval": "none", "note": ""}
    (row,) = fits(study_tree(), [nothing]).rows
    assert row[3:5] == ["–", "none"]
    assert row[6] == "all zero, descriptive"


def test_a_budget_that_was_not_measured_is_said():
    tree = study_tree()
    tree["curves"]["validation_puzzle_accuracy"][9:12, :11] = np.nan
    tree["curves"]["validation_puzzle_accuracy"][18:, :11] = np.nan
    said = answer(tree)
    assert "no pair of seeds was measured for TRM (1,1) and TRM (3,2)" in said[1]
    assert sentence(said, "HRM against TRM").endswith(
        "; at equal compute (3.6 TFLOP of training) no pair of seeds was measured."
    )


def test_one_seed_has_no_interval():
    arms = [replace(arm, accuracy=arm.accuracy[:1]) for arm in DEMO]
    text = answer(study_tree(arms, seeds=(0,)))[0]
    assert "+68.0 pp, 1 paired seed, descriptive" in text


def test_many_seeds_are_not_called_descriptive():
    rng = np.random.default_rng(0)
    arms = [replace(arm, accuracy=tuple(arm.accuracy[0] + rng.normal(0, 0.01, 6))) for arm in DEMO]
    said = answer(study_tree(arms, seeds=range(6)))
    assert "6 paired seeds." in said[0]
    assert not any("escriptive" in text for text in said)


def test_crossed_factors_are_answered_one_by_one():
    arms = [
        Arm(f"T{T}", "TRM", T, 2, (0.2 * T, 0.2 * T, 0.21 * T), layers=layers, crossed=True)
        for layers in (2, 4)
        for T in (1, 2)
    ]
    said = answer(study_tree(arms, contrasts=()))
    for layers in (2, 4):
        assert any(
            f"for T1, model.layers={layers} at effective depth {3 * layers}" in text
            for text in said
        )
