"""Search over rotations and shifts: by the one loop, which moves their three parameters as if they were an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.search.loop import Objective, search
from notbugs.search.objectives import away_from, log_odds
from notbugs.search.steps import Schedule, Steps
from notbugs.shapes import Batch, Labels, PerSample
from notbugs.spatial import BOX, Box, Parameters, Spatial


@dataclass(frozen=True)
class FoundSpatial:
    """The worst transformation that a search found for every image.

    Attributes
    ----------
    parameters : Tensor
        Shape (batch, 3): degrees counter-clockwise, pixels down, pixels right.
    images : Tensor
        The transformed images.
    score : Tensor
        Margin of the label, shape (batch,): negative where the search succeeded.
    """

    parameters: Parameters
    images: Batch
    score: PerSample


def spatial_pgd(
    classifier: Classifier,
    images: Batch,
    labels: Labels,
    spatial: Spatial,
    schedule: Steps = Schedule(20, decay="linear"),  # noqa: B008  frozen
    *,
    start: Parameters | None = None,
) -> FoundSpatial:
    """Gradient search over rotations and shifts: leave `labels`.

    Every step moves each of the three parameters by the same share of its range, in the direction of its gradient's
    sign. The loss has many valleys: several starts find more.

    Parameters
    ----------
    classifier : Classifier
        Attacked in evaluation mode; its modes are restored.
    images, labels : Tensor
        In [0, 1], shape (batch, channel, height, width); int64, shape (batch,).
    spatial : Spatial
        The valid transformations.
    schedule : Schedule
        Number of steps, and their length where half the range of a parameter is 0.5.
    start : Tensor, optional
        Parameters to start from, shape (batch, 3), brought inside the valid ones; the identity by default.
    """
    middle = images.new_full((len(images), 3, 1, 1), 0.5)
    with classifier.evaluating():
        found = search(
            _transformed(classifier, spatial),
            middle,
            (labels, images),
            BOX,
            schedule,
            start=None if start is None else spatial.place(start.to(images)),
        )
    parameters = spatial.inside(found.images)
    return FoundSpatial(parameters, spatial.apply(images, parameters), found.score)


def _transformed(classifier: Classifier, spatial: Spatial) -> Objective:
    """From labels and images: as `away_from`, of the images transformed by a place in the box."""
    away = away_from(classifier)

    def objective(box: Box, labels: Labels, images: Batch) -> tuple[PerSample, PerSample]:
        return away(spatial.apply(images, spatial.inside(box)), labels)

    return objective


@torch.no_grad()
def worst_of(
    classifier: Classifier,
    images: Batch,
    labels: Labels,
    spatial: Spatial,
    parameters: Float[Tensor, "batch tries 3"],
) -> Batch:
    """Every image under that of its transformations with the largest cross-entropy (Engstrom et al., section 5).

    Parameters
    ----------
    parameters : Tensor
        Shape (batch, tries, 3).
    """
    chosen, lowest = images, images.new_full((len(images),), torch.inf)
    with classifier.evaluating():
        for one in parameters.unbind(1):
            moved = spatial.apply(images, one)
            odds = log_odds(classifier(moved), labels)
            is_worse = odds < lowest
            chosen = torch.where(is_worse[:, None, None, None], moved, chosen)
            lowest = torch.where(is_worse, odds, lowest)
    return chosen
