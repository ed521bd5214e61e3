"""The measured properties of constructed sets as a table: a row a measure, with what it means, a column a set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from notbugs.formats import duration
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
    ("Time to build", "", lambda s: duration(s.seconds)),
]
