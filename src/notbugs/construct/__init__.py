"""Constructed sets: D_R, D_NR, D_rand, D_det, their controls, and the store they are written to."""

from notbugs.construct.build import PAPER_RELABELLING, relabel, robustify
from notbugs.construct.builder import (
    STARTS,
    TARGETS,
    Start,
    Targets,
    choose_starts,
    choose_targets,
    fingerprint,
    starts_of,
)
from notbugs.construct.controls import CONTROLS, Control, control, mislabel, patterns
from notbugs.construct.exporters import FORMATS, Format, export
from notbugs.construct.inspection import Finding, describe, table, verify
from notbugs.construct.storage import Dtype, read_manifest
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
