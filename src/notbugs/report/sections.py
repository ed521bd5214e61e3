"""A section of the page as plain values: text, figures and tables, which one template draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from notbugs.measure import Proportion
from notbugs.measure.shares import Mean

Share = Proportion | Mean
"""A value with its interval and its n, of which pages show per cent."""
Cell = str | float | int | bool | Share | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first cell of a row names it. `None` is left empty.

    Attributes
    ----------
    folded : str
        What a reader opens to see it; always in sight if empty.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing, for wide and for narrow pages, with what it shows."""

    caption: str
    drawings: Sequence[Markup]


@dataclass(frozen=True)
class Section:
    """What one instrument has to show; `reading` are sentences that follow from its numbers."""

    name: str
    title: str
    short: str
    text: str
    reading: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
