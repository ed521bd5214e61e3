"""What the theory accepts: float64 tensors, checked once, with one clear error that names the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import must

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
