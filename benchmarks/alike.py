"""Finished studies that may be compared: alike in all settings but those that are asked about; how they are named."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
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


def options(name: str, about: str | None, given: Sequence[str] | None) -> argparse.Namespace:
    """What `python -m benchmarks.NAME` is told: `studies`, `json` and `picture`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("studies", nargs="+", type=Path, help="folders of finished studies, each seed its own")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--picture", type=Path, help="draw them here, .svg or .png (pip install 'notbugs[report]')")
    return parser.parse_args(given)


def cell(share: Mapping[str, float]) -> str:
    """A share and its interval, in per cent."""
    return f"{100 * share['value']:.1f} ({100 * share['low']:.1f} to {100 * share['high']:.1f})"
