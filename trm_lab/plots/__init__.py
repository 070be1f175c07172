"""Figures of a study.

One module per figure: `depth`, `forest`, `steps`, `curves`.  In each, `draw(tree, ax)` draws into
given or new axes and returns them, `panels(tree)` makes the whole figure, `caption(tree)` says in
words what it shows with n and the interval, and `table(tree)` gives the numbers behind it.
`style.save(figure, stem)` writes PDF, SVG and PNG.
"""
