"""How many samples it takes: the vulnerability of what maximum likelihood learns from n of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.errors import InputError, check_count, check_number
from notbugs.theory.estimates import Estimate, average
from notbugs.theory.gaussians import TwoGaussians
from notbugs.theory.linear import LinearClassifier, Norm
from notbugs.theory.relaxed import relaxed_eigenvalues, relaxed_multiplier


@dataclass(frozen=True)
class LearningCurve:
    """Errors on the true pair of classifiers learned from samples, beside those of the population's.

    `clean`, `robust` and `cosine` hold one estimate for each of `sizes`, over repeated draws of the sample.
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
