"""The small files of a study's folder, checked against their checksums as they are read."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from notbugs.errors import InputError, in_one_line
from notbugs.files import CHECKSUM, Damaged, check_regular, digest, read_json, warn_unchecked, write_text
from notbugs.study.instruments import Instruments
from notbugs.study.recipe import Recipe, read_recipe

MACHINE = ("versions", "device", "threads")
"""Of `study.json`, what may change from run to run, and is then said."""
DATA = {"name", "variant", "classes", "shape", "train", "test", "fingerprint"}
MARK = f"# {CHECKSUM} "
LOST = "Put back a copy that is whole, or run the study in another folder with --out."


def read_stage(file: Path) -> dict[str, Any]:
    """Name, seconds and value of a finished stage.

    Raises
    ------
    Damaged
        If the file was changed since, or is none of a stage.
    """
    found = read_json(file)
    seconds = found.get("seconds")
    if (
        found.keys() != {"name", "seconds", "value"}
        or found["name"] != file.stem
        or not isinstance(seconds, int | float)
        or seconds < 0
    ):
        raise Damaged(f"{file} is damaged: it is not what a stage leaves.")
    return found


def read_info(folder: Path) -> dict[str, Any]:
    """`study.json`: the data, versions and machine of a study.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Damaged
        If it was changed since, or is none.
    """
    try:
        found = read_json(folder / "study.json")
        data = found.get("data")
        if not isinstance(data, dict) or DATA - data.keys() or {"created", *MACHINE} - found.keys():
            raise Damaged(f"{folder / 'study.json'} is damaged: it does not say what a study is of.")
    except Damaged as error:
        raise Damaged(f"{error} {LOST}") from None
    return found


def read_own_recipe(folder: Path) -> Recipe:
    """The recipe that a study's folder has, checked against its checksum.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Damaged
        If it was changed since.
    """
    check_recipe(folder)
    return read_recipe(folder / "recipe.toml", is_run=False)


def check_recipe(folder: Path) -> dict[str, Any]:
    """The settings of a study as plain values.

    Raises
    ------
    FileNotFoundError
        If the folder has no recipe.
    Damaged
        If the recipe was changed since it was written.
    """
    file = folder / "recipe.toml"
    check_regular(file)
    try:
        text = file.read_bytes().decode()
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{file} is damaged: it is no TOML ({in_one_line(error)}). {LOST}") from error
    if not isinstance(values.get("name"), str):
        raise Damaged(f"{file} is damaged: it is no study's recipe. {LOST}")
    written = text.partition("\n")[0].removeprefix(MARK) if text.startswith(MARK) else None
    if written is None and not _is_sealed(folder / "study.json"):
        warn_unchecked(file)
    elif written != digest(values):
        raise Damaged(f"{file} is damaged: it does not say what was written, by its checksum. {LOST}")
    return values


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write `recipe.toml`, with a checksum of its values as a comment, first, so that no cut takes it alone."""
    text = recipe.toml()
    write_text(folder / "recipe.toml", f"{MARK}{digest(tomllib.loads(text))}\n{text}")


def _is_sealed(file: Path) -> bool:
    """Whether a JSON file has a checksum, so that what was written with it had one, too."""
    return file.is_file() and f'"{CHECKSUM}"'.encode() in file.read_bytes()


def refuse_other_recipe(path: Path, found: Recipe, wanted: Recipe) -> None:
    """No setting may change but this: an instrument that was off is on."""
    names = set(Instruments.model_fields)
    free = {name for name in names if name == "all" or not found.instruments.wanted(name)}
    instruments = found.instruments.model_copy(update={name: getattr(wanted.instruments, name) for name in free})
    there = found.model_copy(update={"instruments": instruments})
    if there.settings() == wanted.settings():
        return
    before, after = (tomli_w.dumps(recipe.settings()).splitlines() for recipe in (found, wanted))
    lines = difflib.unified_diff(before, after, "there", "now", n=0, lineterm="")
    changes = "\n".join(f"  {line}" for line in list(lines)[2:] if line[:2] != "@@")
    raise InputError(
        f"{path} holds a study with other settings. Name another folder with --out, or give these:\n{changes}"
    )
