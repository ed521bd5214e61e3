"""How numbers are written: on pages, in tables, in terminals and in LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Protocol, runtime_checkable

NORMS = {"l2": "l2", "linf": "l-inf"}
STRONG = "strong"
"""The attack that is not named where a radius is."""

CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
CONTROL |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""What moves a terminal's cursor, colours it or turns its text round, and how it is spelt out."""


def harmless(text: str) -> str:
    """`text` for a terminal: a name from elsewhere may hold what a terminal obeys."""
    return text.translate(CONTROL)


def one_line(text: str) -> str:
    """The same of what is one line: a name with a line break in it begins no other."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def shortened(name: str, longest: int) -> str:
    """`name` in at most so many characters: cut in the middle, as names of classes may differ only at their ends."""
    if len(name) <= longest:
        return name
    end = max(longest - 1, 0) // 2
    return f"{name[: max(longest - 1, 0) - end]}…{name[len(name) - end :]}"


@runtime_checkable
class Interval(Protocol):
    """A value with its 95 % interval."""

    @property
    def value(self) -> float:
        """What was measured."""
        ...

    @property
    def low(self) -> float:
        """Its lower end."""
        ...

    @property
    def high(self) -> float:
        """Its upper end."""
        ...


@dataclass(frozen=True)
class Span:
    """A mean over seeds, and the least and the greatest of them."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, shares: Sequence[Interval]) -> Interval:
        """Of the accuracies of several seeds; that of one keeps its interval, as one seed has no spread."""
        if len(shares) == 1:
            return shares[0]
        values = [share.value for share in shares]
        return cls(mean(values), min(values), max(values))


def spanned(repeats: Iterable[int]) -> str:
    """What bars of `Span.of` are, by the numbers of the repetitions."""
    several = max(repeats) > 1
    return "mean, least and greatest over seeds" if several else "with 95\u00a0% intervals over test images"


def under_attack(name: str, norm: str, eps: float) -> str:
    """What was done to images: `l2 0.5` by the strong attack, or `l2 0.5, pgd`."""
    return f"{norm} {eps:g}{'' if name == STRONG else f', {name}'}"


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage with one decimal, or more, without the sign: 0.9 is `90.0`."""
    return f"{round(100 * share, digits) + 0.0:.{digits}f}"  # + 0.0: there is no -0.0


def between(low: float, high: float, digits: int = 1) -> str:
    """The ends of an interval of shares, in per cent: `86.5 to 92.7`."""
    return f"{percent(low, digits)} to {percent(high, digits)}"


def quoted(share: Interval, sign: str = "%", digits: int = 1) -> str:
    """A share with its interval: `90.0% (86.5 to 92.7)`; `sign` follows the value, none where a heading has it."""
    return f"{percent(share.value, digits)}{sign} ({between(share.low, share.high, digits)})"


def said(share: Interval, digits: int = 1) -> str:
    """The same in a sentence of a page: `90.0\u00a0% (86.5 to 92.7)`."""
    return quoted(share, "\u00a0%", digits)


def compact(share: Interval, gap: str = " ") -> str:
    """The same for the narrow columns of a terminal: `90.0 86.5-92.7`, which breaks at `gap` and nowhere else."""
    return f"{percent(share.value)}{gap}{percent(share.low)}-{percent(share.high)}"


def speed(images: float) -> str:
    """Of images a second: 3,072, and 0.52 where they are few."""
    return f"{images:.3g}" if images < 100 else f"{images:,.0f}"


def points(value: float, low: float, high: float) -> str:
    """A difference of shares in percentage points, with its interval: `63.6 (57.5 to 68.8)`."""
    return f"{percent(value)} ({between(low, high)})"


def signed(difference: float, minus: str = "\u2212") -> str:
    """A difference of shares in points, with its sign: 0.012 is `+1.2`."""
    return f"{100 * difference:+.1f}".replace("-0.0", "+0.0").replace("-", minus)


def number(value: float) -> str:
    """A number for a table: whole ones with separated thousands, others with four significant digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def ball(norm: str, eps: float) -> str:
    """A threat model by its norm and radius in pixel units: `l2 0.25`, `l-inf 0.03137`."""
    return f"{NORMS[norm]} {eps:.4g}"


def counted(count: int, noun: str) -> str:
    """`1 epoch`, `4 epochs`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Seconds for a reader: `0.4 s`, `12 s`, `3 min 5 s`, `1 h 2 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def class_name(classes: Sequence[str], label: int) -> str:
    """The name of a class; its number where it has none."""
    return classes[label] if label < len(classes) else str(label)
