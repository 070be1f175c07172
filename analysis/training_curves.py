"""Validation accuracy and training loss against updates and against training compute.

python analysis/training_curves.py runs/<study> [--out figures/]
"""

import style

from trm_lab.plots import curves
from trm_lab.plots.curves import Y


def main() -> None:
    tree, out = style.study(__doc__)
    every: tuple[Y, ...] = ("validation", "loss")
    for y in every:
        figure, caption = curves.panels(tree, y), curves.caption(tree, y)
        style.write(figure, caption, curves.table(tree, y), out / f"training_{y}")


if __name__ == "__main__":
    main()
