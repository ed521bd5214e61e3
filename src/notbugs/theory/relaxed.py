"""Robust maximum likelihood in closed form: the relaxed problem, in the eigenbasis of the covariance.

The paper's adversary of Section 4 moves each sample by at most the radius. Its relaxation (equations 14 and
20) bounds the mean square instead: one linear map M, applied to every residual, with E||M v||^2 = radius^2.
Along an eigenvector of the covariance with eigenvalue s, write p = sqrt(s) m for the standard deviation that
the map adds. Lemma 4 is then one quadratic equation for each direction, tied together by the budget:

    p (sqrt(s) + p) = 1 / lambda,     sum of p^2 = radius^2,     robust eigenvalue = (sqrt(s) + p)^2,

which is the paper's s/2 + 1/lambda + sqrt(s/lambda + s^2/4), written as the square that it is. So the robust
Gaussian is the one of highest entropy within Wasserstein-2 distance `radius` of the true one, and lambda is
twice the rate at which the robust loss rises with the squared radius.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

BUDGET_TOLERANCE = 1e-12
"""Largest relative error of the budget, sum of p^2 against radius^2, that `relaxed_multiplier` accepts."""

_MAX_STEPS = 200
_NEGLIGIBLE = 1e-100


def relaxed_multiplier(
    eigenvalues: Float[Tensor, "*batch dim"], radius: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The multiplier lambda of the relaxed problem (Appendix E.3, Lemma 4), for any radius >= 0.

    The unknown is q = 4 / (lambda radius^2), in units in which the radius is 1. The budget is increasing in
    q, with a slope between 1 and 2 on logarithmic axes, and the root lies between 4/d and a number that the
    largest eigenvalue gives; so Newton's method on those axes, kept inside its bracket by bisection, can
    neither diverge nor stall. A last Newton step, taken with gradients on, makes the result differentiable.

    Parameters
    ----------
    eigenvalues : Tensor, shape (*batch, dim)
        Eigenvalues of the true covariance, positive.
    radius : Tensor, shape (*batch)
        Root of the expected squared norm of the perturbation, in units of the inputs. The paper's E.3.6 to
        E.3.8 write the budget as eps where eps^2 is meant.

    Returns
    -------
    Tensor, shape (*batch)
        lambda, with the budget met to `BUDGET_TOLERANCE`; infinite where the radius is 0, or so
        small (1e-100 of the largest standard deviation) that squares of it would underflow.

    Examples
    --------
    >>> values = torch.tensor([1.0, 0.25], dtype=torch.float64)
    >>> multiplier = nb.theory.relaxed_multiplier(values, torch.tensor(0.5, dtype=torch.float64))
    """
    none = radius <= _NEGLIGIBLE * eigenvalues.amax(-1).sqrt()
    unit = torch.where(none, torch.ones_like(radius), radius)
    deviations = eigenvalues.sqrt() / unit[..., None]
    with torch.no_grad():
        log_q = _solve_log_budget(deviations)
    excess, slope = _log_budget(log_q, deviations)
    log_q = log_q - excess / slope.detach()
    return torch.where(none, torch.inf, 4 * torch.exp(-log_q) / unit**2)


def relaxed_eigenvalues(
    eigenvalues: Float[Tensor, "*batch dim"], multiplier: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch dim"]:
    """Eigenvalues of the robust covariance for a multiplier (Theorem 2): (sqrt(s) + p)^2.

    Examples
    --------
    >>> values = torch.tensor([1.0, 0.25], dtype=torch.float64)
    >>> robust = nb.theory.relaxed_eigenvalues(values, torch.tensor(2.0, dtype=torch.float64))
    >>> bool((robust > values).all())
    True
    """
    return (eigenvalues.sqrt() + added_deviation(eigenvalues, multiplier)) ** 2


def added_deviation(
    eigenvalues: Float[Tensor, "*batch dim"], multiplier: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch dim"]:
    """The standard deviation p added along each eigenvector; the adversary's map has gain p / sqrt(s)."""
    return _added_deviation(4 / multiplier, eigenvalues.sqrt())[0]


def multiplier_bounds(
    eigenvalues: Float[Tensor, "*batch dim"], radius: Float[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The explicit bounds on lambda, lower and upper, behind the paper's Theorem 2 (Appendix E.3).

    With t = radius^2: (d / tr S_r) (1 + sqrt(d s_min / t)) <= lambda <= (1 + sqrt(d ||S||_F / t)) /
    s_min(S_r).

    Examples
    --------
    >>> values = torch.tensor([1.0, 0.25], dtype=torch.float64)
    >>> low, high = nb.theory.multiplier_bounds(values, torch.tensor(0.5, dtype=torch.float64))
    >>> bool(low < high)
    True
    """
    robust = relaxed_eigenvalues(eigenvalues, relaxed_multiplier(eigenvalues, radius))
    dim, budget = eigenvalues.shape[-1], radius**2
    lower = dim / robust.sum(-1) * (1 + (dim * eigenvalues.amin(-1) / budget).sqrt())
    upper = (1 + (dim * eigenvalues.norm(dim=-1) / budget).sqrt()) / robust.amin(-1)
    return lower, upper


def _added_deviation(q: Tensor, deviations: Tensor) -> tuple[Tensor, Tensor]:
    """The added standard deviation p for q = 4/lambda, free of cancellation, and sqrt(s + q)."""
    q = q[..., None]
    root = (deviations**2 + q).sqrt()
    return q / (2 * (root + deviations)), root


def _log_budget(log_q: Tensor, deviations: Tensor) -> tuple[Tensor, Tensor]:
    """The log of sum p^2, which is 0 at the root, and its slope in log q, which lies in [1, 2]."""
    added, root = _added_deviation(log_q.exp(), deviations)
    share = added**2 / (added**2).sum(-1, keepdim=True)
    slope = (share * (root + deviations) / root).sum(-1)
    return (added**2).sum(-1).log(), slope


def _solve_log_budget(deviations: Tensor) -> Tensor:
    """The log of q at which the budget is 1: Newton's method inside a bracket that only shrinks."""
    dim = deviations.shape[-1]
    largest = deviations.amax(-1)
    low = torch.full_like(largest, 4 / dim).log()
    high = (8 / dim + (64 / dim**2 + 16 * largest**2 / dim).sqrt()).log()
    log_q = (low + high) / 2
    for _ in range(_MAX_STEPS):
        excess, slope = _log_budget(log_q, deviations)
        if bool((excess.abs() < BUDGET_TOLERANCE / 4).all()):
            break
        low = torch.where(excess < 0, log_q, low)
        high = torch.where(excess > 0, log_q, high)
        step = log_q - excess / slope
        log_q = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
    return log_q
