"""`trm-lab presets`."""

from typing import TYPE_CHECKING, Any

from trm_lab.cli import output

if TYPE_CHECKING:
    from trm_lab.config.recipe import Recipe

COLUMNS = ("model.layers", "model.width", "model.n", "model.T", "supervision.N_sup")
"""Settings with a column of their own."""


def presets(tables: bool, json: bool) -> None:
    """Print the presets, or the rows of TRM's tables beside what was published of them."""
    from trm_lab.accounting import account
    from trm_lab.config.configurations import BASES
    from trm_lab.config.presets import PRESETS, preset
    from trm_lab.config.tables import TABLE_ROWS

    recipes = {name: preset(name) for name in (TABLE_ROWS if tables else PRESETS)}
    accounts = {name: account(recipe) for name, recipe in recipes.items()}
    percent = _published() if tables else {}
    base = {name: row.base for name, row in TABLE_ROWS.items()} if tables else BASES
    changes = {
        name: _changes(preset(base[name]), recipes[name]) for name in recipes if name in base
    }
    if json:
        output.as_json(
            [
                {"preset": name, "accounting": accounts[name]._asdict(), "recipe": recipe.as_dict()}
                | {"base": base.get(name), "changes": changes.get(name)}
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
            | {"differs, beside the columns": _told(base.get(name), changes.get(name, {}))}
        )
    title = "TRM's tables, published on Sudoku-Extreme" if tables else "presets, on 9x9 Sudoku"
    output.table(title, rows)


def _changes(base: "Recipe", recipe: "Recipe") -> dict[str, Any]:
    """Give what a preset changes of its base, a changed kind by its name."""
    from trm_lab.study.plan import changed

    return {name.removesuffix(".kind"): value for name, value in changed(base, recipe).items()}


def _told(base: str | None, changes: dict[str, Any]) -> str | None:
    """Say what a preset changes of its base and no column shows."""
    if base is None:
        return None
    told = [
        f"{name}={'null' if value is None else value}"
        for name, value in changes.items()
        if name not in COLUMNS and not name.startswith("eval.")
    ]
    return f"from {base}: {', '.join(told)}" if told else f"as {base}"


def _published() -> dict[str, float | None]:
    """Give the published percentages by row; None where there is none."""
    from trm_lab.config.tables import TABLE_ROWS
    from trm_lab.published import TABLES

    numbers = {(table, r.row): r.percent for table, records in TABLES.items() for r in records}
    return {name: numbers[row.table, row.row] for name, row in TABLE_ROWS.items()}
