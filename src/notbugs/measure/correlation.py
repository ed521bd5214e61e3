"""How closely two quantities go together over a handful of things, and how little a handful says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.errors import InputError, must
from notbugs.seeds import generator

RESAMPLES = 10_000


class Correlation(BaseModel):
    """Pearson's and Spearman's correlation with 95 % intervals; null where the points have none.

    Fisher's interval takes the points for a draw from a bivariate Gaussian, and needs four. The bootstrap assumes no
    shape, but a tenth of the resamples of five points hold only two different ones, whose correlation is 1 or -1: its
    interval is too narrow where all points rise together, and says nothing elsewhere. Of five, both are rough guides.
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
        interval = f"[{self.low:.2f}, {self.high:.2f}]" if self.low is not None else "no interval"
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
        If the two differ in length, hold fewer than three values, or one that is not finite; or scipy is missing.
    """
    stats = _scipy_stats()
    if len(first) != len(second) or len(first) < 3:
        raise must("second", "have as many values as the 'first', at least 3", (len(first), len(second)))
    if not all(map(math.isfinite, [*first, *second])):
        raise must("first and second", "be finite", (first, second))
    n = len(first)
    if len(set(first)) == 1 or len(set(second)) == 1:
        names = [name for name in Correlation.model_fields if name != "n"]
        return Correlation(n=n, **dict.fromkeys(names, None))  # pyrefly: ignore
    found = stats.pearsonr(first, second)
    fisher = found.confidence_interval(0.95) if n > 3 else (None, None)
    points = torch.tensor([first, second], dtype=torch.float64)
    drawn = points[:, torch.randint(n, (RESAMPLES, n), generator=generator(seed, "correlation"))]
    plain, ranked = _middle(_pearson(drawn)), _middle(_pearson(_ranks(stats.rankdata, drawn)))
    return Correlation(
        n=n,
        pearson=float(found.statistic),
        low=fisher[0],
        high=fisher[1],
        bootstrap_low=plain[0],
        bootstrap_high=plain[1],
        spearman=float(_pearson(_ranks(stats.rankdata, points))),
        spearman_low=ranked[0],
        spearman_high=ranked[1],
    )


def _ranks(rankdata: Callable[..., Any], points: Tensor) -> Tensor:
    return torch.from_numpy(rankdata(points.numpy(), axis=-1))


def _pearson(points: Tensor) -> Tensor:
    """Of `points`, shape (2, ..., n), along the last dimension; NaN where one does not vary."""
    centred = points - points.mean(-1, keepdim=True)
    varies = (points.amax(-1) > points.amin(-1)).all(0)  # a variance of 0 is rarely 0 in floating point
    length = centred.norm(dim=-1)
    return torch.where(varies, (centred[0] * centred[1]).sum(-1) / length.prod(0), torch.nan).clamp(-1, 1)


def _middle(values: Tensor) -> tuple[float, float]:
    """Between which the middle 95 % of the values are; a resample that does not vary has none and is left out."""
    low, high = values[~values.isnan()].quantile(torch.tensor([0.025, 0.975], dtype=values.dtype))
    return float(low), float(high)


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise InputError("Correlations need scipy. Install it with: pip install 'notbugs[measure]'") from None
    return stats
