"""Accuracy by the number of supervision steps granted at evaluation.

python analysis/accuracy_by_steps.py runs/<study> [--out figures/]
"""

import style

from trm_lab.plots import steps


def main() -> None:
    tree, out = style.study(__doc__)
    figure = steps.panels(tree)
    style.write(figure, steps.caption(tree), steps.table(tree), out / "accuracy_by_steps")


if __name__ == "__main__":
    main()
