"""Accuracy under common corruptions, and on what passes a high- or a low-pass filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from notbugs.classifier import Classifier
from notbugs.data import CORRUPTIONS, Images, corrupt, high_pass, low_pass
from notbugs.errors import check_choice, check_number
from notbugs.measure.accuracy import predictions
from notbugs.measure.statistics import Proportion
from notbugs.progress import Progress, silent
from notbugs.search.compatibility import check_fits
from notbugs.shapes import Batch

BATCH = 500


class CorruptionAccuracy(BaseModel):
    """Accuracy under one corruption at one severity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corruption: str
    severity: int = Field(ge=1, le=5)
    share: Proportion
    seed: int = Field(description="of the corruption's noise")


class FilterAccuracy(BaseModel):
    """Accuracy on what passes a filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passes: Literal["low", "high"]
    cutoff: float = Field(
        description="cycles per image: `low` passes up to it, `high` above it and the channels' means"
    )
    share: Proportion


def corruption_accuracy(
    classifier: Classifier,
    images: Images,
    *,
    names: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    seed: int = 0,
    progress: Progress = silent,
) -> list[CorruptionAccuracy]:
    """Accuracy under every corruption at every severity, in that order.

    Parameters
    ----------
    classifier : Classifier
        Measured in evaluation mode, in fp32.
    images : Images
        With their true labels.
    names : sequence of str
        Of `notbugs.CORRUPTIONS`.
    severities : sequence of int
        1 to 5.
    seed : int
        Of the noise; an image's own does not depend on the others.

    Raises
    ------
    InputError
        If there is no such corruption or severity, or the classifier does not fit the images.
    """
    check_fits(classifier, images)
    asked = [(check_choice("name", name, CORRUPTIONS), severity) for name in names for severity in severities]
    for name, severity in asked:
        corrupt(images.batch(slice(1))[0], name, severity)  # what is wrong fails before any work
    found = []
    for name, severity in asked:
        hits = predictions(classifier, images, batch=BATCH, change=_corrupted(name, severity, seed)) == images.labels
        found.append(CorruptionAccuracy(corruption=name, severity=severity, share=Proportion.of(hits), seed=seed))
        progress(len(found), len(asked))
    return found


def _corrupted(name: str, severity: int, seed: int) -> Callable[[Batch], Batch]:
    """Corrupts one batch after the other, and counts the images."""
    first = count(0, BATCH)
    return lambda inputs: corrupt(inputs, name, severity, seed=seed, first=next(first))


def filter_accuracy(
    classifier: Classifier, images: Images, cutoffs: Sequence[float], *, progress: Progress = silent
) -> list[FilterAccuracy]:
    """Accuracy on what passes low, then on what passes high, at every cutoff; filtered images are clipped to [0, 1].

    Parameters
    ----------
    classifier : Classifier
        Measured in evaluation mode, in fp32.
    images : Images
        With their true labels.
    cutoffs : sequence of float
        Cycles per image.

    Raises
    ------
    InputError
        If a cutoff is negative or not a number, or the classifier does not fit the images.
    """
    check_fits(classifier, images)
    limits = [check_number("cutoff", cutoff) for cutoff in cutoffs]
    found = []
    for passes, filtered in (("low", low_pass), ("high", high_pass)):
        for cutoff in limits:
            hits = predictions(classifier, images, batch=BATCH, change=partial(_clipped, filtered, cutoff))
            share = Proportion.of(hits == images.labels)
            found.append(FilterAccuracy(passes=passes, cutoff=cutoff, share=share))
            progress(len(found), 2 * len(limits))
    return found


def _clipped(filtered: Callable[[Batch, float], Batch], cutoff: float, images: Batch) -> Batch:
    return filtered(images, cutoff).clamp(0, 1)
