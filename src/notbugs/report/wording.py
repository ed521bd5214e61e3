"""How numbers and names are written, everywhere on the page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from notbugs import formats
from notbugs.formats import Interval, one_line
from notbugs.study.results import Row


def quoted(measured: Row | Interval) -> str:
    """A proportion in a sentence, with its 95 % interval: `90.0\u00a0% (86.5 to 92.7)`."""
    return formats.said(measured.share if isinstance(measured, Row) else measured)


def class_names(classes: Any) -> list[str]:
    """The names of the classes, from their list or their number."""
    if isinstance(classes, int):
        return [str(label) for label in range(classes)]
    return [one_line(str(name)) for name in classes or []]


def date(created: str) -> str:
    """An ISO 8601 time as a date: `4 March 2026`; anything else as it is."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y}"
