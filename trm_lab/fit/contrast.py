"""The difference of a parameter between two variants: the headline of an ablation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from trm_lab.errors import ConfigError
from trm_lab.fit.data import Data, labels, near, table
from trm_lab.fit.dataset import FEW_CLUSTERS
from trm_lab.fit.fitting import fit
from trm_lab.fit.intervals import expanded
from trm_lab.fit.saved import fewest_clusters, usable
from trm_lab.laws import Law

_CARRIED = (
    "law", "y_name", "by", "share", "cluster", "n_clusters", "fewest_clusters", "n_points", "level",
    "interval", "status", "note", "seed",
)  # fmt: skip
"""Attributes of the joint fit that a contrast keeps."""


def contrast(
    data: Data,
    y: str | tuple[str, str],
    law: Law | str,
    parameter: str,
    *,
    by: str,
    a: str,
    b: str,
    cluster: str | Sequence[str],
    share: Sequence[str] = (),
    **settings: Any,
) -> xr.Dataset:
    """Fit `law` to the variants a and b of the column `by` and give parameter[a] - parameter[b].

    Clusters that both variants have (paired seeds, cells of one design) are drawn with the rows of
    both, so that what they share cancels.  They are drawn among themselves, and so are the clusters
    of one variant only, unless there is a single one: that goes with the others.

    Returns:
        A Dataset with `difference`, `ci` [bound], `draws` [draw] and both variants' estimates
        [variant]; the joint fit's status is in the attributes.

    Raises:
        ConfigError: no such parameter or variant, or the parameter is shared.
    """
    frame = table(data)
    names, _ = labels(frame, by, "by")
    for one in (a, b):
        if one not in names:
            raise ConfigError(f"{by}: no variant {one!r}{near(one, np.unique(names))}")
    if parameter in share:
        raise ConfigError(f"contrast: {parameter} is shared, so its difference is 0 by definition")
    settings = {"interval": "bootstrap", **settings}
    made = fit(
        frame[(names == a) | (names == b)], y, law, cluster=cluster, by=by, share=share, **settings
    )
    wanted = [f"{parameter}[{a}]", f"{parameter}[{b}]"]
    known = [str(one) for one in made["param"].values]
    if wanted[0] not in known:
        raise ConfigError(f"contrast: no parameter {parameter!r}; there are {', '.join(known)}")
    if settings["interval"] not in ("bootstrap", "wild"):
        raise ConfigError("contrast: the interval of a difference needs draws: bootstrap or wild")
    at = [known.index(one) for one in wanted]
    estimates = made["coefficients"].values[at]
    drawn = usable(made)[:, at]
    differences = drawn[:, 0] - drawn[:, 1]
    n = fewest_clusters(made)
    ends = np.full(2, np.nan)
    if len(differences) > 1:
        ends = np.quantile(differences, expanded(float(made.attrs["level"]), n))
    if np.isinf(made["stderr"].values[at]).any():  # draws stay where they were in what is not told
        low, high = made["ci"].values[at].T
        ends = np.array([low[0] - high[1], high[0] - low[1]])
    return xr.Dataset(
        {
            "difference": float(estimates[0] - estimates[1]),
            "ci": ("bound", ends),
            "estimates": ("variant", estimates),
            "variant_ci": (("variant", "bound"), made["ci"].values[at]),
            "draws": ("draw", differences),
        },
        {"bound": ["lower", "upper"], "variant": [a, b]},
        {
            "parameter": parameter,
            **{k: made.attrs[k] for k in _CARRIED},
            "descriptive": int(n < FEW_CLUSTERS or made.attrs["status"] != "converged"),
        },
    )
