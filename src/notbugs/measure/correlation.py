"""How closely two quantities go together over a handful of things, and how little a handful says."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from notbugs.errors import must
from notbugs.seeds import derive

RESAMPLES = 10_000


class Correlation(BaseModel):
    """Pearson's and Spearman's correlation with 95 % intervals; null where the points have none.

    Fisher's interval takes the points for a draw from a bivariate Gaussian, and needs four. The bootstrap assumes no
    shape, but a tenth of the resamples of five points hold only two different ones, whose correlation is 1 or -1: its
    interval is too narrow where all points rise together, and says nothing elsewhere. Of five, both are rough guides.

    Examples
    --------
    >>> found = nb.measure.correlation([1, 2, 3, 4], [2, 4, 6, 9])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=3, description="points")
    pearson: float | None = Field(description="null where one of the quantities is the same everywhere")
    low: float | None = Field(description="Fisher's interval of Pearson's; null for fewer than 4 points")
    high: float | None
    bootstrap_low: float | None = Field(description="percentile bootstrap over the points, of Pearson's")
    bootstrap_high: float | None
    spearman: float | None = Field(description="Pearson's of the ranks")
    spearman_low: float | None = Field(description="percentile bootstrap over the points")
    spearman_high: float | None

    def __str__(self) -> str:
        if self.pearson is None:
            return f"no correlation to speak of: one quantity does not vary, n={self.n}"
        interval = f"({self.low:.2f} to {self.high:.2f})" if self.low is not None else "no interval"
        return f"r = {self.pearson:.2f} {interval}, rank {self.spearman:.2f}, n={self.n}"


def correlation(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Correlation:
    """The correlation of two quantities.

    Parameters
    ----------
    first, second : sequence of float
        One value for each point, at least three.
    seed : int
        Of the bootstrap's draws.

    Raises
    ------
    InputError
        If the two differ in length, hold fewer than three values, or one that is not finite.

    Examples
    --------
    >>> found = nb.measure.correlation([1, 2, 3, 4], [2, 4, 6, 9])
    """
    if len(first) != len(second) or len(first) < 3:
        raise must("second", "have as many values as the 'first', at least 3", (len(first), len(second)))
    if not all(map(math.isfinite, [*first, *second])):
        raise must("first and second", "be finite", (first, second))
    n = len(first)
    if len(set(first)) == 1 or len(set(second)) == 1:
        names = [name for name in Correlation.model_fields if name != "n"]
        return Correlation(n=n, **dict.fromkeys(names, None))  # pyrefly: ignore
    found = scipy.stats.pearsonr(first, second)
    fisher = found.confidence_interval(0.95) if n > 3 else (None, None)
    plain = _resampled(_pearson, first, second, seed)
    ranked = _resampled(_spearman, first, second, seed)
    return Correlation(
        n=n,
        pearson=float(found.statistic),
        low=fisher[0],
        high=fisher[1],
        bootstrap_low=plain[0],
        bootstrap_high=plain[1],
        spearman=float(scipy.stats.spearmanr(first, second).statistic),
        spearman_low=ranked[0],
        spearman_high=ranked[1],
    )


Values = NDArray[np.float64]


def _pearson(first: Values, second: Values, axis: int = -1) -> Values:
    return scipy.stats.pearsonr(first, second, axis=axis).statistic


def _spearman(first: Values, second: Values, axis: int = -1) -> Values:
    return _pearson(*(scipy.stats.rankdata(values, axis=axis) for values in (first, second)), axis=axis)


def _resampled(
    statistic: Callable[..., Values], first: Sequence[float], second: Sequence[float], seed: int
) -> tuple[float, float]:
    """Between which the middle 95 % of the resamples are; one that does not vary has none and is left out."""
    draws, points = np.random.default_rng(derive(seed, "correlation")), np.array([first, second], np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the resamples that do not vary
        drawn = scipy.stats.bootstrap(
            points, statistic, paired=True, n_resamples=RESAMPLES, method="percentile", rng=draws
        ).bootstrap_distribution
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)
