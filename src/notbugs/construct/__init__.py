"""Constructed sets: D_R, D_NR, D_rand, D_det, their controls, and the store they are written to."""

from typing import TYPE_CHECKING, Any

from notbugs.lazily import lazily

if TYPE_CHECKING:
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
    from notbugs.construct.description import describe, table
    from notbugs.construct.exporters import FORMATS, Format, export
    from notbugs.construct.manifest import read_manifest
    from notbugs.construct.storage import Dtype
    from notbugs.construct.store import ConstructedSet
    from notbugs.construct.verification import Finding, verify

    open = ConstructedSet

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

_find = lazily(
    __name__,
    {
        "build": (
            "PAPER_RELABELLING",
            "relabel",
            "robustify",
        ),
        "builder": (
            "STARTS",
            "TARGETS",
            "Start",
            "Targets",
            "choose_starts",
            "choose_targets",
            "fingerprint",
            "starts_of",
        ),
        "controls": (
            "CONTROLS",
            "Control",
            "control",
            "mislabel",
            "patterns",
        ),
        "exporters": (
            "FORMATS",
            "Format",
            "export",
        ),
        "description": (
            "describe",
            "table",
        ),
        "verification": (
            "Finding",
            "verify",
        ),
        "manifest": ("read_manifest",),
        "storage": ("Dtype",),
        "store": ("ConstructedSet",),
    },
)


def __getattr__(name: str) -> Any:
    return _find("ConstructedSet" if name == "open" else name)  # construct.open(FOLDER)
