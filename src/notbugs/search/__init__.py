"""Search over inputs: one loop, and its thin callers."""

import sys
import warnings
from types import ModuleType
from typing import Any

from notbugs.search.adaptive import identity, replaced_backward
from notbugs.search.attacks import (
    PAPER_MATCHING,
    fast_matching,
    fast_relabelling,
    match_features,
    minimum_norm,
    pgd,
    targeted_pgd,
)
from notbugs.search.evaluation import ATTACKS, Attack, Attacked, attack_named
from notbugs.search.loop import Found, Objective, search, stream
from notbugs.search.quasi_newton import QuasiNewton
from notbugs.search.spatial import FoundSpatial, spatial_pgd, worst_of
from notbugs.search.steps import Schedule, Shrinking, Steps
from notbugs.search.strong import PGD, STRONG
from notbugs.search.watch import frames

__all__ = [
    "ATTACKS",
    "PAPER_MATCHING",
    "PGD",
    "STRONG",
    "Attack",
    "Attacked",
    "Found",
    "FoundSpatial",
    "Objective",
    "QuasiNewton",
    "Schedule",
    "Shrinking",
    "Steps",
    "attack_named",
    "fast_matching",
    "fast_relabelling",
    "frames",
    "identity",
    "match_features",
    "minimum_norm",
    "pgd",
    "replaced_backward",
    "search",
    "spatial_pgd",
    "stream",
    "targeted_pgd",
    "worst_of",
]


class _WasFunction(ModuleType):
    """`notbugs.search` named the function until version 0.2."""

    def __call__(self, *given: Any, **named: Any) -> Found:
        warnings.warn(
            "notbugs.search(...) is now notbugs.search.search(...); the old name goes in version 0.4.",
            DeprecationWarning,
            stacklevel=2,
        )
        return search(*given, **named)


sys.modules[__name__].__class__ = _WasFunction
