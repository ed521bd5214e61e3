"""rho and gamma of pairs of feature and class: standardised features, kinds, errors, and their summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import scipy
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from notbugs.data import Images
from notbugs.measure.accuracy import AttackUsed
from notbugs.measure.features import FeatureMap, feature_values
from notbugs.measure.statistics import Z95
from notbugs.records import Record
from notbugs.threat import Norm

Values = Float[Tensor, "image f"]

CONSTANT = 1e-6
"""Share of its mean below which a feature's standard deviation is rounding."""


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and standard deviation of every feature, shape (f,), float64; a deviation of 0 marks a constant feature."""

    mean: Float[Tensor, " f"]
    std: Float[Tensor, " f"]

    @property
    def varies(self) -> Bool[Tensor, " f"]:
        """Which features are not constant."""
        return self.std > 0

    @property
    def scale(self) -> Float[Tensor, " f"]:
        """One over the deviation; 0 for constant features."""
        return torch.where(self.varies, 1 / self.std.where(self.varies, 1.0), 0.0)

    def __call__(self, values: Values) -> Values:
        """Values standardised, float64; those of constant features are 0."""
        return (values.double() - self.mean) * self.scale

    @classmethod
    def over(cls, source: FeatureMap, images: Images, *, batch: int = 500) -> Standard:
        """Of the features of these images, a part at a time (Chan et al. 1979)."""
        size, mean, square = 0, torch.zeros(()), torch.zeros(())
        for first in range(0, len(images), 10 * batch):
            part = feature_values(source, images.subset(slice(first, first + 10 * batch)), batch=batch).double()
            joint = size + len(part)
            change = part.mean(0) - mean
            square = square + (part - part.mean(0)).square().sum(0) + change.square() * (size * len(part) / joint)
            mean = mean + change * (len(part) / joint)
            size = joint
        std = (square / size).sqrt()
        return cls(mean, std.where(std > CONSTANT * mean.abs(), 0.0))


Kind = Literal["robust", "undecided", "nonrobust", "useless"]

KINDS: tuple[Kind, ...] = ("robust", "undecided", "nonrobust", "useless")
"""What a feature can be for a class. What it is as a whole is the first of these that it is for any class."""


class KindCounts(Record):
    """How many there are of each kind."""

    robust: int = Field(ge=0, description="useful, and gamma surely above 0")
    undecided: int = Field(ge=0, description="useful; gamma too near 0 to say")
    nonrobust: int = Field(ge=0, description="useful, and gamma surely below 0")
    useless: int = Field(ge=0, description="not shown to be useful")


class SpectrumRow(Record):
    """One feature, for its best class: of those for which it is of its kind, the one with the largest |rho|."""

    feature: int = Field(ge=0, description="its number")
    best_class: int = Field(ge=0, description="the class it is shown for")
    kind: Kind = Field(description="of the feature as a whole")
    rho: float = Field(description="usefulness E[y f], y = 1 for the class and -1 for all others; signed")
    rho_low: float = Field(description="lower end of rho's interval")
    rho_high: float = Field(description="upper end of rho's interval")
    gamma: float = Field(description="robust usefulness E[min y f(x + d)], of -f where rho is negative; signed")
    gamma_low: float = Field(description="lower end of gamma's interval")
    gamma_high: float = Field(description="upper end of gamma's interval")
    flat: float = Field(ge=0, le=1, description="share of searched images at which no search moved the feature")


class UsefulnessSummary(Record):
    """Features sorted by usefulness and robust usefulness. Intervals are 95 %, each by itself.

    Examples
    --------
    >>> found = nb.usefulness(classifier, data.train, images, nb.L2(0.5), steps=2)
    >>> summary = found.summary()
    >>> len(summary.spectrum)
    8
    """

    features: str = Field(description="which features")
    norm: Norm = Field(description="of the threat")
    eps: float = Field(ge=0, description="radius, pixel units")
    attack: AttackUsed | None = Field(description="the search behind gamma; null: gamma is exact, but for the box")
    bound: Literal["upper", "lower"] = Field(description="what gamma is of the true value, apart from sampling")
    n: int = Field(ge=1, description="images of rho")
    n_searched: int = Field(ge=1, description="of these, images that were searched")
    min_rho: float = Field(ge=0, description="a feature is useful for a class if |rho| is surely above it")
    z: float = Field(
        description="standard errors of the intervals that sort, for gamma at this level by Student: Bonferroni over "
        "features and classes"
    )
    seed: int = Field(description="of the draw of the searched images")
    of_features: KindCounts = Field(description="features by kind")
    of_pairs: KindCounts = Field(description="pairs of feature and class")
    spectrum: list[SpectrumRow] = Field(description="of the features, in their order")


def counts(kinds: Tensor) -> KindCounts:
    """Of a tensor of numbers in `KINDS`."""
    return KindCounts(**{kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)})


Table = Float[Tensor, "f c"]
Searched = Float[Tensor, "searched f"]


@dataclass(frozen=True)
class Pairs:
    """Estimates for every pair of feature and class, with their standard errors; tables of shape (feature, class)."""

    rho: Table
    rho_error: Table
    gamma: Table
    gamma_error: Table
    searched: int

    def intervals(self) -> dict[str, Table]:
        """Each estimate with the ends of its 95 % interval, by name."""
        reach = {"rho": Z95 * self.rho_error, "gamma": student(Z95, self.searched) * self.gamma_error}
        return {
            f"{name}{end}": getattr(self, name) + sign * width
            for name, width in reach.items()
            for end, sign in (("", 0), ("_low", -1), ("_high", 1))
        }

    def sorted(self, z: float, min_rho: float) -> Int[Tensor, "f c"]:
        """The kind of every pair, its number in `KINDS`, by intervals of `z` standard errors; for gamma, by Student."""
        width = student(z, self.searched) * self.gamma_error
        useful = self.rho.abs() - z * self.rho_error > min_rho
        kind = torch.full_like(self.rho, KINDS.index("useless"), dtype=torch.int64)
        kind[useful] = KINDS.index("undecided")
        kind[useful & (self.gamma - width > 0)] = KINDS.index("robust")
        kind[useful & (self.gamma + width < 0)] = KINDS.index("nonrobust")
        return kind


def pairs(
    values: Values,
    low: Searched,
    high: Searched,
    signs: Float[Tensor, "image c"],
    index: Int[Tensor, " searched"],
) -> Pairs:
    """rho over all images; gamma as |rho| plus the mean change over those at `index`.

    `values` are standardised features of all images, `low` and `high` their extremes for those at `index`, and `signs`,
    shape (image, class), the labels one against all others.

    rho is the covariance of sign and feature: of more than two classes the mean sign is not 0, and a feature whose mean
    over these images is not that of the training images would seem to go with every class. How many images a class
    has is taken as given, so that errors are of the spread within a class and the others; with the shares p and q of
    the two, Var(rho) = 4 p q (q Var(f | class) + p Var(f | others)) / n.
    Var(gamma) = Var(worst) / n + Var(change) (1 / m - 1 / n), the searched m being a random part of all n (two-phase
    sampling; Cochran 1977, section 12.6).
    """
    n, m = len(values), len(index)
    even = signs - signs.mean(0)
    rho = values.T @ even / n
    means, spread = _within(values, signs)
    weights = torch.stack([((1 + side * signs) / 2).mean(0) * (side - signs.mean(0)).square() for side in (-1, 1)])
    rho_error = ((weights[:, None] * spread).sum(0) / n).sqrt()
    gamma, gamma_error = torch.empty_like(rho), torch.empty_like(rho)
    flips = torch.where(rho < 0, -1.0, 1.0).to(rho)
    for label, sign in enumerate(signs[index].T):
        turned = sign[:, None] * flips[:, label]
        change = torch.where(turned > 0, low, -high) - turned * values[index]
        mean = torch.where(sign[:, None] > 0, means[1, :, label], means[0, :, label])
        worst = change + even[index, label][:, None] * flips[:, label] * (values[index] - mean)
        gamma[:, label] = rho[:, label].abs() + change.mean(0)
        gamma_error[:, label] = (worst.var(0) / n + change.var(0) * (1 / m - 1 / n)).sqrt()
    return Pairs(rho, rho_error, gamma, gamma_error, m)


def _within(values: Values, signs: Float[Tensor, "image c"]) -> tuple[Tensor, Tensor]:
    """Mean and variance of every feature over the others (0) and over each class (1), shape (2, feature, class)."""
    members = torch.stack([(1 - signs) / 2, (1 + signs) / 2])
    counts = members.sum(1)[:, None]
    means = values.T @ members / counts.clamp_min(1)
    squares = values.square().T @ members - counts * means.square()
    spread = (squares / (counts - 1).clamp_min(1)).clamp_min(0)
    return means, torch.where(counts > 1, spread, spread.flip(0))  # one image has no spread: that of the rest


def student(z: float, searched: int) -> float:
    """The quantile of Student's distribution at the level of `z` of the normal one, of so many searched images."""
    return float(scipy.stats.t.isf(scipy.stats.norm.sf(z), searched - 1))
