"""The measured properties of constructed sets as a table: a row a measure, with what it means, a column a set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from notbugs.formats import duration
from notbugs.measure.likeness import By
from notbugs.study.results import Proportion, SetProperties, Spread
from notbugs.study.sets import TARGETS

Value = str | int | Proportion | Spread | None


@dataclass(frozen=True)
class Measure:
    """One row: its name, its explanation, and its value for every set."""

    name: str
    says: str
    values: list[Value]


def measures(sets: list[SetProperties]) -> list[Measure]:
    """Every measure that at least one set has."""
    rows = [Measure(name, says, [read(properties) for properties in sets]) for name, says, read in _MEASURES]
    return [row for row in rows if any(value is not None for value in row.values)]


_MEASURES: list[tuple[str, str, Callable[[SetProperties], Value]]] = [
    ("Images", "", lambda s: s.n),
    ("Source", "The classifier the set was built with.", lambda s: s.source),
    ("Target", "What the search moved its images towards.", lambda s: TARGETS[s.targets]),
    (
        "Labels kept",
        "Images that train with the label of the image they started from. They teach the right label whatever the "
        "perturbation.",
        lambda s: s.kept_label,
    ),
    ("Success on the source", "Images that the source gives the label they train with.", lambda s: s.success_source),
    (
        "Success where the label changed",
        "The same, without the images that kept their label: the success of the search itself.",
        lambda s: s.success_source_changed,
    ),
    (
        "Success on an independent classifier",
        "The same on a standard classifier trained independently: how far the features are shared, not one "
        "classifier's own.",
        lambda s: s.success_independent,
    ),
    (
        "Success after 8 bits",
        "On the source, after rounding to the 256 levels of an image file.",
        lambda s: s.success_8bit,
    ),
    (
        "Success under augmentation",
        "On the source, after the random changes that images go through in training: what the new classifier sees.",
        lambda s: s.success_augmented,
    ),
    ("l2 distance to the start", "Length of the perturbation; pixels in [0, 1].", lambda s: s.l2),
    ("Largest pixel change", "l-inf distance to the start; pixels in [0, 1].", lambda s: s.linf),
    (
        "Matching loss",
        "Distance of the features to those of the target, relative to the target's: 0 is a perfect match.",
        lambda s: s.matching_loss,
    ),
    (
        "Distance to the target image",
        "What is left of the distance between start and target image: 1 is untouched, 0 is the target image itself, "
        "and then the set is D.",
        lambda s: s.distance_to_target,
    ),
    (
        "Nearer to the target: pixels",
        "Images nearer to their target than to their start, of those whose start has another class; of relabelled sets "
        "the target is the training image of the new class nearest to the start. By l2 distance.",
        lambda s: _nearer(s, "pixels"),
    ),
    (
        "Nearer to the target: structure",
        "The same by structural similarity (SSIM), in which no classifier has a hand.",
        lambda s: _nearer(s, "ssim"),
    ),
    (
        "Nearer to the target: robust features",
        "The same by the features of a robust classifier that the set was not built with.",
        lambda s: _nearer(s, "robust features"),
    ),
    (
        "Judged to be its label",
        "Images of those that this robust classifier gives the label they train with.",
        lambda s: s.resemblance.judged_target if s.resemblance else None,
    ),
    (
        "Judged to be its start's",
        "Images of those that it gives the class of their start.",
        lambda s: s.resemblance.judged_start if s.resemblance else None,
    ),
    (
        "Perturbation beside the classes",
        "Its l2 norm over the distance from the start to the nearest training image of the new class. Below 0.5, an "
        "image stays nearer to its start than to every training image of that class.",
        lambda s: s.perturbation.to_nearest if s.perturbation else None,
    ),
    (
        "Pixels that change noticeably",
        "Share of the pixels whose grey level changes by more than is just noticed on their background (Chou and Li, "
        "1995: 3 of 255 levels on middle grey, 20 on black).",
        lambda s: s.perturbation.noticed if s.perturbation else None,
    ),
    ("Time to build", "", lambda s: duration(s.seconds)),
]


def _nearer(made: SetProperties, by: By) -> Proportion | None:
    found = made.resemblance.by(by) if made.resemblance else None
    return found.nearer_target if found else None
