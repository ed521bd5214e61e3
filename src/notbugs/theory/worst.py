"""The strongest adversary of a Gaussian, exactly: a trust-region problem for each sample, solved in a batch.

Maximise (v + delta)^T S^-1 (v + delta) over ||delta||_2 <= radius (Section 4; Lemma 1). The objective is
convex, so the maximum lies on the sphere; in the eigenbasis of S, delta_i = a_i v_i / (eta + b_i), where a_i
= s_min / s_i is the precision relative to the largest, b_i = 1 - a_i, and eta >= 0 is the multiplier's
distance above its pole, lambda = (1 + eta) / s_min. The secular equation ||delta|| = radius has one root; its
left side inverted is concave and rising in eta, so Newton's method from a lower bound climbs to the root and
never passes it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

RADIUS_TOLERANCE = 1e-13
"""Relative error of ||delta|| at which the secular equation counts as solved; delta is then put on it."""

_MAX_STEPS = 100


def worst_perturbation(
    residuals: Float[Tensor, "*batch n dim"], covariance: Float[Tensor, "*batch dim dim"], radius: float
) -> Float[Tensor, "*batch n dim"]:
    """The perturbation in the l2 ball that most raises a Gaussian's negative log-likelihood, for each sample.

    In the hard case (no component along the least-variance direction, and too little length without one),
    what is missing is added along that direction; either sign is optimal, and the positive one is taken.

    Parameters
    ----------
    residuals : Tensor, shape (*batch, n, dim)
        v = x - mean, one row a sample.
    covariance : Tensor, shape (*batch, dim, dim)
        The Gaussian's covariance, symmetric and positive definite.
    radius : float
        l2 radius, in units of the inputs, at least 0.

    Returns
    -------
    Tensor, shape (*batch, n, dim)
        delta, of length `radius`.

    Examples
    --------
    >>> residuals = torch.ones(3, 2, dtype=torch.float64)
    >>> moved = nb.theory.worst_perturbation(residuals, torch.eye(2, dtype=torch.float64), radius=0.5)
    >>> [round(length, 6) for length in moved.norm(dim=1).tolist()]
    [0.5, 0.5, 0.5]
    """
    variances, basis = torch.linalg.eigh(covariance)
    if radius == 0:
        return torch.zeros_like(residuals)
    coordinates = residuals @ basis
    eta = secular_shift(coordinates, variances[..., None, :], radius)
    precision, gap = _relative(variances[..., None, :])
    delta = _quotient(precision * coordinates, eta[..., None] + gap)
    missing = (radius**2 - (delta**2).sum(-1)).clamp(min=0).sqrt()
    first = torch.where(eta > 0, delta[..., 0], delta[..., 0] + missing)
    delta = torch.cat([first[..., None], delta[..., 1:]], dim=-1)
    delta = delta * (radius / delta.norm(dim=-1, keepdim=True))
    return delta @ basis.mT


def secular_shift(
    coordinates: Float[Tensor, "*batch dim"], variances: Float[Tensor, "*#batch dim"], radius: float
) -> Float[Tensor, "*batch"]:
    """The multiplier's distance above its pole, eta = lambda s_min - 1, at which ||delta|| is `radius`.

    Zero in the hard case. `variances` are ascending; given root-mean-square coordinates in place of one
    sample's, it solves the relaxed adversary's problem (Lemma 2), whose one map is delta_i / v_i.
    """
    precision, gap = _relative(variances)
    pull = (precision * coordinates).detach()
    gaps = gap.expand(pull.shape)
    # Coordinates first, and in NumPy: many operations on small arrays, which cost torch two or three times as much.
    columns = [np.ascontiguousarray(part.reshape(-1, part.shape[-1]).T.numpy()) for part in (pull, gaps)]
    return torch.from_numpy(_solved(columns[0], columns[1], radius)).view(pull.shape[:-1])


def _solved(pull: np.ndarray, gap: np.ndarray, radius: float) -> np.ndarray:
    """The shift of every column, by Newton's method on those that are not there yet."""
    with np.errstate(over="ignore", invalid="ignore"):  # near the pole: an infinite slope, and a step of 0
        return _climbed(pull, gap, radius)


def _climbed(pull: np.ndarray, gap: np.ndarray, radius: float) -> np.ndarray:
    eta = (np.abs(pull) / radius - gap).max(0).clip(min=0)
    left, now = np.arange(len(eta)), eta.copy()
    for _ in range(_MAX_STEPS):
        bottom = now + gap
        square = np.divide(pull, bottom, out=np.zeros_like(pull), where=pull != 0) ** 2
        length = square.sum(0)
        ratio = np.sqrt(length) / radius - 1
        curvature = np.divide(square, bottom, out=np.zeros_like(pull), where=square != 0)
        step = np.divide(ratio * length, curvature.sum(0), out=np.zeros_like(ratio), where=ratio > RADIUS_TOLERANCE)
        now = now + step
        eta[left] = now
        going = ratio > RADIUS_TOLERANCE
        if not going.any():
            break
        if going.sum() < 0.5 * len(going):
            left, now, pull, gap = left[going], now[going], pull[:, going], gap[:, going]
    return eta


def _relative(variances: Tensor) -> tuple[Tensor, Tensor]:
    """Precision relative to the largest, and how far it falls short of it, without cancellation."""
    least = variances[..., :1]
    return least / variances, (variances - least) / variances


def _quotient(top: Tensor, bottom: Tensor) -> Tensor:
    """top / bottom, and 0 where the top is 0 (so that 0 / 0 at the pole is the limit)."""
    return torch.where(top == 0, torch.zeros_like(top), top / bottom)
