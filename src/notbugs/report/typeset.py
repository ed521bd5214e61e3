"""Tables as LaTeX (booktabs), as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from notbugs.content import Cell, Share, Table
from notbugs.formats import harmless, number, percent, quoted
from notbugs.measure import Spread
from notbugs.report import symbols
from notbugs.study.sets import BY_NAME

LETTER, BETWEEN, ROOM = 4.5, 8.0, 397.0
"""Points: a letter of `small` text, about; the space between columns; and the width of the text.

A table that is wider is scaled down to it.
"""
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": "{`}", "--": "-{}-", "\u00a0": "~",
    "\u2013": "--", "\u2014": "---", "\u2019": "'", "\u201c": "``", "\u201d": "''",
    "\u03c1": r"$\rho$", "\u03b3": r"$\gamma$",
    "l2": r"$\ell_2$", "l-inf": r"$\ell_\infty$", "linf": r"$\ell_\infty$",
}  # fmt: skip
_NORM = r"\b(?:l2|l-inf|linf)\b"
_TEX_PARTS = f"{symbols.NAMES}|{_NORM}|--|[{re.escape(''.join(part for part in _TEX if len(part) == 1))}]"
_MARKDOWN_PARTS = re.compile(symbols.NAMES + r"|[\\`*_{}\[\]<>&|~$]")


def latex(table: Table, name: str, note: str = "") -> str:
    """A `table` environment for booktabs, with the label `tab:NAME`; its caption stands above, as NeurIPS has it.

    A table that is wider than the text is scaled to it, which needs graphicx. A `note` becomes a comment.
    """
    columns = "".join("l" if _has_words(table, place) else "r" for place in range(len(table.columns)))
    rows = [" & ".join([_tex_ours(_shown(row[0])), *map(_tex_cell, row[1:])]) for row in table.rows]
    tabular = [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        rf"{' & '.join(map(tex, table.columns))} \\",
        r"\midrule",
        *(rf"{{}}{row} \\" for row in rows),  # {}: a row that began with [ or * would be read as part of \\
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if _is_wide(table):
        tabular = [r"\resizebox{\linewidth}{!}{%", *tabular[:-1], rf"{tabular[-1]}}}"]
    lines = [
        *([f"% {_line(note)}"] if note else []),
        r"\begin{table}[t]",
        rf"\caption{{{_tex_ours(_sentence(table.caption))}}}",
        rf"\label{{tab:{name}}}",
        r"\centering",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        *tabular,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown(table: Table, note: str = "") -> str:
    """A table for GitHub and pandoc, below its caption and above its note."""
    sides = ["---" if _has_words(table, place) else "---:" for place in range(len(table.columns))]
    lines = [map(md, table.columns), sides, *([md(_shown(cell)) for cell in row] for row in table.rows)]
    parts = [md(_sentence(table.caption)), "\n".join(f"| {' | '.join(line)} |" for line in lines), md(note)]
    return "\n\n".join(part for part in parts if part) + "\n"


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tidy rows under the names of the first one's fields; None is left empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(rows[0]) if rows else []
    writer.writerows([_no_formula(cell) for cell in row] for row in [names, *(map(row.get, names) for row in rows)])
    return file.getvalue()


def _no_formula(cell: object) -> object:
    """A name that a spreadsheet would calculate, behind the apostrophe that makes it text; all names on one line."""
    if not isinstance(cell, str):
        return cell
    text = harmless(cell.replace("\r", " "))
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", " ")) else text


def fields(table: Table) -> list[dict[str, Any]]:
    """The rows of a table under the names of its columns; a share also has its interval and its n."""
    shares = {
        column for place, column in enumerate(table.columns) if any(isinstance(row[place], Share) for row in table.rows)
    }
    found = []
    for row in table.rows:
        named: dict[str, Any] = {}
        for column, cell in zip(table.columns, row, strict=True):
            named[column or "row"] = cell.value if isinstance(cell, Share) else cell
            if column in shares:
                share = cell.model_dump() if isinstance(cell, Share) else {}
                named |= {f"{column} {name}": share.get(name) for name in ("low", "high", "n")}
        found.append(named)
    return found


def tex(text: str) -> str:
    """`text` with what is special to LaTeX escaped, and the names of sets and norms as the paper sets them."""
    return re.sub(_TEX_PARTS, _tex_part, _line(text))


def _tex_ours(text: str) -> str:
    """The same of a text of our own, in which a D that stands alone is the original set."""
    return re.sub(rf"\bD\b|{_TEX_PARTS}", _tex_part, _line(text))


def md(text: str) -> str:
    """`text` with what is special to Markdown escaped, and the names of sets with subscripts."""
    return _MARKDOWN_PARTS.sub(_markdown_part, _line(text))


def _tex_part(found: re.Match[str]) -> str:
    if found[0] == "D":
        return r"$\mathcal{D}$"
    return symbols.tex(found[0]) if found[0] in BY_NAME else _TEX[found[0]]


def _markdown_part(found: re.Match[str]) -> str:
    if found[0] in BY_NAME:
        return symbols.markdown(found[0])
    return escape(found[0]) if found[0] in "<>&" else f"\\{found[0]}"


def _line(text: str) -> str:
    """One line without control characters; spaces that do not break stay."""
    breaks = ("Cc", "Zl", "Zp")
    line = "".join(" " if unicodedata.category(letter) in breaks else letter for letter in text)
    return re.sub(" +", " ", harmless(line)).strip(" ")


def _sentence(caption: str) -> str:
    return caption if caption.endswith(".") else f"{caption}."


def _tex_cell(cell: Cell) -> str:
    if isinstance(cell, Share):
        return rf"{percent(cell.value)} {{\scriptsize {percent(cell.low)}--{percent(cell.high)}}}"
    return tex(_shown(cell))


def _shown(cell: Cell) -> str:
    if isinstance(cell, Share):
        return quoted(cell, "")
    if cell is None:
        return ""
    if isinstance(cell, Spread):
        return number(cell.median)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return number(cell) if isinstance(cell, int | float) else cell


def _has_words(table: Table, place: int) -> bool:
    """Whether a column is set flush left: it names its rows, or most of it is words."""
    column = [row[place] for row in table.rows if row[place] is not None]
    words = [cell for cell in column if isinstance(cell, str) and not cell.lstrip("-")[:1].isdigit()]
    return place == 0 or 2 * len(words) > len(column)


def _is_wide(table: Table) -> bool:
    columns = list(zip(*(table.columns, *table.rows), strict=True))
    letters = sum(max(map(_letters, column)) for column in columns)
    return LETTER * letters + BETWEEN * (len(columns) - 1) > ROOM


def _letters(cell: Cell) -> int:
    return 12 if isinstance(cell, Share) else len(_shown(cell))  # its interval is smaller
