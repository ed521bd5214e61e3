"""What training looks at, mostly on images held out of it: the guard against catastrophic overfitting, early stopping.

With one or two steps, adversarial training can end in a classifier that withstands just these steps and no other
attack (Wong, Rice and Kolter 2020). The sign is plain: more steps of the same search break most of what the training's
own steps leave. So the strong attack, by which robust accuracy is measured, goes on with what these leave. Its first
part is such a search. Its targeted part breaks much also of a sound classifier that is young in training, so that it
counts only where nearly nothing is left.

In long adversarial training, too, the robust accuracy on other images falls before that on the training images stops
rising (Rice, Wong and Kolter 2020). So early stopping compares epochs on images held out of training, by the strong
attack at the radius of training; in standard training by clean accuracy. Where every class counts the same in training,
it does so here: by balanced accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs import workers
from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import must
from notbugs.formats import percent
from notbugs.search import STRONG, Attack, Attacked
from notbugs.search.evaluation import logits
from notbugs.search.strong import broken_in, most_gradients
from notbugs.seeds import generator
from notbugs.training.settings import Adversary, Training

MOST_STEPS = 10
"""With so many steps of its own, training is not guarded."""
GUARD = Attack(targeted=1, queries=0)
COST = 60
"""Gradients for each image that the strong attack leaves, at most: 10, 5 and 40, with some to spare. It goes without
its searches from random points, which would take 120 more, one after the other."""
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

    Where none are held out, the guard looks at all. Images of one group are never on two sides.
    """
    everything, count = torch.arange(len(images)), least
    if adversary and is_guarded(adversary) and len(images) >= LARGE:
        count = max(count, min(MOST, int(HELD * len(images))))
    if not count:
        return everything, everything
    held, kept = images.divided(count, seed, "held out of training")
    return kept, held


def divided(images: Images, settings: Training, seed: int) -> tuple[Tensor, Tensor]:
    """As `held_out`, for what these settings look at: the guard, early stopping."""
    return held_out(images, settings.adversary, seed, to_stop_by(images, settings))


def trained_on(images: Images, settings: Training, seed: int) -> Tensor:
    """The numbers of the images that `train` with these settings and this seed trains on: all, but those held out."""
    return divided(images, settings, seed)[0]


def guarded(
    classifier: Classifier, images: Images, looked_at: Tensor, adversary: Adversary, seed: int, epoch: int
) -> Adversary:
    """The adversary to train with from now on: twice the steps if the strong attack leaves far less than its own.

    Seen on some of the images whose numbers are `looked_at`, drawn anew every epoch. `adversary` itself where it has
    ten steps or more, or is not guarded. Several workers, whose passes may differ by rounding, double together.
    """
    if not is_guarded(adversary):
        return adversary
    count = to_guard_by(images, looked_at, adversary)
    index = looked_at[torch.randperm(len(looked_at), generator=generator(seed, "guard", epoch))[:count]]
    some = images.subset(index)
    if some.has_several:  # each label is a binary problem: one after the other, an epoch each
        label = epoch % some.labels.shape[1]
        classifier, some = classifier.label(label), some.label(label)
    run = Attacked(classifier, some, [adversary.threat], seed=seed)
    run.by(Attack(name="pgd", steps=adversary.steps, step_size=adversary.step_size))
    own = len(run.standing(adversary.threat))
    broken_in(run, GUARD, run.standing(adversary.threat), adversary.threat, starts=0)
    left_by_first = own - run.first(adversary.threat).get("log-odds", 0)
    is_broken = own >= SOME * len(index) and len(run.standing(adversary.threat)) < ALL * own
    if not workers.largest(int(is_broken or left_by_first < FIRST * own)):
        return adversary
    return adversary.model_copy(update={"steps": 2 * adversary.steps, "step_size": None})


def to_guard_by(images: Images, looked_at: Tensor, adversary: Adversary) -> int:
    """Of the images whose numbers are `looked_at`, how many the guard looks at after an epoch."""
    return min(MOST, max(FEWEST, int(BUDGET * len(images) * (adversary.steps + 1) / COST)), len(looked_at))


def is_guarded(adversary: Adversary) -> bool:
    """Whether the guard looks after training with this adversary."""
    return adversary.guard and adversary.steps < MOST_STEPS


FEWEST_JUDGED, MOST_JUDGED = 100, 500
"""Images that early stopping holds out, at least and at most: between them, those that `BUDGET` pays for."""
JUDGED = 0.1
"""Of the images, at most."""


