"""What the page shows of each instrument: from its results to a section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from notbugs.report.controls import controls_section, gap_section
from notbugs.report.sections import Section
from notbugs.study.results import Measured

SECTIONS: dict[str, Callable[[Any], Section]] = {
    "controls": controls_section,
    "gap": gap_section,
}
"""By the names of `Measured`, in the order of the page."""


def instruments(measured: Measured) -> list[Section]:
    """A section for each instrument that the run has."""
    found = ((draw, getattr(measured, name)) for name, draw in SECTIONS.items())
    return [draw(result) for draw, result in found if result is not None]
