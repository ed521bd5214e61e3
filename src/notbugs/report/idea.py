"""The idea of both experiments in one drawing, as in the paper's Figure 1, with the run's own images and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from notbugs.formats import ball
from notbugs.report.accuracies import Member, StudyAccuracies
from notbugs.report.gallery import differences
from notbugs.report.pictures import Arrays, png
from notbugs.study.results import Row
from notbugs.study.sets import BY_NAME, RELABELLED

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
    return Idea(features, relabelled, 1 / len(classes) if classes else None, arrays["D"].shape[3] <= 64)


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
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
