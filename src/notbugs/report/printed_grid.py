"""The sample grid of Figure 2a as one picture for a paper."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from notbugs.report import symbols
from notbugs.report.charts import INK, MUTED, SERIF
from notbugs.report.pictures import Cell, sample_grid
from notbugs.report.reading import Arrays

ROWS = 5
GAP, HEAD, LABEL = 6.0, 18.0, 15.0
LETTERS = 0.5
"""Width of a letter, of its height, about."""


def printed_grid(arrays: Arrays, classes: Sequence[str], width: float) -> Markup:
    """The first rows of a gallery as an SVG that is `width` wide, each picture above the label it trains with."""
    grid = sample_grid({name: array[:ROWS] for name, array in arrays.items()}, classes)
    side = (width - GAP * (len(grid.columns) - 1)) / len(grid.columns)
    height = HEAD + len(grid.rows) * (side + LABEL)
    parts: list[str] = [
        symbols.svg(_text(place * (side + GAP) + side / 2, HEAD - 6, _heading(name), INK))
        for place, (name, _) in enumerate(grid.columns)
    ]
    for row, cells in enumerate(grid.rows):
        top = HEAD + row * (side + LABEL)
        for place, cell in enumerate(cells):
            parts += _picture(cell, place * (side + GAP), top, side, grid.pixelated)
    opening = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{}" height="{:.2f}" '
        'viewBox="0 0 {} {:.2f}" font-family="{}" font-size="11"><title>{}</title>'
        '<rect width="100%" height="100%" fill="white"/>'
    ).format(width, height, width, height, SERIF, "Sample images of every set")
    return Markup("\n".join([opening, *parts, "</svg>\n"]))


def _picture(cell: Cell, left: float, top: float, side: float, is_pixelated: bool) -> list[str]:
    how = Markup(' image-rendering="optimizeSpeed" style="image-rendering: pixelated"') if is_pixelated else ""
    picture = Markup(
        '<image x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" xlink:href="{}"{}><title>{}</title></image>'
    ).format(left, top, side, side, cell.source, how, cell.alt)
    return [picture, _text(left + side / 2, top + side + 11, _cut(cell.label, side), MUTED)]


def _text(x: float, y: float, text: str, colour: str) -> str:
    drawn = Markup('<text x="{:.2f}" y="{:.2f}" text-anchor="middle" fill="{}">{}</text>').format(x, y, colour, text)
    return str(drawn)


def _heading(name: str) -> str:
    return "start" if name.startswith("start of") else name


def _cut(label: str, side: float) -> str:
    """As much of a class's name as fits below its picture."""
    room = int(side / (11 * LETTERS))
    return label if len(label) <= room else f"{label[: room - 1]}\u2026"
