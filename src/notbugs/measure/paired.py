"""Two classifiers on the same images: whether one is right more often."""

from __future__ import annotations

import math
from collections.abc import Sequence

import scipy
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.errors import check_number, must
from notbugs.formats import signed
from notbugs.measure.statistics import wilson


class PairedTest(BaseModel):
    """Two classifiers, image by image.

    Examples
    --------
    >>> first = torch.tensor([True] * 12 + [False] * 8)
    >>> found = nb.measure.paired(first, ~first)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=1)
    both: int = Field(ge=0, description="images that both get right")
    first_only: int = Field(ge=0)
    second_only: int = Field(ge=0)
    difference: float = Field(description="accuracy of the first minus that of the second")
    low: float = Field(description="of its 95 % interval (Newcombe 1998, method 10)")
    high: float
    p_value: float = Field(ge=0, le=1, description="McNemar's test, exact, two-sided")

    def __str__(self) -> str:
        difference, low, high = (signed(value, "-") for value in (self.difference, self.low, self.high))
        return f"{difference} points ({low} to {high}), p = {self.p_value:.2g}, n={self.n}"


def paired(first: Tensor, second: Tensor) -> PairedTest:
    """Test whether two classifiers are right equally often, from the images on which one alone is right.

    If they were, each of these would be the first's or the second's with probability 1/2: the exact test of McNemar
    (1947).

    Parameters
    ----------
    first, second : Tensor
        Shape (n,), bool: whether each is right about an image, the same images in the same order. For instance
        `Outcome.survived` of `outcomes`.

    Raises
    ------
    InputError
        If the two have other shapes or types.

    Examples
    --------
    >>> first = torch.tensor([True] * 12 + [False] * 8)
    >>> second = torch.tensor([False] * 12 + [False] * 8)
    >>> found = nb.measure.paired(first, second)
    >>> found.difference
    0.6
    """
    if first.ndim != 1 or first.shape != second.shape or not first.dtype == second.dtype == torch.bool:
        rule = f"be boolean of shape (n,), as the 'first', {tuple(first.shape)} of {first.dtype}"
        raise must("second", rule, f"{tuple(second.shape)} of {second.dtype}")
    n, both = len(first), int((first & second).sum())
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = first_only + second_only
    low, high = _interval(both, first_only, second_only, n)
    return PairedTest(
        n=n,
        both=both,
        first_only=first_only,
        second_only=second_only,
        difference=(first_only - second_only) / n,
        low=low,
        high=high,
        p_value=float(scipy.stats.binomtest(first_only, discordant).pvalue) if discordant else 1.0,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several tests, each raised so far that all may be read together (Holm 1979).

    Where none of the hypotheses is false, the chance that any of them comes out below 0.05 is at most 0.05, however
    the tests depend on each other.

    Parameters
    ----------
    p_values : sequence of float
        One for each test, in [0, 1].

    Raises
    ------
    InputError
        If one is not in [0, 1].

    Examples
    --------
    >>> [round(p, 3) for p in nb.measure.holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    for value in p_values:
        if check_number("p_values", value) > 1:
            raise must("p_values", "be between 0 and 1", value)
    found, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, (len(p_values) - rank) * p_values[place])
        found[place] = min(1.0, largest)
    return found


def _interval(both: int, first_only: int, second_only: int, n: int) -> tuple[float, float]:
    """Of the difference of two paired shares, from the Wilson intervals of the two and their correlation."""
    first, second = wilson(both + first_only, n), wilson(both + second_only, n)
    phi = _correlation(both, first_only, second_only, n)
    difference = (first_only - second_only) / n

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    low = difference - distance(first.value - first.low, second.high - second.value)
    high = difference + distance(first.high - first.value, second.value - second.low)
    return max(-1.0, low), min(1.0, high)


def _correlation(both: int, first_only: int, second_only: int, n: int) -> float:
    """Of the two, with Newcombe's correction towards 0 where it is positive."""
    neither = n - both - first_only - second_only
    margins = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    if not margins:
        return 0.0
    excess = both * neither - first_only * second_only
    return (max(excess - n / 2, 0) if excess > 0 else excess) / math.sqrt(margins)
