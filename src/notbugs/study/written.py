"""The small files of a folder, which say what it is of: checked by their checksums, put back from their copies."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, cast

import tomli_w

from notbugs.errors import InputError, in_one_line
from notbugs.files import (
    CHECKSUM,
    LOG,
    Damaged,
    check_regular,
    check_unused,
    digest,
    read_json,
    warn_unchecked,
    write_json,
    write_text,
)

if TYPE_CHECKING:  # plain values are read without torch
    from notbugs.study.machine import Info, Machine
    from notbugs.study.recipe import Recipe

UNDER_WAY = "under-way.json"
"""What the stage at work has done."""
NOTED = {"name", "done", "total", "left", "note", "at"}
MACHINE = ("versions", "device", "threads")
"""Of `study.json`, what may change from run to run, and is then said."""
DATA = {"name", "variant", "classes", "shape", "train", "test", "fingerprint"}
MARK = f"# {CHECKSUM} "
LOST = "Put back a copy that is whole, or run the study in another folder with --out."


class StageFile(TypedDict):
    """What a finished stage leaves: `value` is the JSON value of its work.

    `seconds` are those of every process that worked on it. `images` is missing where a stage goes through none, and in
    studies of older versions.
    """

    name: str
    seconds: float
    images: NotRequired[int]
    value: Any


class UnderWayFile(TypedDict):
    """`under-way.json`: how far the stage is that is at work, or at which a run was killed."""

    name: str
    began: float
    done: int
    total: int
    left: float | None
    note: str
    at: float
    spent: NotRequired[float]
    """Seconds of processes before, which were stopped."""


def read_under_way(folder: Path) -> UnderWayFile | None:
    """What the stage at work has noted; None where there is nothing to read, which the run writes again."""
    try:
        noted = read_json(folder / UNDER_WAY)
    except (FileNotFoundError, Damaged):
        return None
    return None if NOTED - noted.keys() else cast("UnderWayFile", noted)


def spent_on(stage: str, folder: Path) -> float:
    """Seconds that processes spent on a stage before they were stopped, as far as they noted it."""
    noted = read_under_way(folder)
    if noted is None or noted["name"] != stage:
        return 0.0
    times = [noted.get("spent", 0.0), noted["at"], noted.get("began", noted["at"])]
    if not all(isinstance(time, int | float) and math.isfinite(time) and time >= 0 for time in times):
        return 0.0
    before, at, began = times
    return before + max(0.0, at - began)


def read_stage(file: Path) -> StageFile:
    """Name, seconds and value of a finished stage.

    Raises
    ------
    Damaged
        If the file was changed since, or is none of a stage.
    """
    stage = read_json(file)
    seconds, images = stage.get("seconds"), stage.get("images", 0)
    if (
        stage.keys() - {"images"} != {"name", "seconds", "value"}
        or stage["name"] != file.stem
        or not isinstance(seconds, int | float)
        or seconds < 0
        or not isinstance(images, int)
        or images < 0
    ):
        raise Damaged(f"{file} is damaged: it is not what a stage leaves.")
    return cast("StageFile", stage)


def copy_of(file: Path) -> Path:
    """Where the second copy of a file is: of one that says what nothing else in its folder says."""
    return file.with_name(f".{file.stem}.copy{file.suffix}")


def read_info(folder: Path) -> Info:
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
    from notbugs.study.recipe import read_recipe

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


def write_info(folder: Path, info: Info) -> None:
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


def _info(file: Path) -> Info:
    try:
        info = read_json(file)
        data = info.get("data")
        if not isinstance(data, dict) or DATA - data.keys() or {"created", *MACHINE} - info.keys():
            raise Damaged(f"{file} is damaged: it does not say what a study is of.")
    except Damaged as error:
        raise Damaged(f"{error} {LOST}") from None
    return cast("Info", info)


def _settings(file: Path) -> dict[str, Any]:
    check_regular(file)
    try:
        text = file.read_bytes().decode()
        settings = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{file} is damaged: it is no TOML ({in_one_line(error)}). {LOST}") from error
    if not isinstance(settings.get("name"), str):
        raise Damaged(f"{file} is damaged: it is no study's recipe. {LOST}")
    written = text.partition("\n")[0].removeprefix(MARK) if text.startswith(MARK) else None
    if written is None and not _is_sealed(file.parent / "study.json"):
        warn_unchecked(file)
    elif written != digest(settings):
        raise Damaged(f"{file} is damaged: it does not say what was written, by its checksum. {LOST}")
    return settings


def _is_sealed(file: Path) -> bool:
    """Whether a JSON file has a checksum, so that what was written with it had one, too."""
    return file.is_file() and f'"{CHECKSUM}"'.encode() in file.read_bytes()


ENDS = ("results.json", "gallery.safetensors", "report.html")
"""What a study writes as it ends: in a folder that is no study's, these are somebody's."""


class Claim(Protocol):
    """What a folder is of: written down as the work begins, and held against it when the work is continued."""

    @property
    def machine(self) -> Machine | None:
        """What may change from run to run and is then said; None: nothing is said."""
        ...

    def settled(self, folder: Path) -> Iterator[str]:
        """Write down what the folder is of, or check that it is of the same; yields what is to be said of its files.

        Raises
        ------
        InputError
            If it is of something else.
        """
        ...

    def read(self, folder: Path) -> Info:
        """What was written down when the work was first begun."""
        ...


@dataclass(frozen=True)
class StudyClaim:
    """A study: `recipe.toml` and `study.json`. Of `info`, data and own code must not change between its runs."""

    recipe: Recipe
    info: Info

    @property
    def machine(self) -> Machine:
        """See `Claim`."""
        return machine_of(self.info)

    def settled(self, folder: Path) -> Iterator[str]:
        """See `Claim`."""
        yield from mended(folder)
        if (folder / "recipe.toml").exists():
            before = read_own_recipe(folder)
            _refuse_other_recipe(folder, before, self.recipe)
            if before != self.recipe:
                write_recipe(folder, self.recipe)
        elif (folder / "study.json").exists():
            raise InputError(f"{folder} holds a study whose recipe.toml is gone. Name another folder with --out.")
        elif taken := [name for name in ENDS if (folder / name).exists()]:
            raise InputError(
                f"{folder} holds {', '.join(taken)} of no study that is here, which would be overwritten. "
                "Name another folder with --out."
            )
        else:
            check_unused(folder, ("theory.*",))  # which `notbugs theory` may have written there
        try:
            there: Mapping[str, Any] = read_info(folder)["data"]
        except FileNotFoundError:
            write_recipe(folder, self.recipe)
            write_info(folder, cast("Info", self.info | _created()))
            return
        now: Mapping[str, Any] = self.info["data"]
        if any(there[name] != now[name] for name in DATA):
            raise InputError(
                f"{folder} holds a study of other data: fingerprint {there['fingerprint'][:12]} there, "
                f"{now['fingerprint'][:12]} now. Name another folder with --out."
            )
        known, code = read_info(folder).get("code", {}), self.info.get("code", {})
        if changed := [name for name in code if known.get(name, code[name]) != code[name]]:
            raise InputError(
                f"{folder} holds a study of other code: that of {', '.join(changed)} was changed since. "
                "Undo the change, or name another folder with --out."
            )
        more = {"code": {**known, **code}} if code.keys() - known.keys() else {}  # of an instrument asked for since
        if there != now or more:  # of the same data a later notbugs may note more
            write_info(folder, cast("Info", read_info(folder) | {"data": now} | more))

    def read(self, folder: Path) -> Info:
        """See `Claim`."""
        return read_info(folder)


@dataclass(frozen=True)
class JobClaim:
    """A job that is no study: `request.json`, with what was asked for and what was known as it began."""

    kind: str
    wanted: Mapping[str, object]
    about: Info

    @property
    def machine(self) -> None:
        """See `Claim`: every part is kept, wherever it was computed."""
        return

    def settled(self, folder: Path) -> Iterator[str]:
        """See `Claim`."""
        file = folder / "request.json"
        if not file.exists() and not copy_of(file).exists():
            check_unused(folder)
            write_json(file, {"wanted": self.wanted, "about": self.about | _created()})
            make_copy(file)
            return
        try:
            yield from mend(file, read_json)
            there = read_json(file)
        except Damaged as error:
            raise Damaged(f"{error} Delete the folder {folder}, or name another one with --out.") from error
        if not isinstance(there.get("wanted"), dict) or not isinstance(there.get("about"), dict):
            raise InputError(f"{file} is not what an {self.kind} leaves. Name another folder with --out.")
        changes = [name for name, value in self.wanted.items() if there["wanted"].get(name) != value]
        if changes:
            raise InputError(
                f"{folder} holds the {self.kind} of other {', '.join(changes)}. "
                "Name another folder with --out, or delete it."
            )

    def read(self, folder: Path) -> Info:
        """See `Claim`."""
        return read_json(folder / "request.json")["about"]


def machine_of(info: Machine) -> Machine:
    """The machine and the versions alone."""
    return {"versions": info["versions"], "device": info["device"], "threads": info["threads"]}


def _created() -> dict[str, str]:
    return {"created": datetime.now(UTC).isoformat(timespec="seconds")}


def _refuse_other_recipe(path: Path, begun: Recipe, wanted: Recipe) -> None:
    """No setting may change but these: an instrument that was off is on; its lists, and further sets, are longer.

    The settings of an instrument that is off are its own business, unless another one has worked with them.
    """
    from notbugs.study.instruments import INSTRUMENTS  # whoever has a recipe has them, and torch, already
    from notbugs.study.sets import BY_NAME

    used = {name for each in INSTRUMENTS if begun.instruments.wanted(each.name) for name in each.uses}
    if any(BY_NAME[name].half for name in begun.sets):
        used.add("usefulness")
    update: dict[str, object] = {"all": begun.instruments.all or wanted.instruments.all}
    for each in INSTRUMENTS:
        old, new = (getattr(recipe.instruments, each.name) for recipe in (begun, wanted))
        longer = {name: getattr(new, name) for name in each.grows if set(getattr(old, name)) <= set(getattr(new, name))}
        if begun.instruments.wanted(each.name):
            update[each.name] = old.model_copy(update=longer)
        elif each.name in used:
            update[each.name] = old.model_copy(update={"on": new.on})
        else:
            update[each.name] = new
    there = begun.model_copy(update={"instruments": begun.instruments.model_copy(update=update)})
    if set(begun.sets) <= set(wanted.sets):
        there = there.model_copy(update={"sets": wanted.sets})
    if not begun.sets:
        there = there.model_copy(update={"further": wanted.further})
    if there.settings() == wanted.settings():
        return
    before, after = (tomli_w.dumps(recipe.settings()).splitlines() for recipe in (begun, wanted))
    lines = difflib.unified_diff(before, after, "there", "now", n=0, lineterm="")
    changes = "\n".join(f"  {line}" for line in list(lines)[2:] if line[:2] != "@@")
    raise InputError(
        f"{path} holds a study with other settings. Name another folder with --out, or give these:\n{changes}"
    )
