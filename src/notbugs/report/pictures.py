"""The pictures of a study and the sample grid of Figure 2a, for a page and for print: a training image a row."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from notbugs.errors import InputError, in_one_line
from notbugs.files import check_tensors, warn_unchecked
from notbugs.formats import shortened
from notbugs.report import wording
from notbugs.report.charts import INK, MUTED, SERIF
from notbugs.study.sets import EVERY_SET, MATCHED

Arrays = dict[str, NDArray[np.generic]]


def read_gallery(path: Path) -> Arrays | None:
    """Read `gallery.safetensors`: a sample of training images and their version in every constructed set.

    Returns None where there is no such file. Images have shape (image, channel, height, width) and lie in [0, 1]; row
    i of every array belongs to the same training image. What else there is, `study.examples` says; older galleries have
    less.

    Raises
    ------
    InputError
        If the file is damaged, or its arrays do not fit together.
    """
    if not os.path.lexists(path):
        return None
    try:
        if not check_tensors(path):
            warn_unchecked(path)
        arrays = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise _unreadable(path, str(error)) from error
    if "D" not in arrays or "D.labels" not in arrays:
        raise _unreadable(path, "it has no images of D")
    count, channels = arrays["D"].shape[0], arrays["D"].shape[1] if arrays["D"].ndim == 4 else 0
    if channels not in (1, 3):
        raise _unreadable(path, f"images of shape {arrays['D'].shape} are neither grey nor RGB")
    for name, array in arrays.items():
        expected = _expected(arrays, name, count)
        if array.shape != expected:
            raise _unreadable(path, f"{name} has shape {array.shape}, not {expected}")
    return arrays


def read_pictures(path: Path) -> Arrays | None:
    """The pictures of an audit; None where there are none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not os.path.lexists(path):
        return None
    try:
        check_tensors(path)
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({in_one_line(error)}). Delete it and audit again."
        ) from error


def _expected(arrays: Arrays, name: str, count: int) -> tuple[int, ...]:
    name_of_set, _, kind = name.partition(".")
    frames = arrays[f"{name_of_set}.steps"].size if f"{name_of_set}.steps" in arrays else 0
    shapes = {
        "labels": (count,),
        "start_labels": (count,),
        "success": (count,),
        "steps": (frames,),
        "moved": (count, frames, *arrays["D"].shape[1:]),
        "scores": (count, 1 + frames),
        "size": (count, 2),
        "alike": (count, 2),
    }
    return shapes.get(kind, arrays["D"].shape)


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a gallery that notbugs can show: {why.rstrip('.')}. "
        "Give the study's command again: it makes the gallery."
    )


BUDGET = 2_000_000  # characters of pictures in the grid
ROWS = 12  # of the grid, at most
SIDE = 96  # CSS pixels of a picture on the page, about
SAYS = {"D": "the training image", **{declared.name: declared.says for declared in EVERY_SET}}

PRINTED_ROWS = 5
GAP, HEAD, LABEL = 6.0, 18.0, 15.0
LETTERS = 0.5
"""Width of a letter, of its height, about."""


@dataclass(frozen=True)
class Cell:
    """A picture, the label it trains with, and where it comes from."""

    source: str
    alt: str
    label: str
    note: str


@dataclass(frozen=True)
class Grid:
    """Columns as (name, explanation), and rows of cells; `left_out` images did not fit on the page."""

    columns: list[tuple[str, str]]
    rows: list[list[Cell]]
    left_out: int
    side: int
    pixelated: bool

    @property
    def is_of_other_classes(self) -> bool:
        """Whether every row is of another class; a class may have no image among those that rows are drawn from."""
        labels = [row[0].label for row in self.rows]
        return len(set(labels)) == len(labels)


