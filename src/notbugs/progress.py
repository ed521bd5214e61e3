"""How work tells that it goes on, in lines as wide as there is room."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called after every piece of work with what is done, out of how much, and the number of the moment."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` pieces are done."""


def silent(done: int, total: int, note: str = "") -> None:
    """Say nothing."""


T = TypeVar("T")


class Stage(Protocol):
    """Does a piece of work, or finds what it gave before."""

    def __call__(self, name: str, title: str, work: Callable[[Progress], T], /, *, kind: type[T]) -> T:
        """The value of `work`, made now or kept from before; `kind` is its type, which a file is read as."""
        ...


def at_once(name: str, title: str, work: Callable[[Progress], T], /, *, kind: type[T]) -> T:
    """A `Stage` that keeps nothing."""
    return work(silent)


def part(progress: Progress, number: int, parts: int) -> Progress:
    """Tells `progress` how far one of `parts` equal parts of some work is; the first has the number 0."""

    def tell(done: int, total: int, note: str = "") -> None:
        progress(number * total + done, parts * total, note)

    return tell


class Pace:
    """How long the rest of some work takes, if it goes as what was done since the first call."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.first: int | None = None

    def left(self, done: int, total: int) -> float | None:
        """Seconds; None as long as nothing was done since the first call."""
        if self.first is None:
            self.first, self.began = done, time.monotonic()  # a resumed stage starts in the middle
        if done <= self.first:
            return None
        return (time.monotonic() - self.began) * (total - done) / (done - self.first)


def packed(text: str, items: Sequence[str], width: int, indent: str = "    ") -> list[str]:
    """`text` and what follows it, in lines of at most `width` that end between items where they can."""
    return [part for line in _lines(text, items, width, indent) for part in _wrapped(line, width, indent)]


def _lines(text: str, items: Sequence[str], width: int, indent: str) -> Iterator[str]:
    line = text
    for number, item in enumerate(items, 1):
        piece = item if number == len(items) else f"{item},"
        if len(line) + 1 + len(piece) > width:
            yield line
            line = f"{indent}{piece}"
        else:
            line += f" {piece}"
    yield line


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    """An item goes on two columns to its right."""
    deeper = f"{indent}  " if line.startswith(indent) else indent
    return textwrap.wrap(line, width, subsequent_indent=deeper, break_on_hyphens=False)
