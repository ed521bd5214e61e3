"""Objectives: what a search descends, and how it ranks what it meets.

With p the softmax of the logits, the gradient of the cross-entropy -log p_y is (1 - p_y) times the gradient of
-log(p_y / (1 - p_y)). Steps have unit length, so the two take the same path; but the first factor vanishes in
floating point where a classifier is confident, and the search would stand still. So the loss here is the log-odds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import softplus

from notbugs.classifier import Classifier
from notbugs.errors import renamed
from notbugs.search.loop import Objective
from notbugs.shapes import Batch, Features, Labels, Logits, PerSample
from notbugs.threat import Threat, l2_norm

Answering = Callable[[Batch], Logits]
"""A classifier, or a function in its place, from images to logits."""

CONFIDENT = 15.0
"""Logit above which the logarithm of softplus is the logit itself, in float32."""


def log_odds(logits: Logits, labels: Labels) -> PerSample:
    """log(p_y / (1 - p_y)) of every sample; the cross-entropy is softplus of its negative.

    Of several labels p_y is the probability that all of them are as `labels` says.
    """
    if labels.ndim == 2:
        return _all_odds(_sides(logits, labels))
    own, others = _split(logits, labels)
    return own - others.logsumexp(1)


def margin(logits: Logits, labels: Labels) -> PerSample:
    """Logit of the label minus the largest other logit: negative exactly where the label is not predicted.

    Of several labels, the least of their logits, each with the sign that `labels` gives it.
    """
    if labels.ndim == 2:
        return _sides(logits, labels).amin(1)
    own, others = _split(logits, labels)
    return own - others.amax(1)


def away_from(classifier: Answering) -> Objective:
    """From labels: ascend their cross-entropy; rank by margin, so that any misclassified iterate beats every other."""

    def objective(images: Batch, labels: Labels) -> tuple[PerSample, PerSample]:
        logits = classifier(images)
        return log_odds(logits, labels), margin(logits.detach(), labels)

    return objective


def across(classifier: Classifier) -> Objective:
    """From labels and wrong classes: descend the label's logit minus that class's; rank by margin, as `away_from`."""

    def objective(images: Batch, labels: Labels, targets: Labels) -> tuple[PerSample, PerSample]:
        logits = classifier(images)
        own, other = (logits.gather(1, classes[:, None]).squeeze(1) for classes in (labels, targets))
        return own - other, margin(logits.detach(), labels)

    return objective


def estimated(objective: Objective, threat: Threat, pairs: int, generator: torch.Generator) -> Objective:
    """The same loss and score, with a gradient estimated from 2 `pairs` of queries (NES, Ilyas et al. 2018).

    For what gives no gradient. Each query is a step of the threat model, drawn at random and taken forwards and back;
    all samples take the same ones, so that none depends on its batch. `search` calls it as often for every batch, so
    one generator is for one batch.
    """

    @torch.no_grad()
    def slope(images: Batch, goals: tuple[Tensor, ...]) -> Batch:
        total = torch.zeros_like(images)
        for _ in range(pairs):
            step = threat.start(images[:1], generator)
            rise = objective((images + step).clamp(0, 1), *goals)[0] - objective((images - step).clamp(0, 1), *goals)[0]
            total += rise.view(-1, *[1] * (images.dim() - 1)) * step
        return total

    def queried(images: Batch, *goals: Tensor) -> tuple[PerSample, PerSample]:
        with torch.no_grad():
            loss, score = objective(images, *goals)
        gives = slope(images.detach(), goals) * (images - images.detach())  # is 0, and has the slope as its gradient
        return loss + gives.flatten(1).sum(1), score

    return queried


def targeted_ce(classifier: Answering) -> Objective:
    """From target classes: descend their cross-entropy (the paper, section 3.2), and rank by it."""

    def objective(images: Batch, targets: Labels) -> tuple[PerSample, PerSample]:
        odds = log_odds(classifier(images), targets)
        return -odds, softplus(-odds.detach())

    return objective


def targeted_ce_alone(classifier: Answering, others: Sequence[Answering]) -> Objective:
    """From targets and what others keep: reach the target on one classifier, unnoticed by others (Nakkiran 2019).

    Descends the cross-entropy of the target on `classifier`, plus the mean over `others` of that of what each keeps:
    labels, in cross-entropy; or its logits before, shape (batch, other, class), less what all classes share, in mean
    square: a divergence of probabilities would let those near 0 move. What is left is adversarial for this classifier
    and, where others are like these, for no other.
    """

    def objective(images: Batch, targets: Labels, kept: Tensor) -> tuple[PerSample, PerSample]:
        loss = softplus(-log_odds(classifier(images), targets))
        parts = [
            softplus(-log_odds(other(images), kept)) if kept.ndim < 3 else _moved(other(images), kept[:, number])
            for number, other in enumerate(others)
        ]
        loss = loss + torch.stack(parts).mean(0)
        return loss, loss.detach()

    return objective


def _moved(logits: Logits, before: Tensor) -> PerSample:
    """How far the logits, but for what all of them share, are from those before, in mean square over the classes."""
    change = logits - before
    return (change - change.mean(1, keepdim=True)).square().mean(1)


def matching(classifier: Classifier, features: Callable[[Batch], Features] | None = None) -> Objective:
    """From target features: descend ||g(x) - target|| / ||target|| (the paper, equation 6, divided by a constant).

    `features` takes the place of the classifier's own: the same with another gradient.
    """
    g = features or classifier.features

    def objective(images: Batch, target: Features) -> tuple[PerSample, PerSample]:
        loss = mismatch(g(images), target)
        return loss, loss.detach()

    return objective


def mismatch(features: Features, target: Features) -> PerSample:
    """||features - target|| / ||target|| of every sample."""
    return l2_norm(features - target) / target.norm(dim=1).clamp_min(torch.finfo(target.dtype).tiny)


def part_of(features: Callable[[Batch], Features], chosen: Sequence[int]) -> Callable[[Batch], Features]:
    """Those of a classifier's features that have these numbers."""

    def part(images: Batch) -> Features:
        values = features(images)
        return values[:, torch.tensor(chosen, device=values.device)]

    return part


