"""The theory laboratory: two Gaussians, where robust features can be computed, and three theorems, checked.

Section 4 and Appendix E of the paper; `docs/explanation/theory.md` states each theorem beside its check. Formulas and
simulations take tensors; `vulnerability` alone takes a classifier and images. `notbugs.report.write_theory` writes the
page.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

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
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "write_theory_page":
            raise AttributeError(f"module 'notbugs.theory' has no attribute {name!r}")
        said = (
            "notbugs.theory.write_theory_page is now notbugs.report.write_theory, and will be removed in version 1.0."
        )
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        return importlib.import_module("notbugs.report").write_theory
