"""Robust maximum likelihood in closed form: the relaxed problem, in the eigenbasis of the covariance.

The paper's adversary of Section 4 moves each sample by at most the radius. Its relaxation (equations 14 and
20) bounds the mean square instead: one linear map M, applied to every residual, with E||M v||^2 = radius^2.
Along an eigenvector of the covariance with eigenvalue s, write p = sqrt(s) m for the standard deviation that
the map adds. Lemma 4 is then one quadratic equation for each direction, tied together by the budget:

    p (sqrt(s) + p) = 1 / lambda,     sum of p^2 = radius^2,     robust eigenvalue = (sqrt(s) + p)^2,

which is the paper's s/2 + 1/lambda + sqrt(s/lambda + s^2/4), written as the square that it is. So the robust
Gaussian is the one of highest entropy within Wasserstein-2 distance `radius` of the true one, and lambda is
twice the rate at which the robust loss rises with the squared radius.

The setting of Section 4 of the paper. Lengths are in units of the inputs; labels are +1 and -1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from notbugs.errors import InputError, check_choice, check_count, check_number, must
from notbugs.theory.linear import (
    ArrayLike,
    Estimate,
    LinearClassifier,
    MetricGap,
    Norm,
    as_covariance,
    as_rows,
    as_signs,
    as_vector,
    share,
)

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


class TwoGaussians:
    """x | y ~ N(y mean, covariance), y = +1 with probability `prior`, in float64.

    Parameters
    ----------
    mean : vector of dim numbers
        Mean of the class +1; that of the class -1 is its negative.
    covariance : dim x dim numbers
        Shared by the classes; any symmetric positive definite matrix, diagonal or not.
    prior : float
        Probability of the class +1, between 0 and 1; the paper's is 0.5.

    Raises
    ------
    InputError
        For entries that are not finite, dimensions that do not match, a covariance that is not symmetric or
        not positive definite, a prior outside (0, 1); with the value.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.1]])
    >>> pair.error(radius=0.1) > pair.error(radius=0.0)
    True
    """

    def __init__(self, mean: ArrayLike, covariance: ArrayLike, prior: float = 0.5) -> None:
        self.mean = as_vector("mean", mean)
        self.covariance, self.eigenvalues, self.eigenvectors = as_covariance("covariance", covariance, len(self.mean))
        if not 0 < check_number("prior", prior) < 1:
            raise must("prior", "be between 0 and 1, and neither", prior)
        self.prior = prior

    @property
    def dim(self) -> int:
        """Number of input dimensions."""
        return len(self.mean)

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue of the covariance, kappa."""
        return (self.eigenvalues[-1] / self.eigenvalues[0]).item()

    @property
    def metric_gap(self) -> MetricGap:
        """How far the Mahalanobis and the Euclidean metric disagree."""
        logs = self.eigenvalues.log()
        kappa = self.condition
        return MetricGap(kappa, 2 * math.sqrt(kappa) / (1 + kappa), (logs - logs.mean()).norm().item())

    @property
    def classifier(self) -> LinearClassifier:
        """The Bayes classifier: direction S^-1 mean, bias half the log odds of the prior (0 in the paper)."""
        direction = self.whiten(self.whiten(self.mean), transpose=True)
        return LinearClassifier(direction, 0.5 * math.log(self.prior / (1 - self.prior)))

    @property
    def cosine(self) -> float:
        """Cosine between the classifier's input gradient and the vector between the means (Theorem 3)."""
        if not self.mean.any():
            raise InputError("The 'mean' must not be zero: there is no vector between the means, and no boundary.")
        return torch.cosine_similarity(self.classifier.direction, self.mean, dim=0).item()

    def whiten(self, vectors: Float[Tensor, "*n dim"], *, transpose: bool = False) -> Float[Tensor, "*n dim"]:
        """Coordinates in which the covariance is the identity; `transpose` applies the transposed map."""
        if transpose:
            return (vectors / self.eigenvalues.sqrt()) @ self.eigenvectors.mT
        return (vectors @ self.eigenvectors) / self.eigenvalues.sqrt()

    def mahalanobis(self, a: ArrayLike, b: ArrayLike) -> float:
        """Distance between two points in the metric S^-1; the Euclidean one is (a - b).norm()."""
        first, second = as_rows("a", [a], self.dim)[0], as_rows("b", [b], self.dim)[0]
        return self.whiten(first - second).norm().item()

    def inner_product(self, a: ArrayLike, b: ArrayLike) -> float:
        """The paper's feature-induced inner product (a - mean)^T S^-1 (b - mean) (Section 4)."""
        first, second = as_rows("a", [a], self.dim)[0], as_rows("b", [b], self.dim)[0]
        return (self.whiten(first - self.mean) @ self.whiten(second - self.mean)).item()

    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n dim"], Float[Tensor, " n"]]:
        """Draw `n` inputs and their labels."""
        check_count("n", n)
        positive = torch.rand(n, dtype=torch.float64, generator=generator) < self.prior
        labels = 2 * positive.to(torch.float64) - 1
        noise = torch.randn(n, self.dim, dtype=torch.float64, generator=generator)
        noise = (noise * self.eigenvalues.sqrt()) @ self.eigenvectors.mT
        return labels[:, None] * self.mean + noise, labels

    def negative_log_likelihood(self, inputs: ArrayLike, labels: ArrayLike) -> Float[Tensor, " n"]:
        """l(x; y mean, covariance) in nats, the density of x given its label, for each sample."""
        rows = as_rows("inputs", inputs, self.dim)
        signs = as_signs("labels", labels, len(rows))
        squares = self.whiten(rows - signs[:, None] * self.mean).square().sum(-1)
        return 0.5 * (squares + self.eigenvalues.log().sum() + self.dim * math.log(2 * math.pi))

    def error(self, radius: float = 0.0, norm: Norm = "l2", classifier: LinearClassifier | None = None) -> float:
        """Error under the worst perturbation within `radius`, in closed form; 0 gives the clean error.

        A linear classifier w loses radius times the dual norm of w from every margin, which is Gaussian. With
        `classifier` left out, the Bayes classifier of these two Gaussians is meant.
        """
        radius = check_number("radius", radius)
        rule = self._judge(classifier)
        mean_score = (rule.direction @ self.mean).item()
        loss = (rule.direction @ rule.worst_step(radius, norm)).item()
        deviation = ((rule.direction @ self.eigenvectors).square() @ self.eigenvalues).sqrt().item()
        if deviation == 0:
            raise must("classifier", "have a direction that is not zero", 0.0)
        wrong_positive = _normal_cdf(-(mean_score + rule.bias + loss) / deviation)
        wrong_negative = _normal_cdf(-(mean_score - rule.bias + loss) / deviation)
        return self.prior * wrong_positive + (1 - self.prior) * wrong_negative

    def sampled_error(
        self,
        n: int,
        radius: float = 0.0,
        norm: Norm = "l2",
        classifier: LinearClassifier | None = None,
        generator: torch.Generator | None = None,
    ) -> Estimate:
        """`error` by simulation: draw, perturb each sample for the worst, predict, and count."""
        radius = check_number("radius", radius)
        rule = self._judge(classifier)
        inputs, labels = self.sample(n, generator)
        attacked = inputs + labels[:, None] * rule.worst_step(radius, norm)
        wrong: Bool[Tensor, " n"] = rule.scores(attacked) * labels <= 0
        return share(wrong)

    def robust_mle(self, radius: float, norm: Norm = "l2") -> RobustGaussians:
        """Robust maximum likelihood in the population, in closed form (Section 4; Theorem 2, Lemma 4).

        For l2, the paper's relaxed problem, whose budget is the squared radius. For l-inf, which the paper
        does not treat, the exact problem, when the covariance is diagonal: then each coordinate moves by the
        radius away from its mean, and the robust variance is s + 2 radius sqrt(2 s / pi) + radius^2.

        Raises
        ------
        InputError
            For a radius that is negative or not finite, or l-inf with a covariance that is not diagonal.
        """
        radius = check_number("radius", radius)
        if check_choice("norm", norm, ("l2", "linf")) == "linf":
            variances = self.covariance.diagonal()
            if (self.covariance - variances.diag()).any():
                raise InputError(
                    "The 'covariance' must be diagonal for the l-inf closed form. Got off-diagonal entries."
                )
            wider = variances + 2 * radius * (2 * variances / math.pi).sqrt() + radius**2
            return RobustGaussians(self, wider.diag(), radius, math.nan)
        multiplier = relaxed_multiplier(self.eigenvalues, torch.tensor(radius, dtype=torch.float64))
        robust = relaxed_eigenvalues(self.eigenvalues, multiplier)
        covariance = (self.eigenvectors * robust) @ self.eigenvectors.mT
        return RobustGaussians(self, covariance, radius, multiplier.item())

    def _judge(self, classifier: LinearClassifier | None) -> LinearClassifier:
        rule = self.classifier if classifier is None else classifier
        if len(rule.direction) != self.dim:
            raise must("classifier", f"have {self.dim} inputs", len(rule.direction))
        return rule

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dim={self.dim}, condition={self.condition:.4g}, prior={self.prior:g})"


