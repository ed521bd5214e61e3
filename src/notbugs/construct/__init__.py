"""Constructed sets: D_R, D_NR, D_rand, D_det, and the store they are written to."""

from notbugs.construct.build import PAPER_RELABELLING, fingerprint, relabel, robustify
from notbugs.construct.manifest import read_manifest
from notbugs.construct.plan import TARGETS, Targets, choose_starts, choose_targets
from notbugs.construct.store import ConstructedSet

open = ConstructedSet  # construct.open(FOLDER)

__all__ = [
    "PAPER_RELABELLING",
    "TARGETS",
    "ConstructedSet",
    "Targets",
    "choose_starts",
    "choose_targets",
    "fingerprint",
    "read_manifest",
    "relabel",
    "robustify",
]
