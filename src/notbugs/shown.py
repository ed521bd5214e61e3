"""Results as tables: in a terminal, in a notebook, and for pandas."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from notbugs.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, object]
SHOWN = 30
"""Rows that a terminal or a notebook shows; `to_pandas` has all of them."""


class Tabular:
    """What has rows: it says so in a terminal and in a notebook, and goes to pandas."""

    @property
    @abstractmethod
    def heading(self) -> str:
        """What the rows are, in one line."""

    @abstractmethod
    def table_rows(self) -> Sequence[Row]:
        """Its rows, with plain values under the same names."""

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a `pandas.DataFrame`.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        return frame(self.table_rows())

    def __repr__(self) -> str:
        return "\n".join([self.heading, *_lines(self.table_rows())])

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.heading)}</p>{_html(self.table_rows())}"


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a `pandas.DataFrame`.

    Raises
    ------
    InputError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InputError("A table for pandas needs pandas. Install it with: pip install 'notbugs[pandas]'.") from None
    return pd.DataFrame([dict(row) for row in rows])


def written(value: object) -> str:
    """A value in a cell: four significant digits; nothing where there is none."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]], str]:
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)] if rows else []
    cells = [[written(row[name]) for name in columns] for row in rows[:SHOWN]]
    left = len(rows) - len(cells)
    return columns, cells, f"and {left} more rows: see to_pandas()" if left else ""


def _lines(rows: Sequence[Row]) -> list[str]:
    columns, cells, more = _cells(rows)
    widths = [max(len(line[index]) for line in [columns, *cells]) for index in range(len(columns))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in [columns, *cells]
    ]
    return [line.rstrip() for line in lines] + ([more] if more else [])


def _html(rows: Sequence[Row]) -> str:
    columns, cells, more = _cells(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in cells)
    note = f"<p>{escape(more)}</p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"
