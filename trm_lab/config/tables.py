"""The rows of TRM's tables of ablations as recipes (arXiv 2510.04871, Tables 1, 2 and 3).

Each row changes what the table says and nothing else; what the paper leaves open is as in the
preset it starts from.  `trm_lab.published` has the numbers, by the same table and row.
"""

from typing import Any, NamedTuple

from trm_lab.config.configurations import PRESETS
from trm_lab.config.source import merge


class Row(NamedTuple):
    """One row of a table."""

    table: str
    """Name of the table in `trm_lab.published.TABLES`."""
    row: str
    """The row as that table names it."""
    settings: dict[str, Any]
    """Nested settings of the recipe."""
    base: str
    """The preset that they are laid over."""


def _row(table: int, row: str, base: str, **changes: Any) -> Row:
    return Row(f"TRM Table {table}", row, merge(PRESETS[base], changes), base)


_TABLE_1 = {
    "hrm": _row(1, "HRM", "hrm"),
    "trm": _row(1, "TRM (T=3, n=6)", "trm_mlp"),
    "act_continue": _row(
        1, "with ACT continue loss", "trm_mlp",
        supervision={"halting": {"kind": "q_learning"}},
    ),
    "two_nets": _row(1, "separate networks", "trm_mlp", model={"layout": {"nets": 2}}),
    "no_ema": _row(1, "no EMA", "trm_mlp", train={"ema": None}),
    "four_layers": _row(1, "4 layers, n=3", "trm_mlp", model={"layers": 4, "n": 3}),
    "attention": _row(1, "self-attention", "trm_att"),
    "T2_n2": _row(1, "T=2, n=2", "trm_mlp", model={"T": 2, "n": 2}),
    "one_step": _row(
        1, "1-step gradient", "trm_mlp", model={"gradient": {"kind": "last_updates", "k": 2}}
    ),
}  # fmt: skip
_TABLE_2 = {
    "two_latents": _row(2, "y and z", "trm_mlp"),
    "many_latents": _row(2, "multi-scale z, n + 1 features", "multiz"),
    "one_latent": _row(2, "single z", "singlez"),
}
_GRID = ((1, 1), (2, 2), (3, 3), (4, 4), (6, 3), (3, 6), (6, 6))
"""k and T of Table 3.  HRM has n = k and 4 layers, TRM n = 2k and 2 layers: the same effort."""
_TABLE_3 = {
    f"{name}_k{k}_T{T}": _row(
        3, f"{series}, k={k}, T={T}", base, model={"n": n, "T": T}
    )
    for k, T in _GRID
    for name, series, base, n in (("hrm", "HRM", "hrm", k), ("trm", "TRM", "trm_mlp", 2 * k))
}  # fmt: skip

TABLE_ROWS: dict[str, Row] = {
    f"table_{number}/{name}": row
    for number, rows in ((1, _TABLE_1), (2, _TABLE_2), (3, _TABLE_3))
    for name, row in rows.items()
}
"""Rows by name."""
