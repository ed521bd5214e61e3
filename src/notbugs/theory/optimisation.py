"""Robust maximum likelihood by optimisation, against the strongest adversary of a Gaussian.

Maximise (v + delta)^T S^-1 (v + delta) over ||delta||_2 <= radius (Section 4; Lemma 1). The objective is
convex, so the maximum lies on the sphere; in the eigenbasis of S, delta_i = a_i v_i / (eta + b_i), where a_i
= s_min / s_i is the precision relative to the largest, b_i = 1 - a_i, and eta >= 0 is the multiplier's
distance above its pole, lambda = (1 + eta) / s_min. The secular equation ||delta|| = radius has one root; its
left side inverted is concave and rising in eta, so Newton's method from a lower bound climbs to the root and
never passes it.

Two roads that do not use the closed form, to hold against it. `minimise_exact` takes a fixed sample and
minimises the paper's robust loss, with one trust-region adversary a sample, by a quasi-Newton method.
`adversarial_training` draws fresh samples at each step, attacks them, and takes a stochastic gradient step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import InputError, check_choice, check_count, check_number, must
from notbugs.theory.gaussians import RobustGaussians, TwoGaussians, maximum_likelihood
from notbugs.theory.linear import ArrayLike, as_rows, as_signs

RADIUS_TOLERANCE = 1e-13
"""Relative error of ||delta|| at which the secular equation counts as solved; delta is then put on it."""

_MAX_STEPS = 100


def worst_perturbation(
    residuals: Float[Tensor, "*batch n dim"], covariance: Float[Tensor, "*batch dim dim"], radius: float | Tensor
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
    radius : float or Tensor, shape (*batch)
        l2 radius, in units of the inputs, at least 0; one for all, or for each covariance.

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
    given, length = _lengths(radius, residuals)
    if not given.any():
        return torch.zeros_like(residuals)
    variances, basis = torch.linalg.eigh(covariance)
    coordinates = residuals @ basis
    eta = secular_shift(coordinates, variances[..., None, :], length[..., None])
    precision, gap = _relative(variances[..., None, :])
    delta = _quotient(precision * coordinates, eta[..., None] + gap)
    missing = (length[..., None] ** 2 - (delta**2).sum(-1)).clamp(min=0).sqrt()
    first = torch.where(eta > 0, delta[..., 0], delta[..., 0] + missing)
    delta = torch.cat([first[..., None], delta[..., 1:]], dim=-1)
    delta = delta * (length[..., None, None] / delta.norm(dim=-1, keepdim=True)) * (given != 0)[..., None, None]
    return delta @ basis.mT


def _lengths(radius: float | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Radii as a tensor, and the same with 1 for every 0, at which nothing can be solved."""
    given = torch.as_tensor(radius, dtype=like.dtype)
    return given, torch.where(given != 0, given, 1.0)