def sample_grid(arrays: Arrays, classes: Sequence[str]) -> Grid:
    """Draw the first `ROWS` images of a gallery, or as many as fit in `BUDGET`, at least one."""
    starts = _start_columns(arrays)
    columns = ["D", *starts, *(name for name in SAYS if name != "D" and name in arrays)]
    rows: list[list[Cell]] = []
    spent = 0
    for index in range(min(ROWS, len(arrays["D"]))):
        cells = [_cell(arrays, column, index, classes) for column in columns]
        spent += sum(len(cell.source) for cell in cells)
        if rows and spent > BUDGET:
            break
        rows.append(cells)
    width = arrays["D"].shape[3]
    headings = [(starts.get(column, column), SAYS.get(column, _START)) for column in columns]
    return Grid(headings, rows, len(arrays["D"]) - len(rows), magnified(width, SIDE), pixelated=width <= SIDE)


def magnified(width: int, side: int) -> int:
    """CSS pixels of an image `width` pixels wide: the whole multiple nearest to `side`, at most `side` if larger."""
    return max(1, round(side / width)) * width if width <= side else side


def sheet(images: NDArray[np.generic]) -> str:
    """Images of shape (row, column, channel, height, width) in [0, 1], edge to edge, as the data URI of one PNG."""
    rows, columns, channels, height, width = images.shape
    return png(images.transpose(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width))


def png(image: NDArray[np.generic]) -> str:
    """An image of shape (channel, height, width) in [0, 1], grey or RGB, as the data URI of a PNG."""
    pixels = np.rint(np.clip(np.asarray(image, np.float64), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


_START = "where the search started: another training image"


def _start_columns(arrays: Arrays) -> dict[str, str]:
    """The start images of matched sets, by array name: one column for all sets that share them."""
    columns: dict[str, list[str]] = {}
    for name in MATCHED:
        if (key := f"{name}.start") in arrays:
            same = next((other for other in columns if np.array_equal(arrays[other], arrays[key])), key)
            columns.setdefault(same, []).append(name)
    return {key: f"start of {' and '.join(names)}" for key, names in columns.items()}


def _cell(arrays: Arrays, column: str, index: int, classes: Sequence[str]) -> Cell:
    source = png(arrays[column][index])
    if column.endswith(".start"):
        label = _name(classes, arrays, f"{column}_labels", index)
        return Cell(source, f"Start image, an image of {label}", label, "")
    label = _name(classes, arrays, f"{column}.labels", index)
    if column == "D":
        return Cell(source, f"D, an image of {label}", label, "")
    if f"{column}.start_labels" not in arrays and f"{column}.start" in arrays:
        return Cell(source, f"{column}, trains as {label}, started from noise", label, "from noise")
    start = _name(classes, arrays, f"{column}.start_labels", index)
    alt = f"{column}, trains as {label}, started from an image of {start}"
    return Cell(source, alt, label, f"from {start}")


def _name(classes: Sequence[str], arrays: Arrays, name: str, index: int) -> str:
    if name not in arrays:
        return "?"
    label = int(arrays[name][index])
    return classes[label] if 0 <= label < len(classes) else str(label)


def printed_grid(arrays: Arrays, classes: Sequence[str], width: float) -> Markup:
    """The first rows of a gallery as an SVG that is `width` wide, each picture above the label it trains with."""
    grid = sample_grid({name: array[:PRINTED_ROWS] for name, array in arrays.items()}, classes)
    side = (width - GAP * (len(grid.columns) - 1)) / len(grid.columns)
    height = HEAD + len(grid.rows) * (side + LABEL)
    parts: list[str] = [
        wording.svg(_text(place * (side + GAP) + side / 2, HEAD - 6, _heading(name), INK))
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
    style = Markup(' image-rendering="optimizeSpeed" style="image-rendering: pixelated"') if is_pixelated else ""
    picture = Markup(
        '<image x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" xlink:href="{}"{}><title>{}</title></image>'
    ).format(left, top, side, side, cell.source, style, cell.alt)
    return [picture, _text(left + side / 2, top + side + 11, _cut(cell.label, side), MUTED)]


def _text(x: float, y: float, text: str, colour: str) -> str:
    drawn = Markup('<text x="{:.2f}" y="{:.2f}" text-anchor="middle" fill="{}">{}</text>').format(x, y, colour, text)
    return str(drawn)


def _heading(name: str) -> str:
    return "start" if name.startswith("start of") else name


def _cut(label: str, side: float) -> str:
    """As much of a class's name as fits below its picture."""
    return shortened(label, int(side / (11 * LETTERS)))
