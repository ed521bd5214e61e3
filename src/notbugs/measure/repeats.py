"""One quantity over several seeds."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence

import scipy
from pydantic import BaseModel, ConfigDict, Field

from notbugs.errors import check_number, must


class OverSeeds(BaseModel):
    """Mean and spread over seeds; with one seed there is neither spread nor interval.

    Examples
    --------
    >>> found = nb.measure.over_seeds([0.90, 0.92, 0.94])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    deviation: float | None = Field(description="standard deviation over seeds, n - 1 in the denominator")
    low: float | None = Field(description="of the mean's 95 % t interval")
    high: float | None
    n: int = Field(ge=1, description="seeds")

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.mean:.4g}, 1 seed"
        return f"{self.mean:.4g} ± {self.deviation:.2g} ({self.low:.4g} to {self.high:.4g}), {self.n} seeds"


class SeedDifference(BaseModel):
    """The mean of one recipe's seeds minus that of another's.

    Examples
    --------
    >>> found = nb.measure.welch([0.91, 0.92, 0.90], [0.85, 0.86, 0.84])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float
    low: float = Field(description="of its 95 % interval (Welch 1947)")
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.4g} ({self.low:+.4g} to {self.high:+.4g})"


def welch(first: Sequence[float], second: Sequence[float]) -> SeedDifference:
    """The difference of two means over seeds, with Welch's t interval: their spreads may differ.

    Parameters
    ----------
    first, second : sequence of float
        One value for each seed, at least two of each, taken as independent and about normal.

    Raises
    ------
    InputError
        If there are fewer, one is not finite.

    Examples
    --------
    >>> found = nb.measure.welch([0.91, 0.92, 0.90], [0.85, 0.86, 0.84])
    """
    if min(len(first), len(second)) < 2:
        raise must("values", "be at least two of each", (len(first), len(second)))
    difference = statistics.mean(_checked(first)) - statistics.mean(_checked(second))
    if not any(map(statistics.stdev, (first, second))):
        return SeedDifference(difference=difference, low=difference, high=difference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a side whose values do not differ
        low, high = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return SeedDifference(difference=difference, low=float(low), high=float(high))


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """Mean, standard deviation and the t interval of the mean.

    Parameters
    ----------
    values : sequence of float
        One for each seed, for instance robust accuracies of classifiers trained anew. The interval takes them as
        independent and about normal; it is over seeds, and not over other test images.

    Raises
    ------
    InputError
        If there is none, one is not finite.

    Examples
    --------
    >>> round(nb.measure.over_seeds([0.90, 0.92, 0.94]).mean, 3)
    0.92
    """
    if not len(values):
        raise must("values", "hold at least one, of one seed each", tuple(values))
    n, mean = len(values), statistics.mean(_checked(values))
    if n == 1:
        return OverSeeds(mean=mean, deviation=None, low=None, high=None, n=1)
    deviation = statistics.stdev(values)
    low, high = scipy.stats.t.interval(0.95, n - 1, mean, deviation / math.sqrt(n)) if deviation else (mean, mean)
    return OverSeeds(mean=mean, deviation=deviation, low=float(low), high=float(high), n=n)


def _checked(values: Sequence[float]) -> list[float]:
    return [check_number("values", value, low=-math.inf) for value in values]
