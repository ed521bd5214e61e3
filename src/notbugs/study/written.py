"""The small files of a study's folder: checked against their checksums as they are read, put back from their copies."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tomli_w

from notbugs.errors import InputError, in_one_line
from notbugs.files import (
    CHECKSUM,
    LOG,
    Damaged,
    check_regular,
    digest,
    read_json,
    warn_unchecked,
    write_json,
    write_text,
)
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


def copy_of(file: Path) -> Path:
    """Where the second copy of a file is: of one that says what nothing else in its folder says."""
    return file.with_name(f".{file.stem}.copy{file.suffix}")


def read_info(folder: Path) -> dict[str, Any]:
    """`study.json`, or its copy where it is damaged or gone: the data, versions and machine of a study.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Damaged
        If both were changed since, or are none.
    """
    return _info(_intact(folder / "study.json", _info))


def read_own_recipe(folder: Path) -> Recipe:
    """The recipe that a study's folder has, or its copy, checked against its checksum.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Damaged
        If both were changed since.
    """
    return read_recipe(_intact(folder / "recipe.toml", _settings), is_run=False)


def check_recipe(folder: Path) -> dict[str, Any]:
    """The settings of a study as plain values.

    Raises
    ------
    FileNotFoundError
        If the folder has no recipe.
    Damaged
        If the recipe and its copy were changed since they were written.
    """
    return _settings(_intact(folder / "recipe.toml", _settings))


def mended(folder: Path) -> Iterator[str]:
    """Mend `recipe.toml` and `study.json`; yields what is to be said of it."""
    for name, read in (("recipe.toml", _settings), ("study.json", _info)):
        if (folder / name).exists() or copy_of(folder / name).exists():
            yield from mend(folder / name, read)


def mend(file: Path, read: Callable[[Path], object]) -> Iterator[str]:
    """Put back a damaged or lost file from its copy, or a copy from its file; yields what is to be said of it.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    Damaged
        If `read` finds both damaged.
    """
    copy = copy_of(file)
    if _intact(file, read) == copy:
        write_text(file, copy.read_text(encoding="utf-8"))
        yield f"{file} was damaged or gone: it is put back from its copy, {copy.name}."
    elif not copy.is_file() or copy.read_bytes() != file.read_bytes():
        make_copy(file)


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write `recipe.toml`, with a checksum of its values as a comment, first, so that no cut takes it alone."""
    text, file = recipe.toml(), folder / "recipe.toml"
    write_text(file, f"{MARK}{digest(tomllib.loads(text))}\n{text}")
    make_copy(file)


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write `study.json`."""
    write_json(folder / "study.json", info)
    make_copy(folder / "study.json")


def make_copy(file: Path) -> None:
    """Write the second copy of a file."""
    write_text(copy_of(file), file.read_text(encoding="utf-8"))


def _intact(file: Path, read: Callable[[Path], object]) -> Path:
    """The file, or its copy where the file is damaged or gone and the copy is not."""
    try:
        read(file)
    except (FileNotFoundError, Damaged) as error:
        copy = copy_of(file)
        try:
            read(copy)
        except (FileNotFoundError, Damaged):
            raise error from None
        LOG.warning(f"{file} is damaged or gone: its copy, {copy.name}, is read.")
        return copy
    return file


def _info(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
        data = found.get("data")
        if not isinstance(data, dict) or DATA - data.keys() or {"created", *MACHINE} - found.keys():
            raise Damaged(f"{file} is damaged: it does not say what a study is of.")
    except Damaged as error:
        raise Damaged(f"{error} {LOST}") from None
    return found


def _settings(file: Path) -> dict[str, Any]:
    check_regular(file)
    try:
        text = file.read_bytes().decode()
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{file} is damaged: it is no TOML ({in_one_line(error)}). {LOST}") from error
    if not isinstance(values.get("name"), str):
        raise Damaged(f"{file} is damaged: it is no study's recipe. {LOST}")
    written = text.partition("\n")[0].removeprefix(MARK) if text.startswith(MARK) else None
    if written is None and not _is_sealed(file.parent / "study.json"):
        warn_unchecked(file)
    elif written != digest(values):
        raise Damaged(f"{file} is damaged: it does not say what was written, by its checksum. {LOST}")
    return values


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
