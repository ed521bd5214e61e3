"""Constructed sets: D_R, D_NR, D_rand, D_det, their controls, and the store they are written to."""

from notbugs.construct.build import PAPER_RELABELLING, relabel, robustify
from notbugs.construct.builder import fingerprint
from notbugs.construct.checks import Finding, verify
from notbugs.construct.controls import CONTROLS, Control, control, mislabel, patterns
from notbugs.construct.describe import describe, table
from notbugs.construct.exporters import FORMATS, Format, export
from notbugs.construct.manifest import read_manifest
from notbugs.construct.plan import TARGETS, Targets, choose_starts, choose_targets
from notbugs.construct.starts import STARTS, Start, starts_of
from notbugs.construct.storage import Dtype
from notbugs.construct.store import ConstructedSet

open = ConstructedSet  # construct.open(FOLDER)

__all__ = [
    "CONTROLS",
    "FORMATS",
    "PAPER_RELABELLING",
    "STARTS",
    "TARGETS",
    "ConstructedSet",
    "Control",
    "Dtype",
    "Finding",
    "Format",
    "Start",
    "Targets",
    "choose_starts",
    "choose_targets",
    "control",
    "describe",
    "export",
    "fingerprint",
    "mislabel",
    "patterns",
    "read_manifest",
    "relabel",
    "robustify",
    "starts_of",
    "table",
    "verify",
]
