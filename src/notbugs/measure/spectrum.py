"""What `results.json` holds of the usefulness of features."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.measure.accuracy import AttackUsed
from notbugs.threat import Norm

Kind = Literal["robust", "undecided", "nonrobust", "useless"]

KINDS: tuple[Kind, ...] = ("robust", "undecided", "nonrobust", "useless")
"""What a feature can be for a class. What it is as a whole is the first of these that it is for any class."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KindCounts(_Model):
    """How many there are of each kind."""

    robust: int = Field(ge=0)
    undecided: int = Field(ge=0, description="useful; gamma too near 0 to say")
    nonrobust: int = Field(ge=0)
    useless: int = Field(ge=0, description="not shown to be useful")


class SpectrumRow(_Model):
    """One feature, for its best class: of those for which it is of its kind, the one with the largest |rho|."""

    feature: int = Field(ge=0)
    best_class: int = Field(ge=0)
    kind: Kind = Field(description="of the feature as a whole")
    rho: float = Field(description="usefulness E[y f], y = 1 for the class and -1 for all others; signed")
    rho_low: float
    rho_high: float
    gamma: float = Field(description="robust usefulness E[min y f(x + d)], of -f where rho is negative; signed")
    gamma_low: float
    gamma_high: float
    flat: float = Field(ge=0, le=1, description="share of searched images at which no search moved the feature")


class UsefulnessSummary(_Model):
    """Features sorted by usefulness and robust usefulness. Intervals are 95 %, each by itself."""

    features: str = Field(description="which features")
    norm: Norm
    eps: float = Field(ge=0, description="radius, pixel units")
    attack: AttackUsed | None = Field(description="the search behind gamma; null: gamma is exact, but for the box")
    bound: Literal["upper", "lower"] = Field(description="what gamma is of the true value, apart from sampling")
    n: int = Field(ge=1, description="images of rho")
    n_searched: int = Field(ge=1, description="of these, images that were searched")
    min_rho: float = Field(ge=0, description="a feature is useful for a class if |rho| is surely above it")
    z: float = Field(description="standard errors of the intervals that sort: Bonferroni over features and classes")
    seed: int = Field(description="of the draw of the searched images")
    of_features: KindCounts
    of_pairs: KindCounts = Field(description="pairs of feature and class")
    spectrum: list[SpectrumRow]


def counts(kinds: Tensor) -> KindCounts:
    """Of a tensor of numbers in `KINDS`."""
    return KindCounts(**{kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)})
