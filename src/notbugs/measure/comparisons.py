"""Numbers held against each other: paired tests, differences over seeds, correlations."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from notbugs.errors import check_number, must
from notbugs.formats import signed
from notbugs.measure.statistics import Difference, Proportion, Score
from notbugs.measure.unbalanced import balanced
from notbugs.records import Record
from notbugs.seeds import derive


class PairedTest(Record):
    """Two classifiers, image by image.

    Examples
    --------
    >>> first = torch.tensor([True] * 12 + [False] * 8)
    >>> found = nb.measure.paired(first, ~first)
    """

    n: int = Field(ge=1, description="images that both classified")
    both: int = Field(ge=0, description="images that both get right")
    first_only: int = Field(ge=0, description="images that only the first gets right")
    second_only: int = Field(ge=0, description="images that only the second gets right")
    difference: float = Field(description="accuracy of the first minus that of the second")
    low: float = Field(description="of its 95 % interval (Newcombe 1998, method 10)")
    high: float = Field(description="upper end of the same interval")
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
    interval = paired_difference(first, second)
    return PairedTest(
        n=n,
        both=both,
        first_only=first_only,
        second_only=second_only,
        difference=(first_only - second_only) / n,
        low=interval.low,
        high=interval.high,
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
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, (len(p_values) - rank) * p_values[place])
        adjusted[place] = min(1.0, largest)
    return adjusted


def paired_difference(first: Tensor, second: Tensor, labels: Tensor | None = None) -> Difference:
    """The accuracy of one classifier less that of another on the same images, with an interval that knows it.

    It is Newcombe's for paired shares (1998, method 10): the Wilson intervals of the two, and their correlation over
    images. With `labels` both are balanced accuracies: the stratified Wilson intervals are put together in the same
    way (MOVER: Zou and Donner 2008), with the correlation of the two means over classes. Newcombe's correction of a
    positive correlation counts images as the mean over classes weighs them; of one class, both are the same.

    Parameters
    ----------
    first, second : Tensor
        Shape (n,), bool: whether each is right about an image.
    labels : Tensor, optional
        Shape (n,): the classes, where every one of them is to count the same.

    Examples
    --------
    >>> first = torch.tensor([True] * 12 + [False] * 8)
    >>> second = torch.tensor([False] * 12 + [False] * 8)
    >>> print(nb.measure.paired_difference(first, second))
    60.0 (33.3 to 78.1)
    """
    score = Proportion.of if labels is None else partial(balanced, labels=labels)
    name: Score = "accuracy" if labels is None else "balanced accuracy"
    correlation = _correlation(first, second, torch.zeros(len(first)) if labels is None else labels)
    return Difference.of(score(first), score(second), correlation=correlation, score=name)


def _correlation(first: Tensor, second: Tensor, labels: Tensor) -> float:
    """Of two means over classes of the shares that are right, with Newcombe's correction where it is positive."""
    both = torch.stack([first, second]).double()
    covariances = torch.zeros(2, 2, dtype=torch.double)
    inverse = 0.0  # of the number of images that say as much of a mean over classes, times the classes squared
    for label in labels.unique():
        inside = both[:, labels == label]
        covariances += inside.cov(correction=0) / inside.shape[1]
        inverse += 1 / inside.shape[1]
    classes = len(labels.unique())
    variance = float((covariances[0, 0] * covariances[1, 1]).sqrt()) / classes**2
    if not variance:
        return 0.0
    covariance = float(covariances[0, 1]) / classes**2
    return (max(covariance - (inverse / classes**2) ** 2 / 2, 0) if covariance > 0 else covariance) / variance


class OverSeeds(Record):
    """Mean and spread over seeds; one seed has neither spread nor interval, and seeds that all agree no interval.

    Examples
    --------
    >>> found = nb.measure.over_seeds([0.90, 0.92, 0.94])
    """

    mean: float = Field(description="over seeds")
    deviation: float | None = Field(description="standard deviation over seeds, n - 1 in the denominator")
    low: float | None = Field(description="of the mean's 95 % t interval; null where the seeds do not differ")
    high: float | None = Field(description="upper end of the same interval")
    n: int = Field(ge=1, description="seeds")

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.mean:.4g}, 1 seed"
        if self.low is None:
            return f"{self.mean:.4g} (no interval: all equal), {self.n} seeds"
        return f"{self.mean:.4g} ± {self.deviation:.2g} ({self.low:.4g} to {self.high:.4g}), {self.n} seeds"


