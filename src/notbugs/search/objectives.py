"""Objectives: what a search descends, and how it ranks what it meets."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from notbugs.classifier import Classifier
from notbugs.search.loop import Objective
from notbugs.shapes import Batch, Features, Labels, Logits, PerSample
from notbugs.threat import l2_norm


def margin(logits: Logits, labels: Labels) -> PerSample:
    """Logit of the label minus the largest other logit: negative exactly where the label is not predicted."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own - others.amax(1)


def away_from(classifier: Classifier, labels: Labels) -> Objective:
    """Ascend the cross-entropy of `labels`; rank by margin, so that any misclassified iterate beats every other."""

    def objective(images: Batch) -> tuple[PerSample, PerSample]:
        logits = classifier(images)
        return -cross_entropy(logits, labels, reduction="none"), margin(logits.detach(), labels)

    return objective


def towards(classifier: Classifier, targets: Labels) -> Objective:
    """Descend the cross-entropy of `targets` (the paper, section 3.2), and rank by it."""

    def objective(images: Batch) -> tuple[PerSample, PerSample]:
        loss = cross_entropy(classifier(images), targets, reduction="none")
        return loss, loss.detach()

    return objective


def matching(classifier: Classifier, target: Features) -> Objective:
    """Descend ||g(x) - g(target)|| / ||g(target)|| (the paper, equation 6, divided by a constant), and rank by it."""
    scale = target.norm(dim=1).clamp_min(torch.finfo(target.dtype).tiny)

    def objective(images: Batch) -> tuple[PerSample, PerSample]:
        loss = l2_norm(classifier.features(images) - target) / scale
        return loss, loss.detach()

    return objective
