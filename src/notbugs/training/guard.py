"""A guard against catastrophic overfitting: a classifier that has learned to fool the few steps it is trained with.

With one or two steps, adversarial training can end in a classifier that withstands just these steps and no other
attack (Wong, Rice and Kolter 2020). The sign is plain: more steps of the same search break most of what the training's
own steps leave. So the strong attack, by which robust accuracy is measured, goes on with what these leave. Its first
part is such a search. Its targeted part breaks much also of a sound classifier that is young in training, so that it
counts only where nearly nothing is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.search import Attack, Attacked
from notbugs.seeds import generator
from notbugs.training.settings import Adversary

MOST_STEPS = 10
"""With so many steps of its own, training is not guarded."""
STRONG = Attack(targeted=1, queries=0)
COST = 60
"""Gradients for each image that the strong attack leaves, at most: 10, 5 and 40, with some to spare."""
BUDGET, FEWEST, MOST = 0.1, 48, 250
"""Share of an epoch's own gradients that the guard may cost, which decides the number of images; at least and at most.
"""
FIRST, ALL, SOME = 1 / 2, 1 / 20, 1 / 4
"""Shares of the images left by the training's own steps: the steps are doubled if the strong attack's first part leaves
less, or all of it less. The second counts only if the own steps leave at least so large a share of the images."""
LARGE, HELD = 10_000, 0.02
"""From so many training images on, the guard looks at images that are held out of training: at most so large a share.
With fewer, holding out enough of them would cost accuracy: it looks at training images, on which the overfitting shows
as well, because it is a failure of the few steps and not of generalisation."""


def held_out(images: Images, adversary: Adversary | None, seed: int, least: int = 0) -> tuple[Tensor, Tensor]:
    """The numbers of the images to train on, in their order, and of those held out: `least` of them, or more.

    Where none are held out, the guard looks at all.
    """
    everything, count = torch.arange(len(images)), least
    if adversary and is_guarded(adversary) and len(images) >= LARGE:
        count = max(count, min(MOST, int(HELD * len(images))))
    if not count:
        return everything, everything
    order = torch.randperm(len(images), generator=generator(seed, "held out of training"))
    return order[count:].sort().values, order[:count].sort().values


def guarded(
    classifier: Classifier, images: Images, looked_at: Tensor, adversary: Adversary, seed: int, epoch: int
) -> Adversary:
    """The adversary to train with from now on: twice the steps if the strong attack leaves far less than its own.

    Seen on some of the images whose numbers are `looked_at`, drawn anew every epoch. `adversary` itself where it has
    ten steps or more, or is not guarded.
    """
    if not is_guarded(adversary):
        return adversary
    count = how_many(images, looked_at, adversary)
    index = looked_at[torch.randperm(len(looked_at), generator=generator(seed, "guard", epoch))[:count]]
    some = images.subset(index)
    if some.has_several:  # each label is a binary problem: one after the other, an epoch each
        label = epoch % some.labels.shape[1]
        classifier, some = classifier.label(label), some.label(label)
    run = Attacked(classifier, some, [adversary.threat], seed=seed)
    run.by(Attack(name="pgd", steps=adversary.steps, step_size=adversary.step_size))
    own = len(run.standing(adversary.threat))
    run.by(STRONG)
    left_by_first = own - run.first(adversary.threat).get("log-odds", 0)
    is_broken = own >= SOME * len(index) and len(run.standing(adversary.threat)) < ALL * own
    if left_by_first >= FIRST * own and not is_broken:
        return adversary
    return adversary.model_copy(update={"steps": 2 * adversary.steps, "step_size": None})


def how_many(images: Images, looked_at: Tensor, adversary: Adversary) -> int:
    """Of the images whose numbers are `looked_at`, how many the guard looks at after an epoch."""
    return min(MOST, max(FEWEST, int(BUDGET * len(images) * (adversary.steps + 1) / COST)), len(looked_at))


def is_guarded(adversary: Adversary) -> bool:
    """Whether the guard looks after training with this adversary."""
    return adversary.guard and adversary.steps < MOST_STEPS