class SeedDifference(Record):
    """The mean of one recipe's seeds minus that of another's; without interval where no seed differs from its own.

    Examples
    --------
    >>> found = nb.measure.welch([0.91, 0.92, 0.90], [0.85, 0.86, 0.84])
    """

    difference: float = Field(description="mean of the first minus mean of the second")
    low: float | None = Field(description="of its 95 % interval (Welch 1947); null where the seeds of neither differ")
    high: float | None = Field(description="upper end of the same interval")

    def __str__(self) -> str:
        interval = "no interval: all equal" if self.low is None else f"{self.low:+.4g} to {self.high:+.4g}"
        return f"{self.difference:+.4g} ({interval})"


def welch(first: Sequence[float], second: Sequence[float]) -> SeedDifference:
    """The difference of two means over seeds, with Welch's t interval: their spreads may differ.

    There is no interval where the values of each are all equal: they say nothing of how much seeds differ.

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
        return SeedDifference(difference=difference, low=None, high=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a side whose values do not differ
        low, high = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return SeedDifference(difference=difference, low=float(low), high=float(high))


def over_seeds(values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)) -> OverSeeds:
    """Mean, standard deviation and the t interval of the mean.

    There is no interval where all values are equal: they say nothing of how much seeds differ.

    Parameters
    ----------
    values : sequence of float
        One for each seed, for instance robust accuracies of classifiers trained again. The interval takes them as
        independent and about normal; it is over seeds, and not over other test images.
    within : tuple of float
        Between which a mean can be: (0, 1) for accuracies. The interval is cut off there.

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
    deviation = statistics.stdev(values) if n > 1 else None
    if not deviation:
        return OverSeeds(mean=mean, deviation=deviation, low=None, high=None, n=n)
    low, high = scipy.stats.t.interval(0.95, n - 1, mean, deviation / math.sqrt(n))
    low, high = max(within[0], float(low)), min(within[1], float(high))
    return OverSeeds(mean=mean, deviation=deviation, low=low, high=high, n=n)


def _checked(values: Sequence[float]) -> list[float]:
    return [check_number("values", value, low=-math.inf) for value in values]


CORRELATION_RESAMPLES = 10_000


class Correlation(Record):
    """Pearson's and Spearman's correlation with 95 % intervals; null where the points have none.

    Fisher's interval takes the points for a draw from a bivariate Gaussian, and needs four, not all on a line. The
    bootstrap assumes no shape, but a tenth of the resamples of five points hold only two different ones, whose
    correlation is 1 or -1: its interval is too narrow where all points rise together, and says nothing elsewhere. Of
    five, both are rough guides.

    Examples
    --------
    >>> found = nb.measure.correlation([1, 2, 3, 4], [2, 4, 6, 9])
    """

    n: int = Field(ge=3, description="points")
    pearson: float | None = Field(description="null where one of the quantities is the same everywhere")
    low: float | None = Field(
        description="Fisher's interval of Pearson's; null for fewer than 4 points, or all on a line"
    )
    high: float | None = Field(description="upper end of Fisher's interval")
    bootstrap_low: float | None = Field(description="percentile bootstrap over the points, of Pearson's")
    bootstrap_high: float | None = Field(description="upper end of the bootstrap's interval")
    spearman: float | None = Field(description="Pearson's of the ranks")
    spearman_low: float | None = Field(description="percentile bootstrap over the points")
    spearman_high: float | None = Field(description="upper end of the bootstrap's interval")

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
    pearson = scipy.stats.pearsonr(first, second)
    is_line = math.isclose(abs(pearson.statistic), 1)  # where Fisher's interval has no width
    fisher = (None, None) if n < 4 or is_line else pearson.confidence_interval(0.95)
    plain = _resampled(_pearson, first, second, seed)
    ranked = _resampled(_spearman, first, second, seed)
    return Correlation(
        n=n,
        pearson=float(pearson.statistic),
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
    return _pearson(*(scipy.stats.rankdata(sample, axis=axis) for sample in (first, second)), axis=axis)


def _resampled(
    statistic: Callable[..., Values], first: Sequence[float], second: Sequence[float], seed: int
) -> tuple[float, float]:
    """Between which the middle 95 % of the resamples are; one that does not vary has none and is left out."""
    draws, points = np.random.default_rng(derive(seed, "correlation")), np.array([first, second], np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the resamples that do not vary
        drawn = scipy.stats.bootstrap(
            points, statistic, paired=True, n_resamples=CORRELATION_RESAMPLES, method="percentile", rng=draws
        ).bootstrap_distribution
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)
