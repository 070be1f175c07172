"""A study: one scientific question as data (studies/<question>.yaml)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trm_lab.config.base import Line, Name, Pick, Setting
from trm_lab.config.search import Search, Seed
from trm_lab.errors import ConfigError
from trm_lab.laws import BNSL
from trm_lab.laws import law as law_named

Text = Annotated[str, Field(min_length=1)]
Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]


class Variant(Setting):
    """One arm of the comparison."""

    name: Line
    series: Line
    """The line of a figure that the arm belongs to."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Recipe settings by dotted name, laid over the base."""


class Metric(Setting):
    """What the study reports."""

    name: Literal["puzzle_accuracy", "cell_accuracy"] = "puzzle_accuracy"
    steps: int | None = Field(default=None, ge=1)
    """Supervision steps of evaluation; each recipe's own N_sup if null."""


class FitSpec(Setting):
    """A law to fit to one series."""

    name: Name
    law: Text
    """A law of one column by its name (`saturating`: of x), or a call such as
    `Logistic(max_depth)` whose arguments are columns of /runs; see docs/laws.md."""
    x: Literal["effective_depth", "max_depth", "params", "flops"] = "effective_depth"
    """The column of a law given by its plain name."""
    y: Literal["puzzle_accuracy", "cell_accuracy"] = "puzzle_accuracy"
    series: Text | None = None
    """Only the variants of this series; all if null."""
    variants: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    """Only these variants of the series; all if null."""
    cluster: Literal["seed", "variant"] = "seed"
    """What repeats over rows and is resampled whole."""
    by: Literal["series", "variant"] | None = None
    """Groups that have parameters of their own, but for those in `share`."""
    share: Annotated[tuple[str, ...], Field(strict=False)] = ()
    objective: Literal["least_squares", "huber", "student_t"] | None = None
    """Null takes what suits the law."""

    @model_validator(mode="after")
    def _law_is_one(self) -> Self:
        try:
            law = law_named(self.law, self.x)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if unknown := [one for one in self.share if one not in law.names]:
            raise ValueError(
                f"share: law {law.name} has no {unknown[0]!r}; it has {', '.join(law.names)}"
            )
        if law.space == "log" and not isinstance(law, BNSL):
            raise ValueError(
                f"law: {law.name} is of a loss, which has no upper end, and {self.y} is at most 1; "
                "take saturating, power_error, or of a curve that turns log_quadratic or bnsl"
            )
        if self.share and self.by is None:
            raise ValueError("share needs by: the groups that share")
        return self


class Contrast(Setting):
    """Paired differences of some variants against one."""

    name: Name
    title: Text
    baseline: Text
    against: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class Study(Setting):
    """A question, its cells and seeds, and what is reported."""

    name: Name
    question: Text
    hypothesis: Text
    base: dict[str, Any]
    """Recipe settings shared by all cells; may name a preset."""
    variants: Annotated[tuple[Variant, ...], Field(strict=False, min_length=1)]
    factors: dict[str, Values] = Field(default_factory=dict)
    """Values by dotted recipe name, combined by `mode` and crossed with the variants."""
    mode: Literal["product", "zip", "one_at_a_time"] = "product"
    """How factors combine: every value with every other, the first with the first and so on, or one
    changed at a time from what the variant has, which is a cell too."""
    exclude: Annotated[tuple[Pick, ...], Field(strict=False)] = ()
    """Cells to leave out."""
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)]
    """Replicates; the same seeds in every cell, so that differences are paired.  With `search`, the
    one seed of all trials."""
    search: Search | None = None
    """Settings that are tuned within every arm, before its winner is run for the tables."""
    held: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Settings by dotted name that are stated to be the same in all cells, not tuned for each."""
    metric: Metric = Metric()
    fits: Annotated[tuple[FitSpec, ...], Field(strict=False)] = ()
    contrasts: Annotated[tuple[Contrast, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _factors_combine(self) -> Self:
        if self.mode != "product" and not self.factors:
            raise ValueError(f"mode: {self.mode} combines factors, and there are none")
        sizes = {key: len(values) for key, values in self.factors.items()}
        first = next(iter(sizes), "")
        for key, size in sizes.items() if self.mode == "zip" else ():
            if size != sizes[first]:
                raise ValueError(
                    f"factors: mode: zip pairs values one by one, and {first} has {sizes[first]} "
                    f"where {key} has {size}"
                )
        return self

    @model_validator(mode="after")
    def _search_holds(self) -> Self:
        if self.search is None:
            return self
        if len(self.seeds) > 1:
            raise ValueError(
                "seeds: a search trains all trials with one seed; the winners' are confirm.seeds"
            )
        fresh = self.search.confirm.seeds
        if len(set(fresh)) < len(fresh) or set(fresh) & set(self.seeds):
            raise ValueError(
                f"search.confirm.seeds: {list(fresh)} must be different ones that the search did "
                f"not see, and it sees {self.seeds[0]}"
            )
        return self
