"""What the page shows of the gallery beside the grid: every image, to look through, and the idea of both experiments.

The images are on sheets, one for each set, with what is known of each, for the page's script. The idea is one drawing
as in the paper's Figure 1, with the run's own images and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from notbugs.formats import ball, shortened
from notbugs.report.accuracies import Member, StudyAccuracies
from notbugs.report.pictures import SAYS, SIDE, Arrays, magnified, png, sheet
from notbugs.study.results import Row
from notbugs.study.sets import BY_NAME, RELABELLED

BUDGET = 9_000_000
"""Characters of pictures."""
LARGE = 224
"""CSS pixels of a picture taken apart, about."""

_PARTS = ("", ".labels", ".start", ".start_labels")

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Play:
    """What the template draws, and `data`, which the script reads.

    Attributes
    ----------
    sets : list of str
        Names.
    has_success : bool
        Whether it is known of every set which searches reached their goal.
    has_sizes : bool
        Whether it is known of a set how large its perturbations are, or whom its images are like.
    """

    sets: list[str]
    classes: list[str]
    count: int
    has_success: bool
    has_sizes: bool
    side: int
    data: Drawn


def play(arrays: Arrays, classes: Sequence[str]) -> Play | None:
    """As many images of a gallery as fit in `BUDGET`; None where none does, or there is no constructed set."""
    names = [name for name in SAYS if name != "D" and {f"{name}{part}" for part in _PARTS} <= set(arrays)]
    if not names:
        return None
    count = min(len(arrays["D"]), BUDGET // _size(_sets(arrays, names, 1)))  # as far as the first image tells
    while count and _size(sheets := _sets(arrays, names, count)) > BUDGET:
        count = count * 9 // 10
    return _play(arrays, classes, sheets) if count else None


def differences(moved: Floats) -> tuple[Floats, list[float]]:
    """Perturbations as pictures, and how many times each image's were amplified.

    Parameters
    ----------
    moved : array
        How far each frame is from its start, shape (image, frame, channel, height, width).

    Returns
    -------
    tuple of array and list of float
        0.5 + gain x moved, cut off at 0 and 1. The gain of an image lets its last frame just fit in, rounded down to
        two digits; 1 where nothing moved.
    """
    largest = np.abs(moved[:, -1]).reshape(len(moved), -1).max(1)
    gains = [_rounded_down(0.5 / value) if value > 0 else 1.0 for value in largest.tolist()]
    return np.clip(0.5 + np.asarray(gains)[:, None, None, None, None] * moved, 0, 1), gains


def _rounded_down(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit) * unit:.2g}")


class Drawn(TypedDict):
    """What the script is told."""

    width: int
    height: int
    classes: list[str]
    sets: list[Sheet]
    count: int
    side: int
    thumb: int


class Sheet(TypedDict):
    """One set, for the script: a sheet of pictures, and what is known of each image."""

    name: str
    matched: bool
    sheet: str
    steps: list[int]
    frames: int
    gains: list[float]
    l2: list[float]
    linf: list[float]
    labels: list[int]
    start_labels: list[int]
    success: NotRequired[list[bool]]
    scores: NotRequired[list[list[float]]]
    size: NotRequired[list[list[float | None]]]
    alike: NotRequired[list[list[float | None]]]


def _sets(arrays: Arrays, names: Sequence[str], count: int) -> list[Sheet]:
    return [_set(arrays, name, count) for name in names]


def _size(sheets: Sequence[Sheet]) -> int:
    return sum(len(item["sheet"]) for item in sheets)


def _set(arrays: Arrays, name: str, count: int) -> Sheet:
    """One set: its sheet, and what is known of each image.

    A row of the sheet is an image: start and frames, the differences of the frames, and the target if it was matched.
    """
    some = {key.partition(".")[2]: array for key, array in arrays.items() if key.partition(".")[0] == name}
    image = some[""][:count].astype(np.float64)
    start = some["start"][:count].astype(np.float64)
    moved = (image - start)[:, None]
    if "moved" in some:
        moved = np.concatenate([some["moved"][:count, :-1].astype(np.float64), moved], 1)
    shown, gains = differences(moved)
    columns = [start[:, None], start[:, None] + moved, shown]
    columns += [some["target"][:count, None].astype(np.float64)] if "target" in some else []
    known = {key: some[key][:count].tolist() for key in ("labels", "start_labels", "success", "scores") if key in some}
    known |= {key: _numbers(some[key][:count]) for key in ("size", "alike") if key in some}
    known |= {
        "name": name,
        "matched": "target" in some,
        "sheet": sheet(np.concatenate(columns, 1)),
        "steps": [0, *(some["steps"].tolist() if "steps" in some else [])],
        "frames": 1 + moved.shape[1],
        "gains": gains,
        "l2": np.sqrt(np.square(image - start).reshape(count, -1).sum(1)).tolist(),
        "linf": np.abs(image - start).reshape(count, -1).max(1).tolist(),
    }
    return cast("Sheet", known)


def _numbers(values: NDArray[Any]) -> list[list[float | None]]:
    """As JSON, which has no numbers that are not finite."""
    return [[float(value) if np.isfinite(value) else None for value in row] for row in values]


def _play(arrays: Arrays, classes: Sequence[str], sheets: list[Sheet]) -> Play:
    count, (height, width) = len(sheets[0]["labels"]), arrays["D"].shape[2:]
    last = max(int(array.max()) for name, array in arrays.items() if name.endswith("labels"))
    known = [*classes, *map(str, range(len(classes), last + 1))]
    side, thumb = magnified(width, LARGE), magnified(width, SIDE // 2)
    return Play(
        sets=[item["name"] for item in sheets],
        classes=known,
        count=count,
        has_success=all("success" in item for item in sheets),
        has_sizes=any({"size", "alike"} & set(item) for item in sheets),
        side=side,
        data={
            "width": width,
            "height": height,
            "classes": known,
            "sets": sheets,
            "count": count,
            "side": side,
            "thumb": thumb,
        },
    )


PREFERRED = sorted(RELABELLED, key=lambda name: BY_NAME[name].keeps_labels)
"""The first that there is is drawn: its labels are wrong, and no rule to learn."""
SPLIT = ("D_R", "D_NR")
"""The two sides of the first drawing."""
LIKED = ("dog", "cat")
LONGEST = 12
"""Characters of a class name in the drawing."""


@dataclass(frozen=True)
class Branch:
    """One kind of features: the set that holds it alone, an image of the set, and what is learned from it."""

    name: str
    picture: str
    start: str
    clean: Row | None
    robust: Row | None


@dataclass(frozen=True)
class Features:
    """The first experiment: a training image, and its version in D_R and in D_NR."""

    picture: str
    label: str
    branches: list[Branch]
    attack: str


@dataclass(frozen=True)
class Relabelled:
    """The second experiment: an image pushed to another class, labelled with it, and what is learned from such."""

    name: str
    start: str
    difference: str
    gain: float
    moved: str
    before: str
    label: str
    real: str | None
    clean: Row


@dataclass(frozen=True)
class Idea:
    """Both drawings, or one where the run has nothing for the other."""

    features: Features | None
    relabelled: Relabelled | None
    chance: float | None
    pixelated: bool


def idea(arrays: Arrays, accuracies: StudyAccuracies, classes: Sequence[str]) -> Idea | None:
    """What the drawing needs; None where the run has too little for either half."""
    features, relabelled = _features(arrays, accuracies, classes), _relabelled(arrays, accuracies, classes)
    if not (features or relabelled):
        return None
    is_uneven = relabelled and relabelled.clean.balanced  # accuracies are drawn, and chance is of balanced ones
    chance = 1 / len(classes) if classes and not is_uneven else None
    return Idea(features, relabelled, chance, arrays["D"].shape[3] <= 64)


def _features(arrays: Arrays, accuracies: StudyAccuracies, classes: Sequence[str]) -> Features | None:
    members = [accuracies.get(name) for name in SPLIT]
    if None in members or not {f"{name}.start_labels" for name in SPLIT} <= set(arrays):
        return None
    success = np.logical_and.reduce([_success(arrays, name) for name in SPLIT])
    moved = np.logical_and.reduce([arrays[f"{name}.start_labels"] != arrays["D.labels"] for name in SPLIT])
    index = int(np.argmax(2 * moved + success))
    label = _short(classes, arrays["D.labels"][index])
    branches = [_branch(arrays, accuracies, member, index, classes) for member in members if member]
    attack = ball(accuracies.norm, accuracies.radius) if accuracies.norm and accuracies.radius else ""
    return Features(png(arrays["D"][index]), label, branches, attack)


def _branch(arrays: Arrays, accuracies: StudyAccuracies, member: Member, index: int, classes: Sequence[str]) -> Branch:
    name = member.train_set
    start = _short(classes, arrays[f"{name}.start_labels"][index])
    robust = member.robust.get(accuracies.radius) if accuracies.radius else None
    return Branch(name, png(arrays[name][index]), start, member.clean, robust)


def _relabelled(arrays: Arrays, accuracies: StudyAccuracies, classes: Sequence[str]) -> Relabelled | None:
    for name in PREFERRED:
        member = accuracies.get(name)
        if member and member.clean and f"{name}.start_labels" in arrays and f"{name}.start" in arrays:
            return _pushed(arrays, name, member.clean, classes)
    return None


def _pushed(arrays: Arrays, name: str, clean: Row, classes: Sequence[str]) -> Relabelled:
    before, label = arrays[f"{name}.start_labels"], arrays[f"{name}.labels"]
    named = [[_short(classes, number) for number in numbers] for numbers in (before, label)]
    liked = [pair == LIKED for pair in zip(*named, strict=True)]
    index = int(np.argmax(4 * (before != label) + 2 * _success(arrays, name) + np.array(liked)))
    start, image = (arrays[key][index : index + 1].astype(np.float64) for key in (f"{name}.start", name))
    shown, gains = differences((image - start)[:, None])
    real = np.flatnonzero(arrays["D.labels"] == label[index])
    return Relabelled(
        name=name,
        start=png(start[0]),
        difference=png(shown[0, 0]),
        gain=gains[0],
        moved=png(image[0]),
        before=named[0][index],
        label=named[1][index],
        real=png(arrays["D"][real[0]]) if len(real) else None,
        clean=clean,
    )


def _success(arrays: Arrays, name: str) -> np.ndarray:
    return np.asarray(arrays.get(f"{name}.success", np.ones(len(arrays["D"]), bool)), bool)


def _short(classes: Sequence[str], number: int) -> str:
    name = classes[number] if 0 <= number < len(classes) else str(number)
    return shortened(name, LONGEST)
