"""The rows of TRM's tables and the presets: sizes, depths and cost as published."""

import pytest
import torch

from trm_lab.accounting import account
from trm_lab.config import (
    PRESETS,
    LastUpdates,
    Looped,
    QLearning,
    Recipe,
    TokenMLP,
    WholeProgram,
    preset,
)
from trm_lab.config.tables import TABLE_ROWS
from trm_lab.published import TABLES, Record
from trm_lab.tasks.build import build
from trm_lab.training.session import Session
from trm_lab.training.stream import Stream

RECORDS = {(table, r.row): r for table, records in TABLES.items() for r in records}
TRM, HRM = 5_028_866, 27_275_266
PARAMS = {
    "table_1/hrm": HRM,
    "table_1/two_nets": 10_045_442,
    "table_1/four_layers": 10_045_442,
    "table_1/attention": 6_828_034,
}
"""What differs from the reference row; specification of the released modules."""
NEW = {
    "direct": 27_275_266,
    "direct_12_heads": 27_144_194,
    "looped": 27_275_266,
    "singlez": 5_028_866,
    "multiz": 5_028_866,
    # Without slots the token MLP spans 81 positions, which rounds to half the inner width.
    "eqr": 2 * (3 * 81 * 256 + 3 * 512 * 1536) + 2 * 11 * 512 + 2 * 512 + 2,
    # Attention and feed-forward of four layers, and two taps per inner channel.
    "urm": 4 * (4 * 512**2 + 3 * 512 * 1536 + 2 * 1536) + 2 * 11 * 512 + 2 * 512 + 2,
}


def record(name: str) -> Record:
    row = TABLE_ROWS[name]
    return RECORDS[row.table, row.row]


def test_every_row_of_the_three_tables_has_a_recipe() -> None:
    asked = {(f"TRM Table {i}", r.row) for i in (1, 2) for r in TABLES[f"TRM Table {i}"]}
    asked |= {("TRM Table 3", r.row) for r in TABLES["TRM Table 3"]}
    assert {(row.table, row.row) for row in TABLE_ROWS.values()} == asked
    assert len(TABLE_ROWS) == 9 + 3 + 14
    assert not set(TABLE_ROWS) & set(PRESETS)


@pytest.mark.parametrize("name", TABLE_ROWS)
def test_a_row_has_the_published_size_and_depth(name: str) -> None:
    recipe, published = preset(name), record(name)
    found = account(recipe)
    usual = HRM if published.series == "HRM" else TRM
    assert found.params == PARAMS.get(name, usual)
    if published.params:
        assert round(found.params / 1e6) == published.params / 1e6
    if published.layers:
        assert recipe.model.layers == published.layers
        assert (recipe.model.T, recipe.model.n) == (published.T, published.n)
        assert found.effective_depth == published.effective_depth
    if published.forwards:
        assert isinstance(recipe.supervision.halting, QLearning) == (published.forwards == 2)
    if published.latents:
        assert len(recipe.model.layout.latents) == published.latents


def test_a_row_changes_what_the_table_says_and_nothing_else() -> None:
    reference = preset("table_1/trm")
    assert reference == preset("trm_mlp")

    def changed(name: str) -> set[str]:
        ours, base = preset(name).as_dict(), reference.as_dict()
        parts = {(s, k) for s in ("model", "supervision", "train") for k in base[s]}
        return {k for s, k in parts if ours[s].get(k) != base[s][k]}

    assert changed("table_1/act_continue") == {"halting"}
    assert changed("table_1/two_nets") == {"layout"}
    assert changed("table_1/no_ema") == {"ema"}
    assert changed("table_1/four_layers") == {"layers", "n"}
    assert changed("table_1/attention") == {"mixer", "positions"}
    assert changed("table_1/T2_n2") == {"T", "n"}
    assert changed("table_1/one_step") == {"gradient"}
    assert changed("table_2/one_latent") == changed("table_2/many_latents") == {"layout"}
    assert preset("table_1/one_step").model.gradient == LastUpdates(k=2)
    assert preset("table_1/two_nets").model.graph_updates == 7
    assert changed("table_3/trm_k6_T6") == {"n", "T"}
    assert not changed("table_3/trm_k3_T3")
    assert preset("table_3/hrm_k2_T2") == preset("hrm") == preset("table_1/hrm")


@pytest.mark.parametrize("name", NEW)
def test_the_size_of_a_preset(name: str) -> None:
    assert account(preset(name)).params == NEW[name]


def test_direct_and_looped_are_one_evaluation_of_eight_blocks() -> None:
    direct, looped = preset("direct"), preset("looped")
    for recipe, depth in ((direct, 8), (looped, 128)):
        assert isinstance(recipe.model.layout, Looped)
        assert isinstance(recipe.model.gradient, WholeProgram)
        found = account(recipe)
        assert (found.effective_depth, found.max_depth, found.graph_updates) == (8, depth, 1)
    heads = preset("direct_12_heads").model
    assert (heads.mixer.heads, heads.head_dim, heads.width) == (12, 42, 512)
    assert preset("urm").model.graph_updates == 6
    assert isinstance(preset("eqr").model.mixer, TokenMLP)


@pytest.mark.slow
@pytest.mark.parametrize("name", {preset(n).id: n for n in [*NEW, *TABLE_ROWS]}.values())
def test_a_row_trains_two_updates_at_its_published_size(name: str) -> None:
    changes = {"train": {"batch": 2, "dtype": "float32", "updates": 2, "schedule": {"warmup": 1}}}
    recipe: Recipe = preset(name, **changes)
    assert recipe.model.width == 512
    device = torch.device("cpu")
    stream = Stream(build(recipe.task), recipe.train.batch, recipe.seed, device)
    session = Session.fresh(recipe, stream, device)
    before = {k: p.detach().clone() for k, p in session.weights.params.items()}
    for _ in range(2):
        session.advance()
    assert 0 < session.record()["loss"] < 10
    assert all(p.isfinite().all() for p in session.weights.params.values())
    moved = {k for k, p in session.weights.params.items() if not torch.equal(p, before[k])}
    still = set() if recipe.supervision.N_sup > 1 else {"head.halt.weight", "head.halt.bias"}
    assert moved == set(before) - still