class Trained(BaseModel):
    """How a training run went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = Field(description="that were trained on")
    held_out: int = Field(description="of the training images, that were not trained on: for the guard, early stopping")
    epochs: int = Field(description="that were done")
    steps: int | None = Field(description="of the adversary at the end: the guard may have doubled them")
    guard_images: int = Field(description="that the guard looked at after each epoch; 0: no guard")
    best_epoch: int | None = Field(description="whose weights were kept, from 1; null: the last one's")
    right: int | None = Field(
        description="in the best epoch, of `judged`: by the strong attack where there is a radius"
    )
    judged: int | None = Field(description="held-out images, or all their labels, that chose the best epoch")
    balanced: float | None = Field(
        None, description="balanced accuracy on them, by which it was chosen; null where training was not balanced"
    )

    def __str__(self) -> str:
        if self.best_epoch is None:
            return f"{self.epochs} epochs on {self.images} images"
        balanced = "" if self.balanced is None else f", a balanced accuracy of {percent(self.balanced)}%"
        return (
            f"epoch {self.best_epoch} of {self.epochs} is kept: {self.right} of {self.judged} held-out images are right"
            f"{balanced}"
        )


@dataclass(frozen=True)
class Score:
    """How good a classifier is on held-out images.

    Attributes
    ----------
    right : int
        How many are right.
    value : float
        What epochs are compared by: `right`; in balanced training the balanced accuracy, mean over labels.
    """

    right: int = -1
    value: float = -1.0


@dataclass
class Best:
    """The best epoch so far.

    Attributes
    ----------
    epoch : int
        Its number, from 1; 0: there is none yet.
    score : Score
        Of the classifier after it.
    weights : dict of str to Tensor
        The classifier's state after it.
    gained : int
        The last epoch that was better than all before it, and not only as good; or that left none right.
    """

    epoch: int = 0
    score: Score = Score()
    weights: dict[str, Tensor] = field(default_factory=dict)
    gained: int = 0

    def offer(self, epoch: int, score: Score, classifier: Classifier) -> None:
        """Take this epoch if none before was better: of equally good ones the last, as the learning rate falls."""
        if score.value > self.score.value or score.right == 0:  # while none is right, training has not begun to tell
            self.gained = epoch
        if score.value >= self.score.value:
            weights = {name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()}
            self.epoch, self.score, self.weights = epoch, score, weights

    def is_over(self, done: int, patience: int) -> bool:
        """Whether so many epochs have brought nothing better."""
        return patience > 0 and done - self.gained >= patience


def to_stop_by(images: Images, settings: Training) -> int:
    """How many images early stopping holds out: none if it is off.

    Raises
    ------
    InputError
        If there are too few images.
    """
    check_patience(settings, len(images))
    if not settings.patience:
        return 0
    steps, cost = 1, 1
    if settings.adversary:
        steps = settings.adversary.steps + 1
        labels = images.labels.shape[1] if images.has_several else 1
        classes = 2 if images.has_several else int(images.labels.max()) + 1
        cost = labels * most_gradients(STRONG, classes)
    return min(MOST_JUDGED, max(FEWEST_JUDGED, int(BUDGET * len(images) * steps / cost)), int(JUDGED * len(images)))


def check_patience(settings: Training, count: int) -> None:
    """Refuse early stopping where so many training images leave none to hold out.

    Raises
    ------
    InputError
        If they are too few.
    """
    if settings.patience and not int(JUDGED * count):
        rule = f"be 0 with fewer than {round(1 / JUDGED)} training images, and there are {count}"
        raise must("patience", rule, settings.patience)


def score(classifier: Classifier, images: Images, settings: Training, seed: int) -> Score:
    """How many images are right; in adversarial training, how many withstand the strong attack. Of several labels, all.

    In balanced training every class counts the same; of several labels, having and lacking one. Several workers agree
    on the largest of their numbers.
    """
    right, values = 0, []
    for view, some in _problems(classifier, images):
        counts = [
            (workers.largest(int(hits.sum())), len(hits))
            for hits in _by_class(_hits(view, some, settings.adversary, seed), some.labels, settings)
        ]
        right += sum(hits for hits, _ in counts)
        values.append(sum(hits / count for hits, count in counts) / len(counts))
    return Score(right, sum(values) / len(values) if settings.balanced else right)


def _hits(classifier: Classifier, images: Images, adversary: Adversary | None, seed: int) -> Tensor:
    if adversary is None:
        predicted = torch.cat([one.argmax(1) for one in logits(classifier, images, batch=250)])
        return predicted == images.labels
    run = Attacked(classifier, images, [adversary.threat] if adversary.eps else [], seed=seed)
    run.by(STRONG)
    hits = torch.zeros(len(images), dtype=torch.bool)
    hits[run.standing(adversary.threat)] = True
    return hits


def _by_class(hits: Tensor, labels: Tensor, settings: Training) -> list[Tensor]:
    """Those of each class, in balanced training; else all together."""
    return [hits[labels == label] for label in labels.unique()] if settings.balanced else [hits]


def _problems(classifier: Classifier, images: Images) -> Iterator[tuple[Classifier, Images]]:
    """The classification itself; of several labels, each as a binary one."""
    if not images.has_several:
        yield classifier, images
        return
    for number in range(images.labels.shape[1]):
        yield classifier.label(number), images.label(number)
