"""The theory laboratory: two Gaussians, where robust features can be computed, and three theorems, checked.

Section 4 and Appendix E of the paper; `docs/explanation/theory.md` states each theorem beside its check. Formulas and
simulations take tensors. `vulnerability` alone takes a classifier and images, and `write_theory_page` the extra
`report`.
"""

from __future__ import annotations

from notbugs.theory.gaussians import (
    RobustGaussians,
    TwoGaussians,
    maximum_likelihood,
    multiplier_bounds,
    relaxed_eigenvalues,
    relaxed_multiplier,
)
from notbugs.theory.linear import Estimate, LinearClassifier, MetricGap
from notbugs.theory.optimisation import Trained, adversarial_training, minimise_exact, robust_loss, worst_perturbation
from notbugs.theory.page import write_theory_page
from notbugs.theory.real_features import Comparison, FittedPair, compare, fit, vulnerability
from notbugs.theory.theorems import (
    LearningCurve,
    cosines,
    exact_isotropic,
    learning_curve,
    theorem1_gap,
    theorem1_gradient,
    theorem1_perturbation,
    theorem1_simulation,
    theorem2_slope,
    worst_cosine,
    worst_mean,
)

__all__ = [
    "Comparison",
    "Estimate",
    "FittedPair",
    "LearningCurve",
    "LinearClassifier",
    "MetricGap",
    "RobustGaussians",
    "Trained",
    "TwoGaussians",
    "adversarial_training",
    "compare",
    "cosines",
    "exact_isotropic",
    "fit",
    "learning_curve",
    "maximum_likelihood",
    "minimise_exact",
    "multiplier_bounds",
    "relaxed_eigenvalues",
    "relaxed_multiplier",
    "robust_loss",
    "theorem1_gap",
    "theorem1_gradient",
    "theorem1_perturbation",
    "theorem1_simulation",
    "theorem2_slope",
    "vulnerability",
    "worst_cosine",
    "worst_mean",
    "worst_perturbation",
    "write_theory_page",
]
