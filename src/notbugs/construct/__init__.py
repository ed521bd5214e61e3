"""Constructed sets: D_R, D_NR, D_rand, D_det, and the store they are written to."""

from notbugs.construct.build import PAPER_RELABELLING, relabel, robustify
from notbugs.construct.builder import fingerprint
from notbugs.construct.checks import Finding, verify
from notbugs.construct.describe import describe, table
from notbugs.construct.exporters import FORMATS, Format, export
from notbugs.construct.manifest import read_manifest
from notbugs.construct.plan import TARGETS, Targets, choose_starts, choose_targets
from notbugs.construct.storage import Dtype
from notbugs.construct.store import ConstructedSet

open = ConstructedSet  # construct.open(FOLDER)

__all__ = [
    "FORMATS",
    "PAPER_RELABELLING",
    "TARGETS",
    "ConstructedSet",
    "Dtype",
    "Finding",
    "Format",
    "Targets",
    "choose_starts",
    "choose_targets",
    "describe",
    "export",
    "fingerprint",
    "read_manifest",
    "relabel",
    "robustify",
    "table",
    "verify",
]
