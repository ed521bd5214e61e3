"""How numbers and names are written, everywhere on the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from notbugs.progress import duration as duration
from notbugs.study.results import Proportion, Row

NORMS = {"l2": "l2", "linf": "l-inf"}
_NAMES = re.compile(r"\bD_(R|NR|rand|det)(_other)?\b")


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with one decimal, without the sign: 0.9 is `90.0`."""
    return f"{round(100 * share, 1) + 0.0:.1f}"  # + 0.0: there is no -0.0


def signed(difference: float) -> str:
    """A difference of shares in points, with its sign: 0.012 is `+1.2`."""
    return f"{100 * difference:+.1f}".replace("-0.0", "+0.0").replace("-", "−")


def quoted(measured: Row | Proportion) -> str:
    """A proportion in a sentence, with its 95 % interval: `90.0 % (86.5 to 92.7)`."""
    value = measured.accuracy if isinstance(measured, Row) else measured.value
    return f"{percent(value)}\u00a0% ({percent(measured.low)} to {percent(measured.high)})"


def number(value: float) -> str:
    """A number for a table: whole ones with separated thousands, others with four significant digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def class_names(classes: Any) -> list[str]:
    """The names of the classes, from their list or their number."""
    if isinstance(classes, int):
        return [str(label) for label in range(classes)]
    return [str(name) for name in classes or []]


def class_name(classes: Sequence[str], label: int) -> str:
    """The name of a class; its number where it has none."""
    return classes[label] if label < len(classes) else str(label)


def date(created: str) -> str:
    """An ISO 8601 time as a date: `4 March 2026`; anything else as it is."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y}"


def sets(text: str) -> Markup:
    """Escape `text` and set the names of constructed sets as the paper does: `D_NR` with a subscript."""
    return Markup(_NAMES.sub(_subscript, str(escape(text))))


def _subscript(found: re.Match[str]) -> str:
    other = ", other" if found[2] else ""
    return f"<span class=set>D<sub>{found[1]}{other}</sub></span>"
