"""Accuracy at equal updates and at equal compute, with fitted laws, against the x of each fit.

Without fits against effective depth, or what else varies.

python analysis/accuracy.py runs/<study> [--out figures/]
"""

import style

from trm_lab.plots import accuracy
from trm_lab.plots.abscissa import abscissas
from trm_lab.plots.tables import fits


def main() -> None:
    tree, out = style.study(__doc__)
    laws = fits(tree)
    for x in abscissas(tree):
        figure = accuracy.panels(tree, laws, x)
        text, points = accuracy.caption(tree, laws, x), accuracy.table(tree, x)
        style.write(figure, text, points, out / f"accuracy_by_{x.stem}")


if __name__ == "__main__":
    main()
