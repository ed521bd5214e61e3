"""How names are written: sets as the paper has them, on pages, in figures, in LaTeX and Markdown; classes; dates."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from notbugs.formats import one_line
from notbugs.study.sets import BY_NAME

NAMES = rf"\b(?:{'|'.join(sorted(BY_NAME, key=len, reverse=True))})\b"
"""A regular expression of all of them."""
NAMES_AND_NORMS = rf"{NAMES}|\b(?:l2|l-inf)\b"
_ZERO_WIDTH = "\u200b"
_NORMS = {"l2": ("\u2113", "2"), "l-inf": ("\u2113", "\u221e")}


def below(name: str) -> str:
    """What stands below the D of a set's symbol: `rand, other`."""
    declared = BY_NAME[name]
    return ", ".join(part for part in (declared.subscript, declared.qualifier) if part)


def html(text: str) -> Markup:
    """Escape `text` and set the names of constructed sets as the paper does: `D_NR` with a subscript."""
    return Markup(re.sub(NAMES, _html, str(escape(text))))


def svg(drawn: str, names: str = NAMES) -> str:
    """The texts of an SVG, with subscripts in the names of sets (and of norms, where `names` has them)."""
    return re.sub("(?<=>)[^<>]+(?=<)", lambda text: _lowered(re.split(f"({names})", text[0])), drawn)


def tex(name: str) -> str:
    """A name in LaTeX."""
    declared = BY_NAME[name]
    symbol = rf"$\widehat{{\mathcal{{D}}}}_{{\mathrm{{{declared.subscript}}}}}$"
    return f"{symbol} ({declared.qualifier})" if declared.qualifier else symbol


def markdown(name: str) -> str:
    """A name in Markdown."""
    return f"D<sub>{below(name)}</sub>"


def _html(match: re.Match[str]) -> str:
    return f"<span class=set>D<sub>{below(match[0])}</sub></span>"


def _lowered(parts: list[str]) -> str:
    """Every second part is a name; what follows it, if only an empty letter, takes the line up again."""
    drawn = parts[0]
    for name, rest in zip(parts[1::2], parts[2::2], strict=True):
        letter, lower = _NORMS.get(name) or ("D", below(name))
        drawn += f'{letter}<tspan dy="0.25em" font-size="0.8em">{lower}</tspan>'
        drawn += f'<tspan dy="-0.2em">{rest or _ZERO_WIDTH}</tspan>'
    return drawn


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
