"""How long work tells that it goes on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called after every piece of work with what is done, out of how much, and the number of the moment."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` pieces are done."""


def silent(done: int, total: int, note: str = "") -> None:
    """Say nothing."""