class RobustGaussians(TwoGaussians):
    """What robust maximum likelihood learns: two Gaussians again, and the multiplier that goes with them.

    Attributes
    ----------
    standard : TwoGaussians
        The true pair, which standard maximum likelihood learns in the population.
    radius : float
        The adversary's radius, the root of the relaxed problem's budget.
    multiplier : float
        lambda of Theorem 2; infinite at radius 0, nan where the problem has none (l-inf, or learned from
        samples).

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.1]])
    >>> robust = pair.robust_mle(radius=0.5)
    >>> robust.certificate > 0
    True
    """

    def __init__(
        self,
        standard: TwoGaussians,
        covariance: ArrayLike,
        radius: float,
        multiplier: float = math.nan,
        mean: ArrayLike | None = None,
    ) -> None:
        super().__init__(standard.mean if mean is None else mean, covariance, standard.prior)
        self.standard, self.radius, self.multiplier = standard, radius, multiplier

    @property
    def bounds(self) -> tuple[float, float]:
        """The paper's explicit lower and upper bound on the multiplier; both infinite at radius 0, nan without one."""
        if math.isnan(self.multiplier):  # of another problem than the relaxed one
            return math.nan, math.nan
        lower, upper = multiplier_bounds(self.standard.eigenvalues, torch.tensor(self.radius, dtype=torch.float64))
        return lower.item(), upper.item()

    @property
    def sufficient_radius(self) -> float:
        """The radius below which the paper's Lemma 5 suffices for the closed form: the root of s_min."""
        return self.standard.eigenvalues[0].sqrt().item()

    @property
    def certificate(self) -> float:
        """lambda s_min(S_r) - 1; positive means that the adversary's map is unique and the solution global.

        The closed form makes it the positive root of m (1 + m) = 1 / (lambda s), so it holds at every radius,
        not only in the range that the paper proves.
        """
        added = added_deviation(self.standard.eigenvalues, torch.tensor(self.multiplier, dtype=torch.float64))
        return (self.standard.eigenvalues.sqrt() / added).min().item()

    @property
    def added_length(self) -> float:
        """Root of the mean squared perturbation, E||M v||^2: the radius, if the budget is met."""
        multiplier = torch.tensor(self.multiplier, dtype=torch.float64)
        return added_deviation(self.standard.eigenvalues, multiplier).norm().item()


def maximum_likelihood(inputs: ArrayLike, labels: ArrayLike) -> TwoGaussians:
    """Standard maximum likelihood from samples: mean and covariance of y x, and the share of +1 as the prior.

    Raises
    ------
    InputError
        If shapes or labels are wrong, or there are too few samples for a positive definite covariance.

    Examples
    --------
    >>> pair = nb.theory.TwoGaussians([1.0, 0.5], [[1.0, 0.0], [0.0, 0.1]])
    >>> estimated = nb.theory.maximum_likelihood(*pair.sample(1000, torch.Generator().manual_seed(0)))
    """
    rows = as_rows("inputs", inputs)
    signs = as_signs("labels", labels, len(rows))
    folded = signs[:, None] * rows
    mean = folded.mean(0)
    centred = folded - mean
    prior = (signs > 0).to(torch.float64).mean().item()
    bounded = min(max(prior, 0.5 / len(rows)), 1 - 0.5 / len(rows))
    return TwoGaussians(mean, centred.mT @ centred / len(rows), bounded)


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
