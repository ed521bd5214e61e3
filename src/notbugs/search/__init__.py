"""Search over inputs: one loop, and its thin callers."""

from notbugs.search.attacks import (
    FAST_MATCHING,
    PAPER_MATCHING,
    match_features,
    pgd,
    targeted_pgd,
)
from notbugs.search.loop import Found, Objective, Schedule, search

__all__ = [
    "FAST_MATCHING",
    "PAPER_MATCHING",
    "Found",
    "Objective",
    "Schedule",
    "match_features",
    "pgd",
    "search",
    "targeted_pgd",
]
