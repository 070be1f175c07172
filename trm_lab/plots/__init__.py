"""Figures of a study, and of a fit.

One module per figure: `depth`, `forest`, `steps`, `curves`.  In each, `draw(tree, ax)` draws into
given or new axes and returns them, `panels(tree)` makes the whole figure, `caption(tree)` says in
words what it shows with n and the interval, and `table(tree)` gives the numbers behind it.

`law`, `residuals`, `agreement`, `parameter_pairs`, `backtest`, `isoflop` and `sensitivity` draw
what `trm_lab.fit` gave (a fit, a back-test, ...): `draw(made, ax)` gives axes, `panels(made)` an
array of the axes of a new figure, `axes[0].figure`.  `captions.fitted(made)` is what a caption says
of a fit: the law, n, and the kind and level of the band.

`style.save(figure, stem)` writes PDF, SVG and PNG.
"""
