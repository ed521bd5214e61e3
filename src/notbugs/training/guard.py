"""A guard against catastrophic overfitting: a classifier that has learned to fool the few steps it is trained with.

With one or two steps, adversarial training can end in a classifier that withstands just these steps and no other
attack (Wong, Rice and Kolter 2020). The sign is plain: more steps break far more images than its own do.
"""

from __future__ import annotations

import torch

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.search import Schedule, pgd
from notbugs.seeds import generator
from notbugs.training.settings import Adversary

FEWEST, MOST, PART = 64, 250, 20
"""A twentieth of the training images, but at least and at most so many: the guard must not cost what it guards."""
STRONG = Schedule(10)


def guarded(classifier: Classifier, images: Images, adversary: Adversary, seed: int, epoch: int) -> Adversary:
    """The adversary to train with from now on: twice the steps if ten leave less than half of what its own leave.

    Looked at on some training images, drawn anew every epoch. `adversary` itself where it has ten steps or more, or is
    not guarded.
    """
    if not adversary.guard or adversary.steps >= STRONG.steps:
        return adversary
    count = min(MOST, max(FEWEST, len(images) // PART))
    index = torch.randperm(len(images), generator=generator(seed, "guard", epoch))[:count]
    own, strong = (_robust(classifier, images, index, adversary, steps) for steps in (adversary.schedule, STRONG))
    if strong >= own / 2:
        return adversary
    return adversary.model_copy(update={"steps": 2 * adversary.steps, "step_size": None})


def _robust(classifier: Classifier, images: Images, index: torch.Tensor, adversary: Adversary, steps: Schedule) -> int:
    """How many of the images at `index` are classified correctly after these steps."""
    index = index.to(images.labels.device)
    inputs, labels = (tensor.to(classifier.device) for tensor in images.batch(index))
    return int((pgd(classifier, inputs, labels, adversary.threat, steps).score >= 0).sum())
