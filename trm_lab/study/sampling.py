"""Samplers and pruners of a search, as Optuna has them."""

import warnings

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from trm_lab.config.search import SMALLER, Parameter, Search

STRIDE = 1_000_003
"""Seeds of the suggestions of one search are this far apart from those of the next seed."""


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """Give the distribution of every parameter, by its dotted name."""
    return {name: _distribution(one) for name, one in search.parameters.items()}


def _distribution(one: Parameter) -> BaseDistribution:
    if one.choices is not None:
        return CategoricalDistribution(list(one.named))
    assert one.low is not None
    assert one.high is not None
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(float(one.low), float(one.high), log=one.log, step=one.step)


def directions(search: Search) -> list[StudyDirection]:
    """Say of every objective whether more is better; a metric is better if it is more."""
    less, more = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
    if search.objectives is None:
        return [more]
    return [less if name in SMALLER else more for name in search.objectives]


def sampler(search: Search, asked: int) -> BaseSampler:
    """Build the sampler of the suggestion after `asked` others.

    Every suggestion has a seed of its own: a driver that was started again would otherwise have the
    first suggestions once more.
    """
    seed = (search.seed * STRIDE + asked) % 2**32
    match search.sampler:
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup)
        case "gp":
            return optuna.samplers.GPSampler(
                seed=seed, n_startup_trials=search.startup, deterministic_objective=False
            )
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=search.startup)
        case "qmc":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                # The place in the sequence is kept in the storage; one seed for all of it.
                return optuna.samplers.QMCSampler(
                    scramble=True, seed=search.seed, warn_asynchronous_seeding=False
                )


def pruner(search: Search, updates: int) -> BasePruner:
    """Build the pruner of runs of so many updates; nothing is pruned before the warm-up."""
    first = warmup(search, updates)
    match search.pruner:
        case "none":
            return optuna.pruners.NopPruner()
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=first, max_resource=max(updates, first), reduction_factor=3
            )
        case "median":
            return optuna.pruners.MedianPruner(n_warmup_steps=first)


def warmup(search: Search, updates: int) -> int:
    """Give the update from which on a run may be pruned."""
    return search.warmup or max(1, updates // 2)
