"""Robust maximum likelihood by optimisation: the exact problem on samples, and adversarial training.

Two roads that do not use the closed form, to hold against it. `minimise_exact` takes a fixed sample and
minimises the paper's robust loss, with one trust-region adversary a sample, by a quasi-Newton method.
`adversarial_training` draws fresh samples at each step, attacks them, and takes a stochastic gradient step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import InputError, check_choice, check_count, check_number
from notbugs.theory.gaussians import RobustGaussians, TwoGaussians, maximum_likelihood
from notbugs.theory.inputs import ArrayLike, as_rows, as_signs
from notbugs.theory.worst import secular_shift, worst_perturbation

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
    """What repeated adversarial training learned: one mean and one covariance for each repeat."""

    means: Float[Tensor, "repeats dim"]
    covariances: Float[Tensor, "repeats dim dim"]


def adversarial_training(
    pair: TwoGaussians,
    radius: float,
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
    adversary : {"sample", "map"}
        "sample" bounds each perturbation by the radius, as the paper's problem does; "map" applies the one
        best linear map whose mean squared perturbation is radius^2, as its relaxation does.
    first_step : float
        Step size at the start. The adversary's answer is steep where the radius is much larger than the
        smallest standard deviation; a step above (that deviation / radius) may then oscillate.
    """
    radius = check_number("radius", radius)
    check_choice("adversary", adversary, ("sample", "map"))
    check_count("repeats", repeats), check_count("batch", batch), check_count("steps", steps, low=2)
    if check_number("first_step", first_step, open_low=True) > 1:
        raise InputError(f"The 'first_step' must be at most 1. Got {first_step!r} instead.")
    mean = pair.mean.repeat(repeats, 1)
    covariance = pair.covariance.repeat(repeats, 1, 1)
    mean_sum, covariance_sum = torch.zeros_like(mean), torch.zeros_like(covariance)
    for step in range(steps):
        size = first_step / math.sqrt(1 + 10 * step / steps)
        noise = torch.randn(repeats, batch, pair.dim, dtype=torch.float64, generator=generator)
        folded = pair.mean + (noise * pair.eigenvalues.sqrt()) @ pair.eigenvectors.mT
        residuals = folded - mean[:, None]
        if adversary == "sample":
            residuals = residuals + worst_perturbation(residuals, covariance, radius)
        else:
            residuals = residuals + residuals @ _best_map(pair, mean, covariance, radius)
        drift = residuals.mean(-2)
        second = residuals.mT @ residuals / batch
        covariance = (1 - size) * covariance + size * second - size**2 * drift[..., :, None] * drift[..., None, :]
        mean = mean + size * drift
        if step >= steps // 2:
            mean_sum, covariance_sum = mean_sum + mean, covariance_sum + covariance
    kept = steps - steps // 2
    return Trained(mean_sum / kept, covariance_sum / kept)


def _best_map(
    pair: TwoGaussians,
    mean: Float[Tensor, "repeats dim"],
    covariance: Float[Tensor, "repeats dim dim"],
    radius: float,
) -> Float[Tensor, "repeats dim dim"]:
    """M = (lambda S - I)^-1 of Lemma 2 at the current parameters, its budget met in the population."""
    if radius == 0:
        return torch.zeros_like(covariance)
    variances, basis = torch.linalg.eigh(covariance)
    offset = pair.mean - mean
    moment = pair.covariance + offset[..., :, None] * offset[..., None, :]
    lengths = (basis.mT @ moment @ basis).diagonal(dim1=-2, dim2=-1).sqrt()
    eta = secular_shift(lengths, variances, radius)
    gains = variances[..., :1] / (variances * eta[..., None] + variances - variances[..., :1])
    return (basis * gains[..., None, :]) @ basis.mT
