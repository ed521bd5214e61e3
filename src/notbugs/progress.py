"""How long work tells that it goes on."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called after every piece of work with what is done, out of how much, and the number of the moment."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` pieces are done."""


def silent(done: int, total: int, note: str = "") -> None:
    """Say nothing."""


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


def duration(seconds: float) -> str:
    """Seconds for a reader: `0.4 s`, `12 s`, `3 min 5 s`, `1 h 2 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
