"""`trm-lab presets`."""

from typing import Any

from trm_lab.cli import output


def presets(tables: bool, json: bool) -> None:
    """Print the presets, or the rows of TRM's tables beside what was published of them."""
    from trm_lab.accounting import account
    from trm_lab.config.presets import PRESETS, preset
    from trm_lab.config.tables import TABLE_ROWS

    recipes = {name: preset(name) for name in (TABLE_ROWS if tables else PRESETS)}
    accounts = {name: account(recipe) for name, recipe in recipes.items()}
    percent = _published() if tables else {}
    if json:
        output.as_json(
            [
                {"preset": name, "accounting": accounts[name]._asdict(), "recipe": recipe.as_dict()}
                | ({"published_percent": percent[name]} if tables else {})
                for name, recipe in recipes.items()
            ]
        )
        return
    rows: list[dict[str, Any]] = []
    for name, recipe in recipes.items():
        cost = accounts[name]
        rows.append(
            {
                "preset": name,
                "params": cost.params,
                "layers": recipe.model.layers,
                "width": recipe.model.width,
                "n": recipe.model.n,
                "T": recipe.model.T,
                "N_sup": recipe.supervision.N_sup,
                "depth": cost.effective_depth,
                "max depth": cost.max_depth,
                "graph updates": cost.graph_updates,
                "FLOPs an update": output.engineering(cost.flops_per_update),
            }
            | ({"published %": percent[name]} if tables else {})
        )
    title = "TRM's tables, published on Sudoku-Extreme" if tables else "presets, on 9x9 Sudoku"
    output.table(title, rows)


def _published() -> dict[str, float | None]:
    """Give the published percentages by row; None where there is none."""
    from trm_lab.config.tables import TABLE_ROWS
    from trm_lab.published import TABLES

    numbers = {(table, r.row): r.percent for table, records in TABLES.items() for r in records}
    return {name: numbers[row.table, row.row] for name, row in TABLE_ROWS.items()}
