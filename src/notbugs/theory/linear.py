"""Linear classifiers under attack, and the two metrics they are caught between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import check_choice

Norm = Literal["l2", "linf"]


@dataclass(frozen=True)
class LinearClassifier:
    """Predicts +1 where x . direction + bias is positive, else -1; the direction is its input gradient."""

    direction: Float[Tensor, " dim"]
    bias: float = 0.0

    def scores(self, inputs: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """x . direction + bias, for each row."""
        return inputs @ self.direction + self.bias

    def worst_step(self, radius: float, norm: Norm = "l2") -> Float[Tensor, " dim"]:
        """The perturbation within the ball that most lowers the score; its negative most raises it."""
        check_choice("norm", norm, ("l2", "linf"))
        if norm == "linf":
            return -radius * self.direction.sign()
        return -radius * self.direction / self.direction.norm().clamp(min=torch.finfo(torch.float64).tiny)


@dataclass(frozen=True)
class MetricGap:
    """How far the metric the data induces, S^-1, is from the adversary's l2 metric, up to a common factor.

    `condition`: largest over smallest ratio of the two squared lengths. `cosine`: the smallest cosine between
    a vector and its image under S^-1 (Theorem 3, Lemma 8). `spread`: the affine-invariant distance between
    the two, the root of the summed squares of the log eigenvalues about their mean. No gap: 1, 1 and 0.
    """

    condition: float
    cosine: float
    spread: float
