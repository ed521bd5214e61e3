"""A measured number with its 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy
from jaxtyping import Float, Shaped
from torch import Tensor

from notbugs.errors import must
from notbugs.measure.statistics import wilson


@dataclass(frozen=True)
class Estimate:
    """A value measured on `n` independent draws, with its 95 % interval from `low` to `high`."""

    value: float
    low: float
    high: float
    n: int

    def holds(self, truth: float) -> bool:
        """Whether `truth` lies in the interval."""
        return self.low <= truth <= self.high


def share(hits: Shaped[Tensor, " n"]) -> Estimate:
    """The share of true entries, with its Wilson score interval."""
    found = wilson(int(hits.sum()), len(hits))
    return Estimate(found.value, found.low, found.high, found.n)


def average(draws: Float[Tensor, " n"]) -> Estimate:
    """The mean of at least two draws, with its interval from Student's t distribution."""
    n = len(draws)
    if n < 2:
        raise must("draws", "hold at least two values, or there is no interval", n)
    mean, error = draws.mean().item(), draws.std().item() / math.sqrt(n)
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, n)
