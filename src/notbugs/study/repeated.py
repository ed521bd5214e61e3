"""Work done several times: once with every seed, or once for every label."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from notbugs.data import Data
from notbugs.errors import InputError, check_count, must
from notbugs.study.folder import Console
from notbugs.study.recipe import Recipe

MOST_SEEDS = 1000


def with_seeds(recipe: Recipe, count: int, out: Path) -> dict[Path, Recipe]:
    """The folder and the recipe of each of `count` studies, with the recipe's seed and those after it.

    One study has `out` for itself; each of several has `out/seed-SEED`.

    Raises
    ------
    InputError
        If `count` is below 1.

    Examples
    --------
    >>> from pathlib import Path
    >>> len(nb.study.with_seeds(nb.study.read_recipe('digits'), 3, Path('runs/digits')))
    3
    """
    if check_count("seeds", count) == 1:
        return {out: recipe}
    if count > MOST_SEEDS:
        raise must(
            "seeds", f"be at most {MOST_SEEDS:,}", count, "Run the others in another folder, from another --seed."
        )
    seeds = range(recipe.seed, recipe.seed + count)
    return {out / f"seed-{seed}": recipe.model_copy(update={"seed": seed}) for seed in seeds}


T = TypeVar("T")


class SeveralLabels(InputError):
    """Images have several labels, and what was asked for is of one; `data` have them all."""

    def __init__(self, data: Data) -> None:
        self.data = data
        super().__init__(f"An image has several labels: {', '.join(data.classes)}. Choose one with --label.")


class Absent(InputError):
    """All images of a split have a label, or none has."""


def check_one_label(data: Data) -> None:
    """Refuse data with several labels, and one label that a split has everywhere or nowhere.

    Raises
    ------
    SeveralLabels
        If an image has several.
    Absent
        If all images of a split have the one that was chosen, or none has.
    """
    if data.train.has_several:
        raise SeveralLabels(data)
    for split, images in (("training", data.train), ("test", data.test)):
        if data.several and len(images.labels.unique()) < 2:
            has = "All" if int(images.labels[0]) else "None"
            raise Absent(f"{has} of the {len(images)} {split} images have the label {data.classes[1]!r}: passed over.")


Work = Callable[[str | None, Path, Data | None], T]
"""From a label, a folder, and the data of this label alone; from None, a folder and None: the data are to be read."""


def for_labels(work: Work[T], out: Path, console: Console) -> Iterator[tuple[Path, T]]:
    """Do `work` in the folder `out`, or, where it finds several labels, for each of them in `out/label-NAME`.

    Parameters
    ----------
    work : callable
        Raises `SeveralLabels` where it is given none and needs one. The data are read once for all labels.
    out : Path
        The folder.
    console : Console
        Told which labels are passed over: those that no training image has, or all.

    Yields
    ------
    tuple of Path and result
        Each folder, when the work in it is done, and what `work` returned.

    Raises
    ------
    InputError
        Of `work`; and if no label can be studied.
    """
    try:
        result = work(None, out, None)
    except SeveralLabels as several:
        data, names = several.data, several.data.classes
    else:
        yield out, result
        return
    console.say(f"An image has {len(names)} labels, and each is looked at on its own: {', '.join(names)}.")
    done = 0
    for name, folder in zip(names, folders(names, out), strict=True):
        try:
            result = work(name, folder, data.label(name))
        except Absent as absent:
            console.say(str(absent))
            continue
        done += 1
        yield folder, result
    if not done:
        raise InputError("No label has images with it and images without it in both splits. Take more images.")


def folders(names: Sequence[str], out: Path) -> list[Path]:
    """`out/label-NAME` for each label; a number goes in front where two names make the same folder."""
    short = [re.sub(r"[^\w.-]+", "-", name) for name in names]
    unique = len({name.lower() for name in short}) == len(short)
    return [out / (f"label-{name}" if unique else f"label-{number}-{name}") for number, name in enumerate(short)]
