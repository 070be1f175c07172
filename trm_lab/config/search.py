"""The search of a study: what is tuned, how, and what is run again to report it."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import Positive, Setting, one_of
from trm_lab.config.validate import show

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Number = Annotated[int | float, one_of("a number")]
Choice = None | bool | int | float | str
Objective = Literal["puzzle_accuracy", "cell_accuracy", "flops", "params"]
SMALLER: tuple[Objective, ...] = ("flops", "params")
"""Objectives of which less is better."""
STARTUP = 10
"""Trials with a value before a model is made of them, as Optuna has it."""


class Parameter(Setting):
    """Values of one recipe setting: a range, whole numbers if its ends are, or a list."""

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    """Distance of neighbours; whole numbers are 1 apart unless told."""
    choices: Annotated[tuple[Any, ...], Field(strict=False, min_length=2)] | None = None
    """Any values that the setting takes, mappings too."""

    @model_validator(mode="before")
    @classmethod
    def _not_bare(cls, given: Any) -> Any:
        if isinstance(given, dict | cls):
            return given
        listed = show(given) if isinstance(given, list) else "[...]"
        raise ValueError(
            f"needs {{choices: {listed}}} or {{low: ..., high: ...}}, not {show(given)}"
        )

    @model_validator(mode="after")
    def _range_or_list(self) -> Self:
        low, high, step = self.low, self.high, self.step
        if self.choices is not None:
            if (low, high, step, self.log) != (None, None, None, False):
                raise ValueError("choices and a range: give one of them")
            written = [json.dumps(value, sort_keys=True) for value in self.choices]
            if twice := [text for text in written if written.count(text) > 1]:
                raise ValueError(f"choices: given twice: {twice[0]}")
            return self
        if low is None or high is None:
            raise ValueError("needs low and high, or choices")
        if low >= high:
            raise ValueError(f"low {low} must be less than high {high}")
        if self.log and (low <= 0 or step is not None):
            raise ValueError("log needs low above 0, and no step")
        if step is not None:
            if step <= 0 or (self.whole and not isinstance(step, int)):
                raise ValueError(f"step {step}: must be above 0, and whole where low and high are")
            if abs((high - low) / step - round((high - low) / step)) > 1e-9:
                raise ValueError(f"step {step}: high {high} is not low {low} and whole steps")
        return self

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def named(self) -> dict[Choice, Any]:
        """Give the choices by the names under which they are stored."""
        values = self.choices or ()
        short = [_short(value) for value in values]
        # 1, 1.0 and true are one key.
        plain = len(set(short)) == len(short) and len({str(name) for name in short}) == len(short)
        long = (json.dumps(value, sort_keys=True) for value in values)
        return dict(zip(short if plain else long, values, strict=True))

    def extremes(self) -> list[Any]:
        """Give the values that show whether a setting takes the parameter: ends, or choices."""
        return [self.low, self.high] if self.choices is None else list(self.choices)


def _short(value: Any) -> Choice:
    """Name a choice: itself, or the kind of a mapping."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("kind"), str):
        return str(value["kind"])
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    plain: Choice = value
    return plain


class Confirm(Setting):
    """What is run again with fresh seeds once an arm's budget is spent."""

    top: Positive = 1
    """The best so many recipes of every arm."""
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)]
    """Seeds that the search did not see: of the runs that enter tables, fits and contrasts."""


class Search(Setting):
    """Tunes settings within every arm (variant and factors) on an equal budget."""

    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    """By dotted recipe name."""
    trials: int = Field(ge=1, le=100_000)
    """Suggestions per arm.  One that was had before, cannot be built, diverges or is pruned counts
    like any other."""
    sampler: Literal["tpe", "gp", "nsga2", "qmc", "random"] = "tpe"
    seed: Seed = 0
    """Of the sampler; every arm has the same."""
    pruner: Literal["none", "successive_halving", "hyperband", "median"] = "none"
    warmup: int | None = Field(default=None, ge=1)
    """Updates before which nothing is pruned; half of the run's updates if null, as recursive
    models may take off late."""
    parallel: int | None = Field(default=None, ge=1)
    """Trials of an arm at a time; if null, as many as `at_once` says."""
    objectives: Annotated[tuple[Objective, ...], Field(strict=False)] | None = None
    """Several at once instead of the study's metric: accuracies on validation puzzles, training
    FLOPs, parameters.  Nothing is pruned then, and the best recipes are of the Pareto front, in
    the order of the first objective."""
    confirm: Confirm

    @property
    def startup(self) -> int:
        """Trials of an arm that need a value before the sampler learns from any; 0: it never does.

        Those before are random.
        """
        match self.sampler:
            case "tpe" | "gp":
                return STARTUP
            case "nsga2":
                # A population of 50, as Optuna has it, would be the whole of a small budget.
                return min(50, max(2, self.trials // 5))
        return 0

    @property
    def at_once(self) -> int | None:
        """Trials of an arm at a time at the most; None is as many as the sweep has room for.

        What is asked for before earlier trials have a value is random, whatever the sampler: one
        that learns gets ten rounds to do it in, or rounds of 4 where the budget is too small.
        """
        if self.parallel is None and self.startup:
            return max(4, self.trials // 10)
        return self.parallel

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.objectives is not None:
            if len(set(self.objectives)) != len(self.objectives) or len(self.objectives) < 2:
                raise ValueError("objectives: give two or more different ones, or none")
            if self.pruner != "none":
                raise ValueError(f"pruner {self.pruner}: needs a single objective")
        elif self.sampler == "nsga2":
            raise ValueError("sampler nsga2: needs objectives, such as [puzzle_accuracy, flops]")
        if self.warmup is not None and self.pruner == "none":
            raise ValueError("warmup: there is no pruner to warm up")
        return self
