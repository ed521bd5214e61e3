"""Whom constructed images resemble, their start or their target, by measures that no source had a hand in."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.measure.similarity import ssim
from notbugs.measure.statistics import Mean, Proportion
from notbugs.shapes import Batch, Features, Labels, PerSample
from notbugs.threat import l2_norm

By = Literal["pixels", "ssim", "robust features"]
BATCH = 250


class Likeness(BaseModel):
    """By one measure.

    The difference is above 0 where an image is more like its target than like its start. Of distances d, in pixels or
    features, it is (d(image, start) - d(image, target)) / d(start, target): -1 is the start itself, 1 the target. Of
    structural similarity it is that to the target less that to the start.

    Examples
    --------
    >>> found = nb.measure.resemblance(inputs, inputs, inputs.flip(0))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: By
    nearer_target: Proportion = Field(description="images that are more like their target than like their start")
    difference: Mean


class Resemblance(BaseModel):
    """Of `n` images, drawn at random from those whose start has another class than their label says.

    Examples
    --------
    >>> found = nb.measure.resemblance(inputs, inputs, inputs.flip(0))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=1)
    target: Literal["matched image", "nearest image of the new class"] = Field(
        description="what a matched image was matched with; or the training image of the new class nearest to the start"
    )
    judge: str | None = Field(description="a robust classifier that the set was not built with; null: there was none")
    measures: list[Likeness]
    judged_target: Proportion | None = Field(description="images that the judge gives the class of their target")
    judged_start: Proportion | None = Field(description="images that the judge gives the class of their start")

    def by(self, measure: By) -> Likeness | None:
        """One of the measures, where it was taken."""
        return next((found for found in self.measures if found.by == measure), None)

    @property
    def verdict(self) -> Literal["target", "start", "unclear"]:
        """What the images are like by every measure, their intervals clear of one half; `unclear` where they differ."""
        shares = [found.nearer_target for found in self.measures]
        if all(share.low > 0.5 for share in shares):
            return "target"
        return "start" if all(share.high < 0.5 for share in shares) else "unclear"


def likeness(by: By, to_start: PerSample, to_target: PerSample, apart: PerSample, seed: int = 0) -> Likeness:
    """From distances to start and target, and of these two from each other, one of each for an image."""
    tiny = torch.finfo(apart.dtype).tiny
    difference = (to_start - to_target) / apart.clamp_min(tiny)
    return Likeness(by=by, nearer_target=Proportion.of(difference > 0), difference=Mean.of(difference, seed))


def resemblance(
    images: Batch,
    start: Batch,
    target: Batch,
    *,
    kind: Literal["matched image", "nearest image of the new class"] = "matched image",
    classes: tuple[Labels, Labels] | None = None,
    judge: Classifier | None = None,
    judge_name: str = "robust",
    seed: int = 0,
) -> Resemblance:
    """Compare images with their starts and targets: in pixels, by structural similarity, and by a robust classifier.

    Parameters
    ----------
    images, start, target : Tensor
        In [0, 1], shape (batch, channel, height, width).
    kind : str
        What the targets are.
    classes : tuple of Tensor, optional
        Of the starts and of the targets, shape (batch,); with them, the judge's labels are counted.
    judge : Classifier, optional
        A robust one that the images were not built with: its features are the third measure.
    judge_name : str
        Its name.
    seed : int
        Of the bootstrap.

    Examples
    --------
    >>> found = nb.measure.resemblance(inputs, inputs, inputs.flip(0))
    """
    apart = l2_norm(start - target)
    found = [likeness("pixels", l2_norm(images - start), l2_norm(images - target), apart, seed)]
    alike = [
        torch.cat([ssim(*pair) for pair in zip(images.split(BATCH), other.split(BATCH), strict=True)])
        for other in (start, target)
    ]
    found.append(likeness("ssim", -alike[0], -alike[1], torch.ones_like(apart), seed))
    says = None
    if judge is not None:
        (ours, says), (at_start, _), (at_target, _) = (_seen(judge, part) for part in (images, start, target))
        gaps = [
            (one - other).norm(dim=1) for one, other in ((ours, at_start), (ours, at_target), (at_start, at_target))
        ]
        found.append(likeness("robust features", gaps[0], gaps[1], gaps[2], seed))
    counted = says is not None and classes is not None
    return Resemblance(
        n=len(images),
        target=kind,
        judge=judge_name if judge is not None else None,
        measures=found,
        judged_start=Proportion.of(says == classes[0]) if counted else None,
        judged_target=Proportion.of(says == classes[1]) if counted else None,
    )


@torch.no_grad()
def _seen(judge: Classifier, images: Batch) -> tuple[Features, Tensor]:
    """Features and predicted classes, on the CPU, in fp32."""
    features, says = [], []
    with judge.evaluating("fp32"):
        for part in images.split(BATCH):
            batch = part.to(judge.device)
            features.append(judge.features(batch).cpu())
            says.append(judge(batch).argmax(1).cpu())
    return torch.cat(features), torch.cat(says)
