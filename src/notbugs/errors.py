"""Errors that users meet, in one form: the name, the rule, the value got, the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class InputError(ValueError):
    """Something given to notbugs breaks a rule; the message says which one and what to do.

    The command line prints the message alone and exits with status 2.
    """


def must(name: str, rule: str, got: Any, remedy: str = "") -> InputError:
    """Make the error *The '<name>' must <rule>. Got <got> instead. <remedy>*"""
    return InputError(f"The '{name}' must {rule}. Got {got!r} instead.{' ' + remedy if remedy else ''}")


def check_number(
    name: str, value: object, *, low: float = 0.0, open_low: bool = False, infinite: bool = False
) -> float:
    """Return `value` if it is a number at or above `low` (above, if `open_low`), else raise `InputError`."""
    rule = f"be a number {'above' if open_low else 'at or above'} {low:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise must(name, rule, value)
    if value < low or (open_low and value == low) or (math.isinf(value) and not infinite):
        raise must(name, rule, value)
    return float(value)


def check_count(name: str, value: object, *, low: int = 1) -> int:
    """Return `value` if it is a whole number at or above `low`, else raise `InputError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise must(name, f"be a whole number at or above {low}", value)
    return value


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise `InputError` naming the nearest one."""
    choices = list(choices)
    if isinstance(value, str) and value in choices:
        return value
    near = get_close_matches(str(value), choices, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else ""
    raise must(name, f"be one of {', '.join(choices)}", value, remedy)
