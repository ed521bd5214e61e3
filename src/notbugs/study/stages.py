"""Pieces of work that are done once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notbugs.progress import Progress

Tell = Callable[[Any], Sequence[str]]
"""From a stage's value to the line that a console says of it: its beginning, and items."""


@dataclass(frozen=True)
class Step:
    """A stage to be done: its file's name, its title, what makes its JSON value, and what a console says of that."""

    name: str
    title: str
    work: Callable[[Progress], Any]
    tell: Tell | None = None
    leaves: Path | None = None
    """A safetensors file of the stage: where that is damaged, the stage is done again."""
