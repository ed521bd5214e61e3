"""Whether a classifier learned the set that it was trained on: if not, its accuracy says nothing of the set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from notbugs.construct import ConstructedSet
from notbugs.formats import said
from notbugs.instrument import InstrumentResult
from notbugs.measure import Proportion, wilson

if TYPE_CHECKING:  # instruments, of which results are made, ask this module
    from notbugs.study.results import Results

LEARNED = 0.5
"""Of its images whose label can be learned, the share that a classifier must give their label to have learned them."""


def success_of(built: ConstructedSet) -> Proportion:
    """The share of its images, as stored, that its source gives their label."""
    stored = built.manifest["storage"]
    assert stored  # of a finished set
    return wilson(round(stored["success_stored"] * len(built)), len(built))


def is_unlearned(fits: Proportion | None, reached: float = 1.0) -> bool:
    """Whether it is so, by the share `fits` of its own images that it gives their label; False where that is unknown.

    `reached` is the share whose label can be seen: a search does not reach the label of every image.
    """
    return fits is not None and fits.high < LEARNED * reached


class LearnedSet(InstrumentResult):
    """What an instrument says of a set on which it trained a classifier: whether that learned it."""

    success: Proportion | None = Field(
        None,
        description="images of the set that its source gives their label; null where labels are there for all to see, "
        "and in studies of older versions",
    )
    fits: Proportion | None = Field(
        None,
        description="of at most 2,000 images of the set, those that the classifier trained on it gives their label",
    )


L = TypeVar("L", bound=LearnedSet)


def first_unlearned(rows: Iterable[L]) -> L | None:
    """The first whose classifier did not learn it, if there is one."""
    return next((row for row in rows if is_unlearned(row.fits, row.success.value if row.success else 1.0)), None)


def not_learned(what: str, fits: Proportion | None) -> str:
    """The sentence that says so."""
    assert fits  # else it is not known
    return (
        f"{what} was not learned by a classifier trained on it, which gives {said(fits)} of its images their label: "
        "its accuracy says nothing of the set."
    )


def unlearned(results: Results) -> dict[str, Proportion]:
    """By the name of the classifier, the share of its own training images that it gives their label, where it is low.

    A search does not reach the label of every image, and what the source does not see others need not see: so less than
    half of the images that it does see is low. Empty for studies of versions that did not measure it.
    """
    reached = {properties.name: properties.success_source.value for properties in results.sets}
    for control in results.instruments.controls.rows if results.instruments.controls else ():
        if control.variant in ("leakage", "mislabelled"):  # patterns, or mistakes, that are there for all to see
            reached[control.name] = 1.0
        elif control.variant not in ("itself", "random", "labels"):  # in the last two there is nothing to learn
            reached[control.name] = control.success.value
    return {
        name: share
        for name, share in results.study.fits.items()
        if name in reached and is_unlearned(share, reached[name])
    }
