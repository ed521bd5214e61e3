"""One spelling for one thing on every command: what people write, and what the settings of a command are called.

A recipe has sections, and the options of `run` have their names; a command for one step has no sections. People write
`--arch resnet18 --arch.width 32`, `--threat l2:0.5` and `--attack pgd` everywhere. Here these become the names of the
settings, and messages and help are turned back.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from notbugs.errors import InputError, must

SECTIONED = {"run": "evaluation.", "train": ""}
"""Commands whose architecture is a section, and what stands before their attack."""
KNOWN = ("width", "features", "stride")
"""Options of an architecture that have a setting of their own."""
BALLS = {"train": "adversary", "build": "relabelling", "transfer": "relabelling"}
"""Commands whose threat model is a section."""
OPTION = re.compile(r"--[A-Za-z]")
THREAT = re.compile(r"(l2|linf):([^:]+)")
PAPERS = {"D_R": "robust", "D_NR": "nonrobust", "D_rand": "rand", "D_det": "det"}
"""The paper's names of sets, and the word by which `build` makes them."""
RADII = ("threat", "eps", "radii", "radius")
"""Options that take radii, which are often written as shares of 255 grey levels."""
FRACTION = re.compile(r"(\w+:)?(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")


def canonical(arguments: list[str]) -> list[str]:
    """The arguments with every option under the name of its setting; says on stderr which old names were used."""
    if not arguments:
        return []
    command, rest = arguments[0], arguments[1:]
    end = rest.index("--") if "--" in rest else len(rest)
    if command == "build":
        rest = [PAPERS.get(word, word) for word in rest[:1]] + rest[1:]
    words: list[str] = [command]
    for option, values in _options(rest[:end]):
        words += _renamed(command, option, values)
    return words + rest[end:]


def _options(arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Every option with the values after it; what comes before the first has no option."""
    option, values, is_open = "", [], True
    for argument in arguments:
        if OPTION.match(argument):
            if option or values:
                yield option, values
            option, equals, value = argument.partition("=")
            values, is_open = ([value] if equals else []), not equals
        elif is_open:
            values.append(argument)
        else:  # `--a=1 b`: the value is given, and b is an argument
            yield option, values
            option, values, is_open = "", [argument], True
    if option or values:
        yield option, values


def _renamed(command: str, option: str, values: list[str]) -> list[str]:
    name = option.removeprefix("--")
    head, dot, tail = name.partition(".")
    if option and not values and (head == "arch" or (name == "threat" and command in {*BALLS, "evaluate", "audit"})):
        example = {"arch": "resnet18", "threat": "l2:0.5"}.get(name, "32" if tail in KNOWN else "true")
        raise InputError(f"The '{name}' must have a value. Give one, as --{name} {example}.")
    _warn_of_old(command, name)
    if head == "instruments" and replaced(command, name):
        return [f"--{replaced(command, name)}", *values]
    if name == "arch" and values:
        return [f"--architecture{'.name' if command in SECTIONED else ''}", *values]
    if head == "arch" and tail:
        if command not in SECTIONED:
            return [f"--options.{tail}", *values]
        return [f"--architecture.{'' if tail in KNOWN else 'options.'}{tail}", *values]
    if name.rpartition(".")[2] in RADII:
        values = [_as_number(value) for value in values]
    if name == "threat" and values and command in {*BALLS, "evaluate"}:
        return _threat(command, values)
    if head == "attack" and command in {"run", "evaluate", "audit", "transfer"}:
        return [f"--{SECTIONED.get(command, '')}attack.{tail if dot else 'name'}", *values]
    return [*([option] if option else []), *values]


def _as_number(value: str) -> str:
    """`8/255` as a number, and `linf:8/255` with one; anything else as it is."""
    match = FRACTION.fullmatch(value)
    if match is None or not float(match[3]):
        return value
    return f"{match[1] or ''}{float(match[2]) / float(match[3])!r}"


def _threat(command: str, values: list[str]) -> list[str]:
    """`l2:0.5` as the norm and the radius of a section, or of an evaluation, which may have several."""
    number = next((index for index, value in enumerate(values) if not value.startswith(("l2", "linf"))), len(values))
    balls, rest = values[:number], values[number:]
    matches = [THREAT.fullmatch(value) for value in balls or rest[:1]]
    norms = {match[1] for match in matches if match}
    if None in matches or not matches or len(norms) > 1 or (len(matches) > 1 and command != "evaluate"):
        rule = "be a norm and a radius in pixel units, as l2:0.5 or linf:0.03"
        if command == "evaluate":
            rule += "; several of one norm, as l2:0.25 l2:0.5"
        raise must("threat", rule, " ".join(balls or rest[:1]))
    radii = [match[2] for match in matches if match]
    section = BALLS.get(command)
    if section is None:
        return [*rest, "--norm", *norms, "--radii", *radii]  # what takes several would take the rest as well
    return [f"--{section}.norm", *norms, f"--{section}.eps", *radii, *rest]


def replaced(command: str, name: str) -> str | None:
    """The name that takes the place of an old one; None where this is none."""
    if name.startswith("instruments."):
        return _instrument(name)
    if command not in SECTIONED:
        if name == "architecture":
            return "arch"
        if name.startswith("options."):
            return f"arch.{name.removeprefix('options.')}"
        return "threat" if command == "evaluate" and name in {"norm", "radii"} else None
    if name == "architecture.name":
        return "arch"
    if name.startswith("architecture."):
        return f"arch.{name.removeprefix('architecture.').removeprefix('options.')}"
    return None


def _instrument(name: str) -> str | None:
    """The option of an instrument under the name that it has now, if it had another."""
    from notbugs.study.instruments import FORMER

    _, former, *rest = name.split(".")
    return ".".join(["instruments", FORMER[former].replace("_", "-"), *rest]) if former in FORMER else None


def _warn_of_old(command: str, name: str) -> None:
    new = replaced(command, name)
    if new:
        print(f"notbugs: --{name} is now --{new}; the old one will be removed in version 1.0.", file=sys.stderr)


def shown(text: str) -> str:
    """A message or a help text, with the options as people write them."""
    text = re.sub(r"--architecture\.options\.|--architecture\.(?!name\b)|--options\.", "--arch.", text)
    text = re.sub(r"--architecture(\.name)?(?![\w-]|\.\w)", "--arch", text)
    text = re.sub(r"--(evaluation\.)?attack\.name\b", "--attack", text)
    return re.sub(r"--evaluation\.attack\.", "--attack.", text)


__all__ = ["InputError", "canonical", "replaced", "shown"]