def smallest(classifier: Answering, threat: Threat, *, targeted: bool, undecided: bool = False) -> Objective:
    """From classes and origins: descend the margin until it is negative; rank by the perturbation's norm from there.

    The margin is the label's, or, `targeted`, the negative of the target's. Where it is not negative the rank is
    infinite. While `undecided`, the gradient away from a label is that of the log-odds, which weighs all other classes
    and so does not commit the search to the one that happens to be second at the start.
    """

    def objective(images: Batch, classes: Labels, origin: Batch) -> tuple[PerSample, PerSample]:
        logits = classifier(images)
        loss = margin(logits, classes)
        if targeted:
            loss = -loss
        elif undecided:
            odds = log_odds(logits, classes)
            loss = loss.detach() + (odds - odds.detach())
        reached = loss.detach() < 0
        return loss, torch.where(reached, threat.size(images.detach() - origin), torch.inf)

    return objective


def _sides(logits: Logits, labels: Labels) -> Logits:
    """The logits of several labels, those of absent ones with the other sign: positive where they are right."""
    return logits * (2 * labels - 1)


def _all_odds(sides: Logits) -> PerSample:
    """log(p / (1 - p)) of the product p of the sigmoids, which keeps its gradient where all of them round to 1.

    With L = -log p, the sum of softplus(-side), it is -log(exp(L) - 1); for a small L that is -log L.
    """
    single = torch.where(sides > CONFIDENT, -sides, softplus(-sides).clamp_min(torch.finfo(sides.dtype).tiny).log())
    logarithm = single.logsumexp(1)
    loss = logarithm.clamp_min(-CONFIDENT).exp()
    return torch.where(logarithm < -CONFIDENT, -logarithm, -loss - (-torch.expm1(-loss)).log())


def _split(logits: Logits, labels: Labels) -> tuple[PerSample, Logits]:
    """The label's logit, and all logits with the label's at minus infinity."""
    return logits.gather(1, labels[:, None]).squeeze(1), logits.scatter(1, labels[:, None], -torch.inf)


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"towards": "targeted_ce", "towards_alone": "targeted_ce_alone"})
