"""What drives a feature: the images where it is largest, and an image changed by the search to raise it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.measure.features import feature_values, penultimate
from notbugs.records import Record
from notbugs.search import Objective, PGDSteps, search
from notbugs.shapes import Batch, PerSample
from notbugs.threat import Threat

TOP = 4
"""Images shown where a feature is largest."""
FAR = 8.0
"""How many times the threat's radius the second search may go, to show what the feature looks for."""
STEPS = PGDSteps(40)


class Driver(Record):
    """One feature and what drives it; values are in standard deviations from its mean over training images."""

    feature: int = Field(ge=0, description="its number")
    top: list[int] = Field(description="test images with the largest values, by number")
    top_labels: list[int] = Field(description="their classes")
    top_values: list[float] = Field(description="their values")
    start: int = Field(description="the test image whose value is nearest to the mean, by number")
    start_label: int = Field(description="its class")
    start_value: float = Field(description="its value")
    near_radius: float = Field(description="of the threat, pixel units")
    near_value: float = Field(description="of the start image after a search inside this radius to raise the feature")
    far_radius: float = Field(description="of the larger ball in which the feature was raised")
    far_value: float = Field(description="of the start image, after a search in the larger ball")


def raising(classifier: Classifier) -> Objective:
    """From numbers of features: ascend that feature."""

    def objective(images: Batch, number: Tensor) -> tuple[PerSample, PerSample]:
        loss = -classifier.features(images).gather(1, number[:, None]).squeeze(1)
        return loss, loss.detach()

    return objective


def drive(
    classifier: Classifier,
    images: Images,
    chosen: Sequence[int],
    threat: Threat,
    *,
    mean: Float[Tensor, " feature"],
    std: Float[Tensor, " feature"],
) -> tuple[list[Driver], dict[str, Tensor]]:
    """What drives each of the chosen features, and the pictures that show it.

    Parameters
    ----------
    classifier : Classifier
        Whose features they are; left as it is.
    images : Images
        Test images, which are looked through and of which one is changed for each feature.
    chosen : sequence of int
        Numbers of features.
    threat : Threat
        How far the search may go; and once more, `FAR` times as far.
    mean, std : Tensor
        Of each feature over training images, shape (feature,).

    Returns
    -------
    list of Driver, and dict of Tensor
        Pictures by name, row i of each belongs to driver i: `top`, shape (driver, image, channel, height, width);
        `start`, `near` and `far`, shape (driver, channel, height, width).
    """
    number = torch.tensor(chosen)
    activations = ((feature_values(penultimate(classifier), images) - mean) / std)[:, number].T  # (driver, image)
    top = activations.topk(min(TOP, len(images)), dim=1)
    start = activations.abs().argmin(1)
    pictures = {"start": images.batch(start)[0], "top": torch.stack([images.batch(row)[0] for row in top.indices])}
    far = replace(threat, eps=FAR * threat.eps)
    for name, ball in (("near", threat), ("far", far)):
        pictures[name] = _raised(classifier, pictures["start"], number, ball)
    reached = {name: _values(classifier, pictures[name], number, mean, std) for name in ("start", "near", "far")}
    drivers = [
        Driver(
            feature=feature,
            top=top.indices[row].tolist(),
            top_labels=images.labels[top.indices[row]].tolist(),
            top_values=top.values[row].tolist(),
            start=int(start[row]),
            start_label=int(images.labels[start[row]]),
            near_radius=threat.eps,
            far_radius=far.eps,
            **{f"{name}_value": float(standardised[row]) for name, standardised in reached.items()},
        )
        for row, feature in enumerate(chosen)
    ]
    return drivers, pictures


def _raised(classifier: Classifier, start: Batch, number: Tensor, threat: Threat) -> Batch:
    with classifier.evaluating("fp32"):
        device = classifier.device
        result = search(raising(classifier), start.to(device), (number.to(device),), threat, STEPS)
    return result.images.cpu()


def _values(classifier: Classifier, images: Batch, number: Tensor, mean: Tensor, std: Tensor) -> PerSample:
    with torch.no_grad(), classifier.evaluating("fp32"):
        features = classifier.features(images.to(classifier.device)).cpu()
    return ((features - mean) / std).gather(1, number[:, None]).squeeze(1)
