"""Search over inputs: one loop, and its thin callers."""

import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

from notbugs.errors import renamed
from notbugs.search.attacks import (
    PAPER_MATCHING,
    FoundSpatial,
    appearance_pgd,
    fast_matching,
    fast_relabelling,
    match_features,
    minimum_norm,
    pgd,
    spatial_pgd,
    targeted_pgd,
    targeted_pgd_alone,
    worst_of,
)
from notbugs.search.backward import identity, replaced_backward
from notbugs.search.evaluation import ATTACKS, Attack, Attacked, attack_named
from notbugs.search.loop import Found, Objective, frames, search, stream
from notbugs.search.steps import FMN, LBFGS, PGDSteps, Steps
from notbugs.search.strong import PGD, STRONG

__all__ = [
    "ATTACKS",
    "FMN",
    "LBFGS",
    "PAPER_MATCHING",
    "PGD",
    "STRONG",
    "Attack",
    "Attacked",
    "Found",
    "FoundSpatial",
    "Objective",
    "PGDSteps",
    "Steps",
    "appearance_pgd",
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
    "targeted_pgd_alone",
    "worst_of",
]


class _CalledAsBefore(ModuleType):
    """`notbugs.search` was the function, and hid this package."""

    def __call__(self, *args: Any, **named: Any) -> Found:
        said = "notbugs.search(...) is now notbugs.search.search(...), and will be removed in version 1.0."
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        return search(*args, **named)


sys.modules[__name__].__class__ = _CalledAsBefore
if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Schedule": "PGDSteps", "Shrinking": "FMN", "QuasiNewton": "LBFGS"})
