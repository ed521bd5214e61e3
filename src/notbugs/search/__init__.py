"""Search over inputs: one loop, and its thin callers."""

from notbugs.search.attacks import (
    PAPER_MATCHING,
    fast_matching,
    fast_relabelling,
    match_features,
    minimum_norm,
    pgd,
    targeted_pgd,
)
from notbugs.search.loop import Found, Objective, search, stream
from notbugs.search.quasi_newton import QuasiNewton
from notbugs.search.steps import Schedule, Shrinking, Steps

__all__ = [
    "PAPER_MATCHING",
    "Found",
    "Objective",
    "QuasiNewton",
    "Schedule",
    "Shrinking",
    "Steps",
    "fast_matching",
    "fast_relabelling",
    "match_features",
    "minimum_norm",
    "pgd",
    "search",
    "stream",
    "targeted_pgd",
]
