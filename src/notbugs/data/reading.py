"""How data are to be read, where their kind leaves a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from notbugs.data.classes import ClassList, class_list
from notbugs.errors import check_count, check_number

Groups = Mapping[str, str]
"""New classes by name: class folders and ranges of them, as `n02123045..n02124075, lion`."""


@dataclass(frozen=True)
class Reading:
    """Every choice; see `notbugs.load` for what each is."""

    size: int | None = None
    groups: Groups = field(default_factory=dict)
    classes: Sequence[str] | str | Path = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    image_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    label_offset: int = 0
    white_level: float | None = None
    severity: int | None = None
    skip_broken: bool = False
    follow_links: bool = False

    def __post_init__(self) -> None:
        if self.size is not None:
            check_count("size", self.size)
        if self.severity is not None:
            check_count("severity", self.severity)
        if self.white_level is not None:
            check_number("white_level", self.white_level, open_low=True)

    @property
    def columns(self) -> str:
        """The first column that was asked for, as the option is called; empty if none was."""
        asked = ("image_column", "label_column", "group_column")
        return next((name for name in asked if getattr(self, name) is not None), "")

    @cached_property
    def names(self) -> ClassList | None:
        """The classes that were given, in their order."""
        return class_list(self.classes) if self.classes else None
