"""Linear classifiers under attack; what the theory accepts, and measured numbers as it gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import scipy
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from notbugs.errors import check_choice, must
from notbugs.measure.statistics import wilson


@dataclass(frozen=True)
class Estimate:
    """A value measured on `n` independent draws, with its 95 % interval from `low` to `high`.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> found = nb.theory.theorem1_simulation(pair, 4.0, 1000, torch.Generator().manual_seed(0))
    >>> found.low < found.high
    True
    """

    value: float
    low: float
    high: float
    n: int

    def holds(self, truth: float) -> bool:
        """Whether `truth` lies in the interval."""
        return self.low <= truth <= self.high


def share(hits: Shaped[Tensor, " n"]) -> Estimate:
    """The share of true entries, with its Wilson score interval."""
    share = wilson(int(hits.sum()), len(hits))
    return Estimate(share.value, share.low, share.high, share.n)


def average(draws: Float[Tensor, " n"]) -> Estimate:
    """The mean of at least two draws, with its interval from Student's t distribution."""
    n = len(draws)
    if n < 2:
        raise must("draws", "hold at least two values, or there is no interval", n)
    mean, error = draws.mean().item(), draws.std().item() / math.sqrt(n)
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, n)


ArrayLike = Tensor | Sequence[Any]
"""A tensor, or nested lists of numbers."""

_SYMMETRY = 1e-10
_EPSILON = torch.finfo(torch.float64).eps


def as_vector(name: str, value: ArrayLike) -> Float[Tensor, " dim"]:
    """`value` as a finite float64 vector, else `InputError`."""
    vector = torch.as_tensor(value, dtype=torch.float64)
    if vector.ndim != 1 or not len(vector):
        raise must(name, "be a vector with at least one entry", tuple(vector.shape), "That is its shape.")
    return _finite(name, vector)


def as_rows(name: str, value: ArrayLike, dim: int | None = None) -> Float[Tensor, "n dim"]:
    """`value` as a finite float64 matrix with one row a sample (of `dim` columns), else `InputError`."""
    rows = torch.as_tensor(value, dtype=torch.float64)
    if rows.ndim != 2 or not rows.numel() or dim not in (None, rows.shape[1]):
        columns = "at least one column" if dim is None else f"{dim} columns"
        raise must(name, f"be a matrix with one row a sample and {columns}", tuple(rows.shape), "That is its shape.")
    return _finite(name, rows)


def as_signs(name: str, value: ArrayLike, n: int) -> Float[Tensor, " n"]:
    """`value` as `n` labels, each +1 or -1, else `InputError`."""
    signs = torch.as_tensor(value, dtype=torch.float64)
    if tuple(signs.shape) != (n,):
        raise must(name, f"have one entry for each of the {n} samples", tuple(signs.shape), "That is its shape.")
    wrong = signs[signs.abs() != 1]
    if len(wrong):
        raise must(name, "hold only +1 and -1", wrong[0].item())
    return signs


def as_covariance(
    name: str, value: ArrayLike, dim: int
) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
    """`value` as a covariance of `dim` dimensions with eigenvalues (ascending) and eigenvectors (columns).

    Symmetric to one part in 10^10 of its largest entry, and positive definite beyond what rounding could
    fake.
    """
    matrix = torch.as_tensor(value, dtype=torch.float64)
    if tuple(matrix.shape) != (dim, dim):
        raise must(name, f"be a {dim} x {dim} matrix, as the mean has {dim} entries", tuple(matrix.shape))
    _finite(name, matrix)
    asymmetry = (matrix - matrix.mT).abs().max().item()
    if asymmetry > _SYMMETRY * matrix.abs().max().item():
        raise must(name, "be symmetric", asymmetry, "That is the largest difference between mirrored entries.")
    matrix = (matrix + matrix.mT) / 2
    eigenvalues, eigenvectors = torch.linalg.eigh(matrix)
    least = eigenvalues[0].item()
    if least <= dim * _EPSILON * eigenvalues[-1].abs().item():
        raise must(name, "be positive definite", least, "That is its smallest eigenvalue.")
    return matrix, eigenvalues, eigenvectors


def as_eigenvalues(name: str, value: ArrayLike) -> Float[Tensor, " dim"]:
    """`value` as a vector of positive numbers, else `InputError`."""
    vector = as_vector(name, value)
    if vector.min() <= 0:
        raise must(name, "be positive", vector.min().item(), "That is the smallest.")
    return vector


def _finite(name: str, tensor: Tensor) -> Tensor:
    wrong = tensor[~torch.isfinite(tensor)]
    if len(wrong):
        raise must(name, "hold finite numbers only", wrong[0].item())
    return tensor


Norm = Literal["l2", "linf"]


@dataclass(frozen=True)
class LinearClassifier:
    """Predicts +1 where x . direction + bias is positive, else -1; the direction is its input gradient.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> rule = pair.classifier
    """

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

    Examples
    --------
    >>> nb.theory.TwoGaussians([1.0, 0.0], [[3.0, 0.0], [0.0, 3.0]]).metric_gap.condition
    1.0
    """

    condition: float
    cosine: float
    spread: float
