"""A measured number with its 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor

from notbugs.errors import must
from notbugs.measure.statistics import Z95, wilson


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
    mean = draws.mean().item()
    half = student95(n - 1) * draws.std().item() / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def student95(freedom: int) -> float:
    """The 97.5 % point of Student's t distribution.

    Exact for 1 and 2 degrees of freedom; else Hill's inverse expansion in 1 / freedom (to 1e-3 from 3 on).
    """
    if freedom == 1:
        return 12.706204736174698
    if freedom == 2:
        return 4.302652729749462
    z, v = Z95, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v**power for power, term in enumerate(terms, start=1))
