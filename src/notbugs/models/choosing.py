"""Which outputs of a network are the classes of some data: the one place where their names are compared."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from notbugs.errors import InputError, in_one_line, must

SYNSET = re.compile(r"(n\d{8})\s+(.+)")
SHOWN = 12

Outputs = str | Path | Sequence[str | int]
"""A file with the name of every output; or for each class, in order, the number or the name of its output."""

log = logging.getLogger("notbugs")


def choose(classes: Sequence[str], known: Sequence[str] | None, given: Any, where: str) -> list[int] | None:
    """The numbers of the outputs that are the classes, in their order; None if they are all, as they stand.

    Names are compared without regard to case, `_`, `-` and spaces. An output may have several, with commas between
    them, or an ImageNet synset in front (`n02123045 tabby, tabby cat`).

    Parameters
    ----------
    classes : sequence of str
        Of the data.
    known : sequence of str, optional
        The names of the outputs, where the model says them.
    given : sequence of str or int, optional
        For each class the number or the name of its output.
    where : str
        The model.

    Raises
    ------
    InputError
        If a class has no output, or several; with how to say which.
    """
    if given is not None:
        return [_number(one, known, where) for one in _one_each(given, classes)]
    if known is None or list(known) == list(classes):
        return None
    found = _by_name(classes, known)
    if all(len(numbers) == 1 for numbers in found):
        chosen = [numbers[0] for numbers in found]
        log.info("The outputs of %s are taken by their names: %s.", where, _listed(classes, known, chosen))
        return chosen
    if len(known) == len(classes) and not any(found) and (_are_numbers(known) or _are_numbers(classes)):
        log.info("The outputs of %s are taken in order, for one side has numbers as names.", where)
        return None
    missing = next(place for place, numbers in enumerate(found) if len(numbers) != 1)
    some = f"{', '.join(known[:SHOWN])}{', ...' if len(known) > SHOWN else ''}"
    raise InputError(
        f"The class {classes[missing]!r} of the data must be one of the {len(known)} outputs of {where}, and "
        f"{f'the outputs {found[missing]} are' if found[missing] else 'none is'} called so. They are {some}. Say for "
        "each class which output is its own: outputs=[...] (--outputs), by number, from 0, or by name."
    )


def output_names(given: Outputs | None) -> list[str] | None:
    """The names of all outputs, where what is given is a file of them."""
    one = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
    return read_names(Path(one)) if isinstance(one, str | Path) else None


def read_names(file: Path) -> list[str]:
    """The names of all outputs: one on each line, or as JSON a list, `{"0": name}` or a model's `id2label`.

    Raises
    ------
    InputError
        If there is no such file, or it holds fewer than two names.
    """
    try:
        text = file.read_text(encoding="utf-8")
        names = _of_json(json.loads(text)) if text.lstrip()[:1] in ("[", "{") else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The names of the outputs cannot be read from {file}: {in_one_line(error)}.") from error
    names = [name.strip() for name in names if name.strip()]
    if len(names) < 2:
        raise must("outputs", "be a file with the name of every output, one on each line", str(file))
    return names


def _of_json(values: Any) -> list[str]:
    values = values.get("id2label", values) if isinstance(values, dict) else values
    if isinstance(values, dict):
        if sorted(values) != sorted(str(number) for number in range(len(values))):
            raise ValueError("its keys are not the numbers of the outputs, from 0")
        values = [values[str(number)] for number in range(len(values))]
    return [" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values]


def _by_name(classes: Sequence[str], known: Sequence[str]) -> list[list[int]]:
    """For each class the outputs that are called so; by the whole name first, then by one of several."""
    whole: dict[str, list[int]] = {}
    parts: dict[str, list[int]] = {}
    for number, name in enumerate(known):
        whole.setdefault(_plain(name), []).append(number)
        for part in set(_names(name)):
            parts.setdefault(part, []).append(number)
    return [whole.get(_plain(name)) or parts.get(_plain(name), []) for name in classes]


def _names(name: str) -> Iterator[str]:
    if match := SYNSET.fullmatch(name.strip()):
        yield _plain(match[1])
        name = match[2]
    yield from map(_plain, name.split(","))


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


def _one_each(given: Sequence[str | int], classes: Sequence[str]) -> Sequence[str | int]:
    if len(given) != len(classes) or len(set(map(str, given))) != len(given):
        named = ", ".join(classes[:SHOWN])
        rule = f"be a file of names, or name one output for each of the {len(classes)} classes: {named}"
        raise must("outputs", rule, list(given))
    return given


def _number(one: str | int, known: Sequence[str] | None, where: str) -> int:
    """The number of an output that is given by number or by name."""
    if known:
        found = _by_name([str(one)], known)[0]
        if len(found) == 1:
            return found[0]
    text = str(one)
    if not text.isdecimal() or (known and int(text) >= len(known)):
        told = (
            f"has {len(known)}, {', '.join(known[:SHOWN])}, ..." if known else "does not say the names of its outputs"
        )
        raise must("outputs", "name outputs of the model by number, from 0, or by name", one, f"{where} {told}.")
    return int(text)


def _are_numbers(names: Sequence[str]) -> bool:
    return list(names) == [str(number) for number in range(len(names))]


def _listed(classes: Sequence[str], known: Sequence[str], chosen: Sequence[int]) -> str:
    pairs = [f"{name} is {number} ({known[number]})" for name, number in zip(classes, chosen, strict=True)]
    return ", ".join(pairs[:SHOWN]) + (", ..." if len(pairs) > SHOWN else "")
