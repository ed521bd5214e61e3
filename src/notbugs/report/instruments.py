"""What the page shows of each instrument: from its results to a section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from notbugs.report.controls import controls_section, gap_section
from notbugs.report.leakage import leakage_section, shares_section
from notbugs.report.perturbations import corruptions_section, spatial_section
from notbugs.report.sections import Section
from notbugs.report.transfer import transfer_section
from notbugs.report.trust import trust_section
from notbugs.report.usefulness import usefulness_section
from notbugs.study.results import Measured

SECTIONS: dict[str, Callable[[Any], Section]] = {
    "usefulness": usefulness_section,
    "shares": shares_section,
    "leakage": leakage_section,
    "controls": controls_section,
    "gap": gap_section,
    "transfer": transfer_section,
    "trust": trust_section,
    "spatial": spatial_section,
    "corruptions": corruptions_section,
}
"""By the names of `Measured`, in the order of the page."""


def instruments(measured: Measured, classes: Sequence[str]) -> list[Section]:
    """A section for each instrument that the run has, on data with these classes."""
    sections = SECTIONS | {"usefulness": partial(usefulness_section, classes=classes)}
    found = ((draw, getattr(measured, name)) for name, draw in sections.items())
    return [draw(result) for draw, result in found if result is not None]
