"""Errors that users meet, in one form: the name, the rule, the value got, the remedy."""

from __future__ import annotations

import math
import operator
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, SupportsIndex

from pydantic import ValidationError

LONGEST, DEEPEST = 400, 100
"""Characters of a value in an error, and tables or lists within each other that it may have."""
CLAUSES = 6
"""Of one error, at most."""


class InputError(ValueError):
    """Something given to notbugs breaks a rule; the message says which one and what to do.

    The command line prints the message alone and exits with status 2.

    Examples
    --------
    >>> try:
    ...     nb.load('digitss')
    ... except nb.InputError as error:
    ...     print(str(error).split('.')[0])
    ...
    There is no 'digitss': no data set, file or folder has this name
    """


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a module whose public names changed: those of before warn, and are those of now."""

    def of_before(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        said = f"{module}.{name} is now {module}.{names[name]}, and will be removed in version 1.0."
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return of_before


def must(name: str, rule: str, got: Any, remedy: str = "") -> InputError:
    """Make the error *The '<name>' must <rule>. Got <got> instead. <remedy>*"""
    return InputError(f"The '{name}' must {rule}. Got {_short(got)} instead.{' ' + remedy if remedy else ''}")


def described(error: ValidationError) -> str:
    """Pydantic's findings, one clause for each of the first: the name, the rule, the value got."""
    clauses = []
    found = error.errors(include_url=False)
    # That a list is too short, once what is wrong in it is left out, is no finding of its own.
    inner = [item for item in found if not any(_is_inside(other["loc"], item["loc"]) for other in found)]
    for item in inner[:CLAUSES]:
        if not item["loc"]:  # a rule between settings, which names them itself
            clauses.append(f"The settings are wrong: {item['msg'].removeprefix('Value error, ')}.")
            continue
        name, why = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ").rstrip(".")
        if why.startswith("The '"):  # an error of ours says all itself, but not where the setting is
            subject = why.split("'")[1]
            why = why.replace(f"'{subject}'", f"'{name}'", 1) if subject in item["loc"] else why
            clauses.append(why if why.endswith("?") else f"{why}.")
            continue
        got = "" if " Got " in why else f" Got {_short(item['input'])} instead."  # an error of ours says it already
        if item["type"].endswith("_parsing") and "," in str(item["input"]):
            got += " Write numbers with a point, and several with spaces between them: 0.49 0.48."
        given = item["input"] if item["type"] == "literal_error" else None
        near = get_close_matches(given, re.findall(r"'([^']*)'", why), n=1) if isinstance(given, str) else []
        clauses.append(f"The '{name}' is wrong: {why}.{got}{f' Did you mean {near[0]!r}?' if near else ''}")
    return " ".join(clauses)


def _is_inside(place: Sequence[object], outer: Sequence[object]) -> bool:
    return len(place) > len(outer) and tuple(place[: len(outer)]) == tuple(outer)


def in_one_line(error: BaseException) -> str:
    """What an error of a library says, as one line."""
    if isinstance(error, ValidationError):
        return described(error).rstrip(".")
    return (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")[:LONGEST]


def _values(one: dict[Any, Any] | list[Any]) -> Iterable[Any]:
    return one.values() if isinstance(one, dict) else one


def _short(value: Any) -> str:
    """A value as a person would write it, but for the middle of a long one."""
    inside = [value]
    for _ in range(DEEPEST):
        children = (each for one in inside if isinstance(one, dict | list) for each in _values(one))
        inside = list({id(each): each for each in children}.values())  # once each: what holds itself twice would double
    if inside:  # Python's own limit differs from version to version
        return "something nested too deep to show"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


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


def check_count(name: str, value: object, *, low: int = 1, high: int = 2**63 - 1) -> int:
    """Return `value` if it is a whole number from `low` to `high`, else raise `InputError`."""
    is_whole = isinstance(value, SupportsIndex) and not isinstance(value, bool)  # NumPy's whole numbers, too
    if not is_whole or (number := operator.index(value)) < low:
        raise must(name, f"be a whole number at or above {low}", value)
    if number > high:
        raise must(name, f"be at most {high:,}", value)
    return number


def check_flag(name: str, value: object) -> bool:
    """Return `value` if it is True or False, else raise `InputError`: any text, `no` too, would count as True."""
    if not isinstance(value, bool):
        raise must(name, "be true or false", value)
    return value


def most_of(variable: str, otherwise: int) -> int:
    """The limit that a variable of the environment sets, or the one of notbugs."""
    text = os.environ.get(variable, str(otherwise))
    try:
        return check_count(variable, int(text))
    except ValueError:
        raise must(variable, "be a whole number at or above 1", text, "Correct it in the environment.") from None


def at_home(path: str | Path) -> Path:
    """A path whose `~` or `~name` is the home folder that it stands for; as it is, where there is no such one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise `InputError` naming the nearest one."""
    choices = list(choices)
    if isinstance(value, str) and value in choices:
        return value
    near = get_close_matches(str(value), choices, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else ""
    raise must(name, f"be one of {', '.join(choices)}", value, remedy)


def nearest_path(path: Path) -> str:
    """` Did you mean '...'?` with the nearest name beside a path that is not there; empty where none is near."""
    there = path
    while not there.parent.is_dir() and there != there.parent:
        there = there.parent
    try:
        names = sorted(one.name for one in there.parent.iterdir())
    except OSError:
        return ""
    near = [] if there.exists() else get_close_matches(there.name, names, n=1)
    return f" Did you mean '{there.parent / near[0] / path.relative_to(there)}'?" if near else ""
