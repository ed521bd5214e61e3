"""The three theorems of Section 4 as functions, each beside its simulation; and how many samples it takes.

Conventions are those under which each statement holds; docs/explanation/theory.md says where the paper's text differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import InputError, check_count, check_number, must
from notbugs.theory.gaussians import TwoGaussians, added_deviation, relaxed_eigenvalues, relaxed_multiplier
from notbugs.theory.linear import ArrayLike, Estimate, LinearClassifier, Norm, as_eigenvalues, average


def theorem1_gap(eigenvalues: ArrayLike, penalty: float) -> Float[Tensor, ""]:
    """Theorem 1: how much the penalised adversary raises the standard solution's loss.

    sum_i (C s_i / (C s_i - 1))^2 - d, for the quadratic (x - mean)^T S^-1 (x - mean) without the factor 1/2
    and the squared penalty C ||delta||^2, which is not itself counted. The gap in negative log-likelihood is
    half of it.

    Parameters
    ----------
    eigenvalues : vector of dim numbers
        Of the covariance, in squared units of the inputs.
    penalty : float
        C, above 1 / s_min; at or below, the adversary's problem has no maximum.

    Raises
    ------
    InputError
        For a penalty at or below its bound, with both values.

    Examples
    --------
    >>> round(nb.theory.theorem1_gap([1.0, 1.0], penalty=2.0).item(), 6)  # 2 (C s / (C s - 1))^2 - 2
    6.0
    """
    variances = as_eigenvalues("eigenvalues", eigenvalues)
    scaled = _check_penalty(penalty, variances) * variances
    return (scaled / (scaled - 1)).square().sum() - len(variances)


def theorem1_gradient(eigenvalues: ArrayLike, penalty: float) -> Float[Tensor, " dim"]:
    """Derivative of `theorem1_gap` in each eigenvalue, -2 C^2 s / (C s - 1)^3.

    One-to-one in s: with the trace held, it is level only where all eigenvalues are equal. So isotropy is the
    only minimum.

    Examples
    --------
    >>> nb.theory.theorem1_gradient([1.0, 2.0], penalty=2.0).shape
    torch.Size([2])
    """
    variances = as_eigenvalues("eigenvalues", eigenvalues)
    scaled = _check_penalty(penalty, variances) * variances
    return -2 * penalty * scaled / (scaled - 1) ** 3


def theorem1_perturbation(
    pair: TwoGaussians, residuals: Float[Tensor, "n dim"], penalty: float
) -> Float[Tensor, "n dim"]:
    """Lemma 1: delta = (C S - I)^-1 v, the penalised adversary's answer to each residual v = x - y mean.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> moved = nb.theory.theorem1_perturbation(pair, torch.ones(3, 2, dtype=torch.float64), penalty=4.0)
    """
    gain = 1 / (_check_penalty(penalty, pair.eigenvalues) * pair.eigenvalues - 1)
    return ((residuals @ pair.eigenvectors) * gain) @ pair.eigenvectors.mT


def theorem1_simulation(
    pair: TwoGaussians, penalty: float, n: int, generator: torch.Generator | None = None
) -> Estimate:
    """`theorem1_gap` by drawing `n` samples, attacking each, and averaging the rise of the quadratic.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> measured = nb.theory.theorem1_simulation(pair, 4.0, 1000, torch.Generator().manual_seed(0))
    """
    inputs, labels = pair.sample(check_count("n", n, low=2), generator)
    residuals = inputs - labels[:, None] * pair.mean
    attacked = residuals + theorem1_perturbation(pair, residuals, penalty)
    return average(pair.whiten(attacked).square().sum(-1) - pair.whiten(residuals).square().sum(-1))


def theorem2_slope(pair: TwoGaussians, radius: float) -> Float[Tensor, " dim"]:
    """d sqrt(robust eigenvalue) / d radius, ascending eigenvalues (implicit in Theorem 2's budget).

    With r = sqrt(s) + p: dp / d(1/lambda) = 1 / (2 p + sqrt(s)), and the budget gives d(1/lambda) / d radius.
    All slopes are positive: every direction widens as the radius grows, the narrowest fastest.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> nb.theory.theorem2_slope(pair, 0.5).shape
    torch.Size([2])
    """
    deviation = pair.eigenvalues.sqrt()
    if check_number("radius", radius) == 0:
        return (1 / deviation) / (1 / deviation).norm()
    multiplier = relaxed_multiplier(pair.eigenvalues, pair.eigenvalues.new_tensor(radius))
    added = added_deviation(pair.eigenvalues, multiplier)  # a difference of roots would lose it at small radii
    rate = 1 / (2 * added + deviation)
    return rate * radius / (added * rate).sum()


def exact_isotropic(variance: float, dim: int, radius: float) -> float:
    """The exact problem's robust variance for covariance `variance` I, in closed form, any dimension.

    Each sample moves straight away from the mean: E (||v|| + radius)^2 / d. The relaxed problem has sqrt(d)
    where this has E chi_d, 1/(4d) less: the two agree as the dimension grows, and in one dimension differ by
    sqrt(2/pi).

    Examples
    --------
    >>> nb.theory.exact_isotropic(variance=1.0, dim=2, radius=0.5) > 1.0
    True
    """
    check_number("variance", variance, open_low=True)
    check_count("dim", dim)
    length = math.sqrt(2) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
    return variance + (2 * radius * math.sqrt(variance) * length + check_number("radius", radius) ** 2) / dim


def worst_cosine(condition: float) -> float:
    """Theorem 3, Lemma 8: the least cosine of S^-1 mean with the mean, 2 sqrt(kappa) / (1 + kappa).

    Examples
    --------
    >>> round(nb.theory.worst_cosine(1.0), 6)
    1.0
    """
    return 2 * math.sqrt(check_number("condition", condition, low=1.0)) / (1 + condition)


def worst_mean(pair: TwoGaussians) -> Float[Tensor, " dim"]:
    """A mean of length 1 that reaches `worst_cosine`: the sum of the widest and the narrowest semi-axis.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> nb.theory.worst_mean(pair).shape
    torch.Size([2])
    """
    deviation, axes = pair.eigenvalues.sqrt(), pair.eigenvectors
    mean = deviation[-1] * axes[:, -1] + (deviation[0] * axes[:, 0] if pair.dim > 1 else 0)
    return mean / mean.norm()


def cosines(means: Float[Tensor, "n dim"], covariance: Float[Tensor, "*batch dim dim"]) -> Float[Tensor, "*batch n"]:
    """Cosine between each mean and the input gradient that it gives the classifier, S^-1 mean.

    Examples
    --------
    >>> means = torch.ones(1, 2, dtype=torch.float64)
    >>> [round(one, 6) for one in nb.theory.cosines(means, torch.eye(2, dtype=torch.float64)).tolist()]
    [1.0]
    """
    gradients = torch.linalg.solve(covariance, means.mT).mT
    return torch.cosine_similarity(gradients, means.expand_as(gradients), dim=-1)


def _check_penalty(penalty: float, variances: Tensor) -> float:
    bound = 1 / variances.min().item()
    if not check_number("penalty", penalty) > bound:
        raise must("penalty", f"be above 1 / (smallest eigenvalue) = {bound:.6g}", penalty)
    return penalty


@dataclass(frozen=True)
class LearningCurve:
    """Errors on the true pair of classifiers learned from samples, beside those of the population's.

    `clean`, `robust` and `cosine` hold one estimate for each of `sizes`, over repeated draws of the sample.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> curve = nb.theory.learning_curve(pair, [10, 100], 0.2, repeats=2, generator=torch.Generator().manual_seed(0))
    """

    sizes: tuple[int, ...]
    clean: tuple[Estimate, ...]
    robust: tuple[Estimate, ...]
    cosine: tuple[Estimate, ...]
    population_clean: float
    population_robust: float
    population_cosine: float

    def samples_needed(self, tolerance: float) -> int | None:
        """The first size from which on the mean vulnerability stays within `tolerance` of the population's.

        Vulnerability is robust less clean error. None if the last size is not there yet.
        """
        check_number("tolerance", tolerance, open_low=True)
        target = self.population_robust - self.population_clean
        reached = None
        for size, clean, robust in zip(self.sizes, self.clean, self.robust, strict=True):
            near = abs(robust.value - clean.value - target) <= tolerance
            reached = (reached or size) if near else None
        return reached


def learning_curve(
    pair: TwoGaussians,
    sizes: Sequence[int],
    radius: float,
    *,
    norm: Norm = "l2",
    training_radius: float = 0.0,
    repeats: int = 32,
    generator: torch.Generator | None = None,
) -> LearningCurve:
    """Learn from samples of each size, `repeats` times, and judge each classifier on the true pair.

    Parameters
    ----------
    sizes : sequence of int
        Sample sizes, ascending, each above the dimension.
    radius, norm : float, {"l2", "linf"}
        The adversary that judges.
    training_radius : float
        0 learns by standard maximum likelihood; else by the relaxed robust one at this radius.
    repeats : int
        Independent samples of each size; at least 2, since the intervals come from them.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.5]])
    >>> curve = nb.theory.learning_curve(pair, [10, 100], 0.2, repeats=2, generator=torch.Generator().manual_seed(0))
    """
    sizes = tuple(check_count("sizes", size, low=pair.dim + 1) for size in sizes)
    if not sizes or sorted(set(sizes)) != list(sizes):
        raise InputError(f"The 'sizes' must be ascending, at least one. Got {sizes!r} instead.")
    check_count("repeats", repeats, low=2)
    measured = []
    for size in sizes:
        directions = _learn(pair, size, check_number("training_radius", training_radius), repeats, generator)
        rules = [LinearClassifier(direction, pair.classifier.bias) for direction in directions]
        clean = torch.tensor([pair.error(classifier=rule) for rule in rules], dtype=torch.float64)
        robust = torch.tensor([pair.error(radius, norm, rule) for rule in rules], dtype=torch.float64)
        cosine = torch.cosine_similarity(directions, pair.mean, dim=-1)
        measured.append((average(clean), average(robust), average(cosine)))
    clean, robust, cosine = zip(*measured, strict=True)
    limit = pair.robust_mle(training_radius)
    rule = limit.classifier
    return LearningCurve(
        sizes,
        clean,
        robust,
        cosine,
        pair.error(classifier=rule),
        pair.error(radius, norm, rule),
        limit.cosine,
    )


def _learn(
    pair: TwoGaussians, size: int, radius: float, repeats: int, generator: torch.Generator | None
) -> Float[Tensor, "repeats dim"]:
    """Classifier directions learned from `repeats` samples of label-folded inputs y x."""
    noise = torch.randn(repeats, size, pair.dim, dtype=torch.float64, generator=generator)
    folded = pair.mean + (noise * pair.eigenvalues.sqrt()) @ pair.eigenvectors.mT
    mean = folded.mean(-2)
    centred = folded - mean[:, None]
    variances, basis = torch.linalg.eigh(centred.mT @ centred / size)
    multiplier = relaxed_multiplier(variances, torch.full((repeats,), radius, dtype=torch.float64))
    robust = relaxed_eigenvalues(variances, multiplier)
    coordinates = (mean[:, None] @ basis)[:, 0] / robust
    return (basis @ coordinates[..., None])[..., 0]
