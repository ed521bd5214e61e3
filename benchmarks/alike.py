"""Finished studies that may be compared: alike in all settings but those that are asked about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from notbugs.errors import InputError
from notbugs.study import Results
from notbugs.study.recipe import flat

ALWAYS = ("seed", "name", "about", "data", "device", "precision")
"""Settings in which any studies may differ: the data's name must be the same, its place need not."""


def check_alike(studies: Sequence[Results], asked: Sequence[str]) -> None:
    """Refuse studies that differ in other settings than those that are asked about, and their seed.

    Raises
    ------
    InputError
        With the first setting that differs.
    """
    first, *_ = settings = [_fixed(study, tuple(f"{name}." for name in (*asked, *ALWAYS))) for study in studies]
    for study, mine in zip(studies, settings, strict=True):
        for key in sorted(mine.keys() | first.keys()):
            if mine.get(key) != first.get(key):
                raise InputError(
                    f"The studies must differ in {', '.join(map(repr, asked))} and 'seed' alone; {key!r} is "
                    f"{first.get(key)!r} in the first, and {mine.get(key)!r} in another, of {study.study.created}. "
                    "Leave one out."
                )


def _fixed(study: Results, free: tuple[str, ...]) -> dict[str, Any]:
    settings = {name: value for name, value in flat(study.study.recipe).items() if not f"{name}.".startswith(free)}
    return settings | {"the data's name": study.study.data["name"]}


def check_different(studies: Sequence[Results], what: str, of: Callable[[Results], object]) -> None:
    """Refuse two studies of the same seed that are the same in what is asked about: one counts twice.

    Raises
    ------
    InputError
        If there are two such.
    """
    if len({(of(study), study.study.recipe["seed"]) for study in studies}) < len(studies):
        raise InputError(f"Two of the studies have the same {what} and the same seed. Leave one out.")
