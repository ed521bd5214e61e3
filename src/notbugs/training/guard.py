"""A guard against catastrophic overfitting: a classifier that has learned to fool the few steps it is trained with.

With one or two steps, adversarial training can end in a classifier that withstands just these steps and no other
attack (Wong, Rice and Kolter 2020). The sign is plain: the strong attack, by which robust accuracy is measured, breaks
far more images than the steps of training do.
"""

from __future__ import annotations

import torch

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.search import Attack, Attacked
from notbugs.seeds import generator
from notbugs.training.settings import Adversary

MOST_STEPS = 10
"""With so many steps of its own, training is not guarded."""
STRONG = Attack(steps=16, targeted=3, queries=0)
COST = 50
"""Gradients for each image that the strong attack leaves, at most: 4, 3 times 2, and 2 times 16, with some to spare."""
BUDGET, FEWEST, MOST = 0.1, 48, 250
"""Share of an epoch's own gradients that the guard may cost, which decides the number of images; at least and at most.
"""


def guarded(classifier: Classifier, images: Images, adversary: Adversary, seed: int, epoch: int) -> Adversary:
    """The adversary to train with from now on: twice the steps if the strong attack leaves less than half of its own.

    Looked at on some training images, drawn anew every epoch. `adversary` itself where it has ten steps or more, or is
    not guarded.
    """
    if not adversary.guard or adversary.steps >= MOST_STEPS:
        return adversary
    count = min(MOST, max(FEWEST, int(BUDGET * len(images) * (adversary.steps + 1) / COST)))
    index = torch.randperm(len(images), generator=generator(seed, "guard", epoch))[:count]
    run = Attacked(classifier, images.subset(index), [adversary.threat], seed=seed)
    run.by(Attack(name="pgd", steps=adversary.steps, step_size=adversary.step_size))
    own = len(run.standing(adversary.threat))
    run.by(STRONG)
    if len(run.standing(adversary.threat)) >= own / 2:
        return adversary
    return adversary.model_copy(update={"steps": 2 * adversary.steps, "step_size": None})
