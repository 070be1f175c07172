"""Uncertainty of seeds and of puzzles, kept apart.

Seeds are the unit of replication.  The sampling error of puzzles is another quantity, and every
function here says which of the two it speaks of: `seeds`, `pooled`, `aggregate`, `comparisons` and
`power` count seeds, `puzzles` counts puzzles of one run each, `crossed` splits the two, `failures`
counts runs.  Failed runs and missing values are refused rather than left out: leaving one out is
the caller's visible act, and `summarize` counts it.  docs/statistics.md says which to use when.
"""

from trm_lab.stats.aggregate import iqm, iqm_difference, iqm_interval
from trm_lab.stats.comparisons import Against, dunnett, holm, paired_dunnett
from trm_lab.stats.crossed import Component, SeedPuzzle, seed_puzzle_interval
from trm_lab.stats.failures import (
    ArmSummary,
    FailureContrast,
    compare_failures,
    failure_rate,
    summarize,
)
from trm_lab.stats.interval import BOOTSTRAP_SEEDS, FEW_SEEDS, Interval, Values
from trm_lab.stats.pooled import pooled_difference
from trm_lab.stats.power import Detectable, detectable_effect, seeds_needed, t_power
from trm_lab.stats.puzzles import McNemar, clopper_pearson, mcnemar, wilson
from trm_lab.stats.seeds import (
    mean_interval,
    paired_bootstrap,
    paired_difference,
    paired_differences,
    seed_bootstrap,
    seed_interval,
    unpaired_difference,
)
from trm_lab.stats.sign_flip import SignFlip, sign_flip_p

__all__ = [
    "BOOTSTRAP_SEEDS",
    "FEW_SEEDS",
    "Against",
    "ArmSummary",
    "Component",
    "Detectable",
    "FailureContrast",
    "Interval",
    "McNemar",
    "SeedPuzzle",
    "SignFlip",
    "Values",
    "clopper_pearson",
    "compare_failures",
    "detectable_effect",
    "dunnett",
    "failure_rate",
    "holm",
    "iqm",
    "iqm_difference",
    "iqm_interval",
    "mcnemar",
    "mean_interval",
    "paired_bootstrap",
    "paired_difference",
    "paired_differences",
    "paired_dunnett",
    "pooled_difference",
    "seed_bootstrap",
    "seed_interval",
    "seed_puzzle_interval",
    "seeds_needed",
    "sign_flip_p",
    "summarize",
    "t_power",
    "unpaired_difference",
    "wilson",
]
