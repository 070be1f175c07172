"""Accuracy against effective depth, at equal updates and at equal compute, with fitted laws.

python analysis/accuracy_by_depth.py runs/<study> [--out figures/]
"""

import style

from trm_lab.plots import depth
from trm_lab.plots.tables import fits


def main() -> None:
    tree, out = style.study(__doc__)
    laws = fits(tree)
    figure = depth.panels(tree, laws)
    style.write(figure, depth.caption(tree, laws), depth.table(tree), out / "accuracy_by_depth")


if __name__ == "__main__":
    main()
