"""Shares, means and differences with their intervals, and how a quantity is spread."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, Protocol

import numpy as np
import scipy
from pydantic import Field
from torch import Tensor

from notbugs.errors import InputError
from notbugs.formats import points, quoted
from notbugs.records import Record
from notbugs.seeds import derive

Order = Literal["higher", "lower", "unclear"]
Score = Literal["accuracy", "balanced accuracy"]
Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
RESAMPLES = 1000
"""Of a bootstrap."""


class Bounded(Protocol):
    """What has an interval."""

    @property
    def low(self) -> float:
        """Its lower end."""
        ...

    @property
    def high(self) -> float:
        """Its upper end."""
        ...


def compare(a: Bounded, b: Bounded) -> Order:
    """Whether `a` is higher or lower than `b`: unclear where their intervals overlap or touch."""
    if a.low > b.high:
        return "higher"
    return "lower" if a.high < b.low else "unclear"


class Proportion(Record):
    """A share of `n` images with its 95 % Wilson score interval.

    Examples
    --------
    >>> nb.measure.Proportion.of(torch.tensor([True, True, False, True])).value
    0.75
    """

    value: float = Field(ge=0, le=1, description="the share that was seen")
    low: float = Field(ge=0, le=1, description="of its 95 % Wilson interval")
    high: float = Field(ge=0, le=1, description="of its 95 % Wilson interval")
    n: int = Field(ge=1, description="of how many")

    def __str__(self) -> str:
        return quoted(self)

    @classmethod
    def of(cls, hits: Tensor) -> Proportion:
        """The share of true values in a boolean tensor of shape (n,)."""
        return wilson(int(hits.sum()), hits.numel())


def against_chance(measured: Proportion, chance: float) -> Order:
    """Whether a share is above or below `chance`, the share that guessing gives: by the exact test, two-sided at 5 %.

    It is above if the lower end of the interval of Clopper and Pearson (1934) is: guessing then gives as many hits or
    more in at most 2.5 % of the cases, however few the images. Wilson's interval, which is right on average over all
    levels, leaves out a small one more often: 2 hits of 20 at one in 43. A balanced accuracy is taken for the share of
    so many images of one class as have the same interval, at most all (as Korn and Graubard 1998 count images of
    unequal weight).

    Examples
    --------
    >>> [nb.measure.against_chance(nb.measure.wilson(hits, 20), 1 / 43) for hits in (2, 3)]
    ['unclear', 'higher']
    """
    value, n = measured.value, measured.n
    if _exact(value, measured.low, n) > chance:
        return "higher"
    return "lower" if 1 - _exact(1 - value, 1 - measured.high, n) < chance else "unclear"


def _exact(value: float, low: float, most: int) -> float:
    """The lower end of Clopper and Pearson's interval of a share whose Wilson interval has the lower end `low`.

    It is that of `most` images, or of fewer.
    """
    if not 0 < low < value:  # no hit; or without an interval
        return low
    n = min(most, Z95**2 * low * (1 - low) / (value - low) ** 2)  # Wilson's equation, solved for their number
    return float(scipy.stats.beta.ppf(0.025, value * n, (1 - value) * n + 1))


def score_of(balanced: Iterable[Proportion | None]) -> Score:
    """What decides: balanced accuracy where it was measured, as classes differ in size."""
    return "balanced accuracy" if any(balanced) else "accuracy"


class Difference(Record):
    """One proportion less another, with a 95 % interval.

    Examples
    --------
    >>> found = nb.measure.Difference.of(nb.measure.wilson(9, 10), nb.measure.wilson(5, 10))
    >>> round(found.value, 3)
    0.4
    """

    value: float = Field(ge=-1, le=1, description="the first minus the second")
    low: float = Field(ge=-1, le=1, description="of its 95 % interval")
    high: float = Field(ge=-1, le=1, description="of its 95 % interval")
    paired: bool = Field(
        False,
        description="whether the interval takes each image's outcomes, of both on the same images; else it is that of "
        "independent images, as in studies of older versions",
    )
    score: Score = Field("accuracy", description="of which it is: balanced where classes differ in size")

    def __str__(self) -> str:
        """In percentage points: `63.6 (57.5 to 68.8)`."""
        return points(self.value, self.low, self.high)

    @property
    def side(self) -> Literal["more", "less", "unclear"]:
        """Whether the first is more or less than the second: unclear where the interval contains 0."""
        return "more" if self.low > 0 else "less" if self.high < 0 else "unclear"

    @property
    def size(self) -> str:
        """How far apart the two are, in percentage points, without a sign where the side is clear."""
        if self.side == "less":
            return points(-self.value, -self.high, -self.low)
        return str(self)

    @classmethod
    def of(
        cls, first: Proportion, second: Proportion, *, correlation: float | None = None, score: Score = "accuracy"
    ) -> Difference:
        """`first` less `second`, from the intervals of the two (Newcombe 1998: square and add).

        Without `correlation` the interval is that of independent samples. Where both were measured on the same images
        it is too wide if they tend to be right on the same ones, as classifiers do, and too short if on different ones:
        `paired` and `paired_difference` take each image's outcomes.
        """
        value = first.value - second.value
        down, up = first.value - first.low, first.high - first.value
        other_down, other_up = second.value - second.low, second.high - second.value
        below, above = (
            math.sqrt(max(0.0, one**2 - 2 * (correlation or 0.0) * one * other + other**2))
            for one, other in ((down, other_up), (up, other_down))
        )
        low, high = max(-1.0, value - below), min(1.0, value + above)
        return cls(value=value, low=low, high=high, paired=correlation is not None, score=score)


class Mean(Record):
    """A mean over images with its 95 % bootstrap interval.

    Examples
    --------
    >>> nb.measure.Mean.of(torch.tensor([1.0, 2.0, 3.0])).value
    2.0
    """

    value: float = Field(description="the mean")
    low: float = Field(description="of its 95 % interval")
    high: float = Field(description="of its 95 % interval")
    n: int = Field(ge=1, description="over how many")

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"

    @classmethod
    def of(cls, values: Tensor, seed: int = 0) -> Mean:
        """Of a tensor of shape (n,), with the percentile interval of `RESAMPLES` bootstrap samples."""
        if values.numel() < 2 or bool((values == values[0]).all()):  # nothing to draw from
            mean = float(values.double().mean())
            return cls(value=mean, low=mean, high=mean, n=len(values))
        confidence_interval = scipy.stats.bootstrap(
            (values.double().cpu().numpy(),),
            np.mean,
            n_resamples=RESAMPLES,
            method="percentile",
            batch=100,
            rng=np.random.default_rng(derive(seed, "bootstrap")),
        ).confidence_interval
        return cls(
            value=float(values.double().mean()),
            low=float(confidence_interval.low),
            high=float(confidence_interval.high),
            n=len(values),
        )


class Spread(Record):
    """How a quantity is distributed over the images of a set.

    Examples
    --------
    >>> nb.measure.Spread.of(torch.tensor([1.0, 2.0, 3.0])).median
    2.0
    """

    mean: float = Field(description="the mean")
    median: float = Field(description="the median")
    p95: float = Field(description="95th percentile")
    max: float = Field(description="the largest")

    @classmethod
    def of(cls, values: Tensor) -> Spread:
        """Summarise a tensor of shape (n,)."""
        values = values.double()
        ordered = values.sort().values  # torch.quantile takes at most 16 million values
        last = len(ordered) - 1
        return cls(
            mean=float(values.mean()),
            median=float((ordered[last // 2] + ordered[(last + 1) // 2]) / 2),
            p95=float(ordered[math.ceil(0.95 * last)]),
            max=float(ordered[last]),
        )


def wilson(hits: int, n: int) -> Proportion:
    """`hits` of `n` with the 95 % Wilson score interval (Wilson 1927, equation 3).

    Raises
    ------
    InputError
        If `n` is below 1, or `hits` is not between 0 and `n`.

    Examples
    --------
    >>> str(nb.measure.wilson(8, 10))
    '80.0% (49.0 to 94.3)'
    """
    if n < 1 or not 0 <= hits <= n:
        raise InputError(f"The 'hits' must be between 0 and 'n', and 'n' at least 1. Got {hits} of {n} instead.")
    ends = scipy.stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    return Proportion(value=hits / n, low=float(ends.low), high=float(ends.high), n=n)
