"""What pages show as plain values: text, figures and tables, which one template draws, and figures for a paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from notbugs.measure import Proportion, Spread
from notbugs.measure.set_properties import Mean

if TYPE_CHECKING:
    from markupsafe import Markup

INTERVAL = "95\u00a0% Wilson intervals over images"

Share = Proportion | Mean
"""A value with its interval and its n, of which pages show per cent."""
Cell = str | float | int | bool | Share | Spread | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first cell of a row names it. `None` is left empty.

    Attributes
    ----------
    words : sequence of str
        The columns that hold words, and are set flush left on a page.
    says : mapping of str to str
        What stands below the name of a row on a page.
    kind : str
        How a page sets it: `dense` for many small columns, `measures` for cells with parts below each other.
    folded : str
        What a reader opens to see it; always in sight if empty.

    Examples
    --------
    >>> from notbugs.content import Table
    >>> table = Table('All of them', ('what', 'count'), [['images', 3]])
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: str = ""
    words: Sequence[str] = ()
    says: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing, for wide and for narrow pages, with what it shows.

    Examples
    --------
    >>> from notbugs.content import Figure
    >>> figure = Figure('What it shows', [])
    """

    caption: str
    drawings: Sequence[Markup]


@dataclass(frozen=True)
class Section:
    """What one instrument has to show; `reading` are sentences that follow from its numbers.

    Examples
    --------
    >>> from notbugs.content import Section, Table
    >>> table = Table('All', ('what', 'count'), [['images', 3]])
    >>> section = Section('mine', 'What is counted', 'Counted', 'It counts images.', tables=[table])
    """

    name: str
    title: str
    short: str
    text: str
    reading: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class PrintedFigure:
    """A figure for a paper: the name of its files, what it shows, and how to draw it at each width that it is for.

    Attributes
    ----------
    draw : callable
        From the `width` and the `height` of the plot, which axes and legends come on top of, to an SVG.

    Examples
    --------
    >>> from notbugs.content import PrintedFigure
    >>> figure = PrintedFigure('mine', 'What it shows', lambda width, height: None)
    """

    name: str
    caption: str
    draw: Callable[..., Markup | None]
    widths: tuple[str, ...] = ("full", "half")
