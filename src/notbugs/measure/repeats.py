"""One quantity over several seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from notbugs.errors import check_number, must
from notbugs.measure.statistics import scipy_stats


class OverSeeds(BaseModel):
    """Mean and spread over seeds; with one seed there is neither spread nor interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    deviation: float | None = Field(description="standard deviation over seeds, n - 1 in the denominator")
    low: float | None = Field(description="of the mean's 95 % t interval")
    high: float | None
    n: int = Field(ge=1, description="seeds")

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.mean:.4g}, 1 seed"
        return f"{self.mean:.4g} ± {self.deviation:.2g} [{self.low:.4g}, {self.high:.4g}], {self.n} seeds"


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
        If there is none, one is not finite, or SciPy is not installed.
    """
    if not len(values):
        raise must("values", "hold at least one, of one seed each", tuple(values))
    numbers = [check_number("values", value, low=-math.inf) for value in values]
    n, mean = len(numbers), math.fsum(numbers) / len(numbers)
    if n == 1:
        return OverSeeds(mean=mean, deviation=None, low=None, high=None, n=1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (n - 1))
    half = float(scipy_stats().t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return OverSeeds(mean=mean, deviation=deviation, low=mean - half, high=mean + half, n=n)
