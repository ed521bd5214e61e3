"""Rows as a table: for the terminal, and in Markdown for docs/reference/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]


def number(value: float | None, form: str = ".3g") -> str:
    """A number, or a dash for what was not measured."""
    return "–" if value is None else format(value, form)


def spread(row: Row) -> str:
    """Images a second by the median time, with the slowest and fastest repeat."""
    if not row["seconds"]:
        return "–"
    low, high = (row["images"] / row["seconds"][end] for end in ("max", "min"))
    return f"{row['images_per_second']:.3g} ({low:.3g} to {high:.3g})"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "library": lambda row: row["library"] + (f", {row['attack']}" if row["attack"] not in (None, "passes") else ""),
    "images/s": spread,
    "forwards": lambda row: number(row["forwards"], ".4g"),
    "backwards": lambda row: number(row["backwards"], ".4g"),
    "loss": lambda row: number(row["loss"], ".4g"),
    "success": lambda row: number(row["success"], ".3f"),
    "norm": lambda row: number(row["norm"], ".3f"),
    "to best peer": lambda row: number(row["ratio_to_best_peer"], ".2f"),
    "to floor": lambda row: number(row["ratio_to_floor"], ".2f"),
    "": lambda row: remark(row),
}


def remark(row: Row) -> str:
    """Why a row has no numbers, or must not be compared."""
    if row["status"] != "ok":
        return row["status"]
    return "not comparable" if row["comparable"] is False else ""


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table's lines, the first with the names of the columns."""
    return [list(COLUMNS), *([column(row) for column in COLUMNS.values()] for row in rows)]


def table(rows: Sequence[Row]) -> str:
    """For the terminal, under the name of the task."""
    lines = cells(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([f"\n{rows[0]['task']}, {rows[0]['model']}, {rows[0]['images']} images", *text])


def markdown(rows: Sequence[Row]) -> str:
    """For a page."""
    head, *body = (" | ".join(cell.replace("|", "/") for cell in line) for line in cells(rows))
    rule = "|---" + "|---:" * (len(COLUMNS) - 2) + "|---|"
    return "\n".join([f"| {head} |", rule, *(f"| {line} |" for line in body)])
