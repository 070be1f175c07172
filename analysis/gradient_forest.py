"""The contrasts of a study as a forest: what the gradient costs, and where HRM stands.

python analysis/gradient_forest.py runs/<study> [--out figures/]
"""

import style

from trm_lab.plots import forest


def main() -> None:
    tree, out = style.study(__doc__)
    figure = forest.panels(tree)
    style.write(figure, forest.caption(tree), forest.table(tree), out / "gradient_forest")


if __name__ == "__main__":
    main()