def secular_shift(
    coordinates: Float[Tensor, "*batch dim"], variances: Float[Tensor, "*#batch dim"], radius: Float[Tensor, "*#batch"]
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
    lengths = radius.expand(pull.shape[:-1]).reshape(-1).numpy()
    return torch.from_numpy(_solved(columns[0], columns[1], lengths)).view(pull.shape[:-1])


def _solved(pull: np.ndarray, gap: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The shift of every column, by Newton's method on those that are not there yet."""
    with np.errstate(over="ignore", invalid="ignore"):  # near the pole: an infinite slope, and a step of 0
        return _climbed(pull, gap, radius)


def _climbed(pull: np.ndarray, gap: np.ndarray, radius: np.ndarray) -> np.ndarray:
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
            left, now, radius = left[going], now[going], radius[going]
            pull, gap = pull[:, going], gap[:, going]
    return eta


def _relative(variances: Tensor) -> tuple[Tensor, Tensor]:
    """Precision relative to the largest, and how far it falls short of it, without cancellation."""
    least = variances[..., :1]
    return least / variances, (variances - least) / variances


def _quotient(top: Tensor, bottom: Tensor) -> Tensor:
    """top / bottom, and 0 where the top is 0 (so that 0 / 0 at the pole is the limit)."""
    return torch.where(top == 0, torch.zeros_like(top), top / bottom)


Adversary = Literal["map", "sample"]


def robust_loss(
    residuals: Float[Tensor, "*batch n dim"], covariance: Float[Tensor, "*batch dim dim"], radius: float
) -> Float[Tensor, "*batch"]:
    """Mean negative log-likelihood in nats under the exact per-sample adversary (Section 4).

    Differentiable in both tensors: by Danskin's theorem (Theorem 4) the adversary's answer is held fixed.

    Examples
    --------
    >>> residuals = torch.ones(3, 2, dtype=torch.float64)
    >>> loss = nb.theory.robust_loss(residuals, torch.eye(2, dtype=torch.float64), radius=0.5)
    """
    with torch.no_grad():
        delta = worst_perturbation(residuals, covariance, radius)
    factor = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(factor, (residuals + delta).mT, upper=False)
    logdet = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (white.square().sum(-2).mean(-1) + logdet + residuals.shape[-1] * math.log(2 * math.pi))


def minimise_exact(inputs: ArrayLike, labels: ArrayLike, radius: float, steps: int = 100) -> RobustGaussians:
    """Robust maximum likelihood on a sample, with the norm of every single perturbation bounded by `radius`.

    L-BFGS on the mean and a Cholesky factor of the precision, started at the closed form of the relaxed
    problem for the sample's own moments and preconditioned by it; the loss is convex in the natural
    parameters (Lemma 3).

    Parameters
    ----------
    inputs, labels : (n, dim) numbers and n labels of +1 and -1
    radius : float
        l2 radius, at least 0, in units of the inputs.
    steps : int
        At most this many L-BFGS iterations.
    """
    radius = check_number("radius", radius)
    standard = maximum_likelihood(inputs, labels)
    rows = as_rows("inputs", inputs)
    folded = rows * as_signs("labels", labels, len(rows))[:, None]
    base = torch.linalg.cholesky(standard.robust_mle(radius).covariance)
    shift = torch.zeros(standard.dim, dtype=torch.float64, requires_grad=True)
    lower = torch.eye(standard.dim, dtype=torch.float64).requires_grad_()

    def current() -> tuple[Tensor, Tensor]:
        factor = base @ torch.tril(lower)
        return standard.mean + base @ shift, factor @ factor.mT

    optimiser = torch.optim.LBFGS(
        [shift, lower],
        max_iter=check_count("steps", steps),
        tolerance_grad=1e-9,
        tolerance_change=1e-13,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        mean, covariance = current()
        loss = robust_loss(folded - mean, covariance, radius)
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        mean, covariance = current()
    return RobustGaussians(standard, covariance, radius, mean=mean)


@dataclass(frozen=True)
class Trained:
    """What repeated adversarial training learned: one mean and one covariance for each repeat, of each radius given.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> trained = nb.theory.adversarial_training(pair, 0.5, steps=5, generator=torch.Generator().manual_seed(0))
    """

    means: Float[Tensor, "*radii repeats dim"]
    covariances: Float[Tensor, "*radii repeats dim dim"]


def adversarial_training(
    pair: TwoGaussians,
    radius: float | Sequence[float],
    *,
    adversary: Adversary = "sample",
    steps: int = 1000,
    batch: int = 256,
    first_step: float = 0.02,
    repeats: int = 1,
    generator: torch.Generator | None = None,
) -> Trained:
    """Adversarial training by stochastic gradient descent with the exact inner maximiser.

    Every step draws fresh samples, attacks them under the current parameters, and follows the gradient of
    their negative log-likelihood in the geometry of the Fisher information: for a Gaussian, that natural
    gradient moves the first and second moment straight towards those of the attacked samples. Steps fall as
    1/sqrt(k), and the second half of the path is averaged. All repeats run at once, independently.

    Parameters
    ----------
    radius : float or sequence of float
        l2 radius, at least 0; several are trained for at once, which is faster than one after the other, each with
        samples of its own.
    adversary : {"sample", "map"}
        "sample" bounds each perturbation by the radius, as the paper's problem does; "map" applies the one
        best linear map whose mean squared perturbation is radius^2, as its relaxation does.
    first_step : float
        Step size at the start. The adversary's answer is steep where the radius is much larger than the
        smallest standard deviation; a step above (that deviation / radius) may then oscillate.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> trained = nb.theory.adversarial_training(pair, 0.5, steps=5, generator=torch.Generator().manual_seed(0))
    """
    several = isinstance(radius, Sequence)
    given = [check_number("radius", one) for one in (radius if isinstance(radius, Sequence) else [radius])]
    if not given:
        raise must("radius", "be a number, or hold at least one", radius)
    check_choice("adversary", adversary, ("sample", "map"))
    check_count("repeats", repeats), check_count("batch", batch), check_count("steps", steps, low=2)
    if check_number("first_step", first_step, open_low=True) > 1:
        raise InputError(f"The 'first_step' must be at most 1. Got {first_step!r} instead.")
    radii = torch.tensor(given, dtype=torch.float64)[:, None].expand(-1, repeats)
    mean = pair.mean.repeat(len(given), repeats, 1)
    covariance = pair.covariance.repeat(len(given), repeats, 1, 1)
    mean_sum, covariance_sum = torch.zeros_like(mean), torch.zeros_like(covariance)
    for step in range(steps):
        size = first_step / math.sqrt(1 + 10 * step / steps)
        # In fp32, which is five times as fast: what is rounded off is far below the noise of sampling.
        noise = torch.randn(len(given), repeats, batch, pair.dim, generator=generator).double()
        folded = pair.mean + (noise * pair.eigenvalues.sqrt()) @ pair.eigenvectors.mT
        residuals = folded - mean[..., None, :]
        if adversary == "sample":
            residuals = residuals + worst_perturbation(residuals, covariance, radii)
        else:
            residuals = residuals + residuals @ _best_map(pair, mean, covariance, radii)
        drift = residuals.mean(-2)
        second = residuals.mT @ residuals / batch
        covariance = (1 - size) * covariance + size * second - size**2 * drift[..., :, None] * drift[..., None, :]
        mean = mean + size * drift
        if step >= steps // 2:
            mean_sum, covariance_sum = mean_sum + mean, covariance_sum + covariance
    kept = steps - steps // 2
    means, covariances = mean_sum / kept, covariance_sum / kept
    return Trained(means, covariances) if several else Trained(means[0], covariances[0])


def _best_map(
    pair: TwoGaussians,
    mean: Float[Tensor, "*batch dim"],
    covariance: Float[Tensor, "*batch dim dim"],
    radius: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch dim dim"]:
    """M = (lambda S - I)^-1 of Lemma 2 at the current parameters, its budget met in the population."""
    given, length = _lengths(radius, mean)
    if not given.any():
        return torch.zeros_like(covariance)
    variances, basis = torch.linalg.eigh(covariance)
    offset = pair.mean - mean
    moment = pair.covariance + offset[..., :, None] * offset[..., None, :]
    lengths = (basis.mT @ moment @ basis).diagonal(dim1=-2, dim2=-1).sqrt()
    eta = secular_shift(lengths, variances, length)
    gains = variances[..., :1] / (variances * eta[..., None] + variances - variances[..., :1])
    return (basis * (gains * (given != 0)[..., None])[..., None, :]) @ basis.mT
