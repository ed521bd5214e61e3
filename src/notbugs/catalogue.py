"""What there is by name, without anything that works: the recipes that come with notbugs, and the parts of a study.

`runs/digits:robust` is a classifier of the study in `runs/digits`, and `runs/digits:D_R` a constructed set.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from notbugs.errors import InputError, nearest_path


def folder() -> Traversable:
    """Where the files of the recipes are."""
    return resources.files("notbugs") / "study" / "recipes"


def names() -> list[str]:
    """Of all recipes."""
    return sorted(file.name.removesuffix(".toml") for file in folder().iterdir() if file.name.endswith(".toml"))


def text(name: str) -> str:
    """The file of a recipe, by name or path.

    Raises
    ------
    InputError
        If there is none.
    """
    return recipe_file(name).read_text(encoding="utf-8")


def recipe_file(name: str) -> Traversable | Path:
    """The file of a recipe: one of ours by name, or a path that ends in `.toml`.

    Raises
    ------
    InputError
        If no recipe has this name, with the nearest one.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.exists():
            raise InputError(f"There is no recipe file {path}.{nearest_path(path)}")
        return path
    if name not in names():
        near = get_close_matches(name, names(), n=1)
        did = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"There is no recipe {name!r}.{did} Recipes: {', '.join(names())}; or give a path ending in .toml."
        )
    return folder() / f"{name}.toml"


def rows() -> list[dict[str, str]]:
    """Of every recipe its `name`, `about`, `data`, `time` and what it `gives`, where it was run or should."""
    read = {name: tomllib.loads(text(name)) for name in names()}
    return [
        {
            "name": name,
            "about": recipe.get("about", ""),
            "data": recipe.get("expected_data") or recipe.get("data") or "yours, with --data",
            "time": recipe.get("expected_time") or "depends on your data",
            "gives": _gives(recipe),
        }
        for name, recipe in read.items()
    ]


SHOWN = ("standard", "robust", "D_R", "D_NR", "D_rand", "D_det")
"""Classifiers whose clean accuracy the table has."""


def _gives(recipe: dict[str, Any]) -> str:
    """The clean accuracies that a recipe states, and whether they were measured with it."""
    expected = {item["classifier"]: item for item in recipe.get("expected", ()) if not item.get("radius")}
    told = [
        f"{name} {100 * expected[name]['low']:.0f}-{100 * expected[name]['high']:.0f}"
        for name in SHOWN
        if name in expected
    ]
    if not told:
        return "not stated: it depends on your data" if not recipe.get("data") else "not stated"
    sources = {item["source"].split(":")[0].split(",")[0] for item in expected.values()}
    measured = all(source.startswith(("seeds", "results/")) for source in sources)
    origin = (
        f"measured: {recipe['expected'][0]['source'].split(':')[0]}"
        if measured
        else "not run yet: expected from others' results"
    )
    return f"{', '.join(told)} % ({origin})"


def table() -> Table:
    """The same for a terminal."""
    listing = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    listing.add_column("recipe", no_wrap=True)
    for heading, ratio in (("what", 3), ("data", 2), ("time, on what", 3), ("clean test accuracy", 3)):
        listing.add_column(heading, overflow="fold", ratio=ratio)
    for row in rows():
        listing.add_row(row["name"], row["about"], row["data"], row["time"], row["gives"])
    return listing


def model_file(given: str | Path) -> Path:
    """The file of a classifier: as it is given, or a study's, named as STUDY:NAME.

    Parameters
    ----------
    given : str or Path
        A file, or the folder of a study, a colon and the name of one of its classifiers.

    Raises
    ------
    InputError
        If there is no such study or classifier; with the nearest name.
    """
    return _part(given, "classifiers", ".safetensors", "classifier")


def set_folder(given: str | Path) -> Path:
    """The folder of a constructed set: as it is given, or a study's, named as STUDY:NAME.

    Parameters
    ----------
    given : str or Path
        A folder, or the folder of a study, a colon and the name of one of its sets.

    Raises
    ------
    InputError
        If there is no such study or set; with the nearest name.
    """
    return _part(given, "sets", "", "constructed set")


def study_of(given: str | Path) -> Path | None:
    """The folder of the study of which a part is named, if it is named so."""
    study, colon, name = str(given).rpartition(":")
    return Path(study) if colon and name and not Path(given).exists() and Path(study).is_dir() else None


def _part(given: str | Path, within: str, ending: str, what: str) -> Path:
    text = str(given)
    study, colon, name = text.rpartition(":")
    if not colon or study == "hf" or Path(text).exists():
        return Path(text)
    folder = Path(study) / within
    part = folder / f"{name}{ending}"
    if part.exists():
        return part
    if not Path(study).is_dir():
        raise InputError(f"There is no study {study}.{nearest_path(Path(study))}")
    known = sorted(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}") if path.name[0] != ".")
    known = [one for one in known if not one.endswith(".unfinished")]
    near = get_close_matches(name, known, 1)
    did = f" Did you mean {study}:{near[0]}?" if near else ""
    has = f" It has {', '.join(known)}." if known else f" It has none yet: `notbugs status {study}` shows where it is."
    raise InputError(f"The study {study} has no {what} {name!r}.{did}{has}")
