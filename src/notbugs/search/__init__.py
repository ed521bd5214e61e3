"""Search over inputs: one loop, and its thin callers."""

from notbugs.search.attacks import (
    PAPER_MATCHING,
    fast_matching,
    match_features,
    pgd,
    targeted_pgd,
)
from notbugs.search.loop import Found, Objective, Schedule, search

__all__ = [
    "PAPER_MATCHING",
    "Found",
    "Objective",
    "Schedule",
    "fast_matching",
    "match_features",
    "pgd",
    "search",
    "targeted_pgd",
]
