"""Tables as LaTeX (booktabs), as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from notbugs.measure import Proportion
from notbugs.report.sections import Cell, Table
from notbugs.report.wording import number, percent

ROOM = 84
"""Characters of a row that fit the width of the text; a wider table is scaled down to it."""
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "--": "-{}-", "\u00a0": "~",
    "\u2013": "--", "\u2014": "---", "\u2019": "'", "\u201c": "``", "\u201d": "''",
    "\u03c1": r"$\rho$", "\u03b3": r"$\gamma$",
    "l2": r"$\ell_2$", "l-inf": r"$\ell_\infty$", "linf": r"$\ell_\infty$",
}  # fmt: skip
_SET = r"\bD_(?:R|NR|rand|det)(?:_other)?\b"
_NORM = r"\b(?:l2|l-inf|linf)\b"
_TEX_PARTS = re.compile(f"{_SET}|{_NORM}|--|[{re.escape(''.join(part for part in _TEX if len(part) == 1))}]")
_MARKDOWN_PARTS = re.compile(_SET + r"|[\\`*_{}\[\]<>&|~$]")


def latex(table: Table, name: str) -> str:
    """A `table` environment for booktabs, with the label `tab:NAME`; its caption stands above, as NeurIPS has it.

    A table that is wider than the text is scaled to it, which needs graphicx.
    """
    columns = "".join("l" if _has_words(table, place) else "r" for place in range(len(table.columns)))
    rows = [" & ".join(map(_tex_cell, row)) for row in table.rows]
    tabular = [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        rf"{' & '.join(map(tex, table.columns))} \\",
        r"\midrule",
        *(rf"{{}}{row} \\" for row in rows),  # {}: a row that began with [ or * would be read as part of \\
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if _width(table) > ROOM:
        tabular = [r"\resizebox{\linewidth}{!}{%", *tabular[:-1], rf"{tabular[-1]}}}"]
    lines = [
        r"\begin{table}[t]",
        rf"\caption{{{tex(_sentence(table.caption))}}}",
        rf"\label{{tab:{name}}}",
        r"\centering",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        *tabular,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown(table: Table) -> str:
    """A table for GitHub and pandoc, below its caption."""
    sides = ["---" if _has_words(table, place) else "---:" for place in range(len(table.columns))]
    lines = [map(md, table.columns), sides, *([md(_shown(cell)) for cell in row] for row in table.rows)]
    return "\n".join([md(_sentence(table.caption)), "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tidy rows under the names of the first one's fields; None is left empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def tidy(table: Table) -> list[dict[str, Any]]:
    """A table as tidy rows, one for each cell that is not empty; `row` is the first cell of its row."""
    return [
        {"row": row[0], "column": column, **_tidy_cell(cell)}
        for row in table.rows
        for column, cell in zip(table.columns[1:], row[1:], strict=True)
        if cell is not None
    ]


def tex(text: str) -> str:
    """`text` with what is special to LaTeX escaped, and the names of sets and norms as the paper sets them."""
    return _TEX_PARTS.sub(_tex_part, _line(text))


def md(text: str) -> str:
    """`text` with what is special to Markdown escaped, and the names of sets with subscripts."""
    return _MARKDOWN_PARTS.sub(_markdown_part, _line(text))


def _tex_part(found: re.Match[str]) -> str:
    if not found[0].startswith("D_"):
        return _TEX[found[0]]
    name, _, other = found[0].removeprefix("D_").partition("_")
    return rf"$\widehat{{\mathcal{{D}}}}_{{\mathrm{{{name}}}}}$" + (" (other)" if other else "")


def _markdown_part(found: re.Match[str]) -> str:
    if not found[0].startswith("D_"):
        return escape(found[0]) if found[0] in "<>&" else f"\\{found[0]}"
    name, _, other = found[0].removeprefix("D_").partition("_")
    return f"D<sub>{name}{', other' if other else ''}</sub>"


def _line(text: str) -> str:
    """One line without control characters; spaces that do not break stay."""
    breaks = ("Cc", "Zl", "Zp")
    line = "".join(" " if unicodedata.category(letter) in breaks else letter for letter in text)
    return re.sub(" +", " ", line).strip(" ")


def _sentence(caption: str) -> str:
    return caption if caption.endswith(".") else f"{caption}."


def _tex_cell(cell: Cell) -> str:
    if isinstance(cell, Proportion):
        return rf"{percent(cell.value)} {{\scriptsize {percent(cell.low)}--{percent(cell.high)}}}"
    return tex(_shown(cell))


def _shown(cell: Cell) -> str:
    if isinstance(cell, Proportion):
        return f"{percent(cell.value)} ({percent(cell.low)} to {percent(cell.high)})"
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return number(cell) if isinstance(cell, int | float) else cell


def _tidy_cell(cell: Cell) -> dict[str, Any]:
    empty = dict.fromkeys(("value", "low", "high", "n", "text"))
    if isinstance(cell, Proportion):
        return empty | cell.model_dump()
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return empty | {"value": cell}
    return empty | {"text": _shown(cell)}


def _has_words(table: Table, place: int) -> bool:
    """Whether a column is set flush left: it names its rows, or has words in it."""
    column = (row[place] for row in table.rows)
    return place == 0 or any(isinstance(cell, str) and cell and not cell.lstrip("-")[:1].isdigit() for cell in column)


def _width(table: Table) -> int:
    """Characters of a row, were every cell as wide as the widest of its column."""
    columns = zip(*(table.columns, *table.rows), strict=True)
    return sum(max(len(_shown(cell)) for cell in column) + 1 for column in columns)
