"""Early stopping: training ends when accuracy on held-out images rises no more, and the best epoch's weights are kept.

In adversarial training the robust accuracy on other images falls long before that on the training images stops rising
(Rice, Wong and Kolter 2020). So epochs are compared on images that are held out of training, by the strong attack at
the radius of training, as robust accuracy is measured everywhere; in standard training by clean accuracy.
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
from notbugs.search import STRONG, Attacked
from notbugs.search.evaluation import logits
from notbugs.search.strong import most_gradients
from notbugs.training.settings import Adversary, Training

BUDGET, FEWEST, MOST = 0.1, 100, 500
"""Share of an epoch's own gradients that a look at the held-out images may cost, which decides how many are held out;
at least and at most."""
SHARE = 0.1
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

    def __str__(self) -> str:
        if self.best_epoch is None:
            return f"{self.epochs} epochs on {self.images} images"
        return (
            f"epoch {self.best_epoch} of {self.epochs} is kept: {self.right} of {self.judged} held-out images are right"
        )


@dataclass
class Best:
    """The best epoch so far.

    Attributes
    ----------
    epoch : int
        Its number, from 1; 0: there is none yet.
    right : int
        How many held-out images were right after it.
    weights : dict of str to Tensor
        The classifier's state after it.
    """

    epoch: int = 0
    right: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, right: int, classifier: Classifier) -> None:
        """Take this epoch if none before was better: of equally good ones the last, as the learning rate falls."""
        if right >= self.right:
            weights = {name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()}
            self.epoch, self.right, self.weights = epoch, right, weights

    def is_over(self, done: int, patience: int) -> bool:
        """Whether so many epochs have brought nothing better."""
        return patience > 0 and done - self.epoch >= patience


def how_many(images: Images, settings: Training) -> int:
    """How many images early stopping holds out: none if it is off.

    Raises
    ------
    InputError
        If there are too few images.
    """
    if not settings.patience:
        return 0
    steps, cost = 1, 1
    if settings.adversary:
        steps = settings.adversary.steps + 1
        labels = images.labels.shape[1] if images.has_several else 1
        classes = 2 if images.has_several else int(images.labels.max()) + 1
        cost = labels * most_gradients(STRONG, classes)
    count = min(MOST, max(FEWEST, int(BUDGET * len(images) * steps / cost)), int(SHARE * len(images)))
    if not count:
        raise must("patience", f"be 0 with fewer than {round(1 / SHARE)} training images", settings.patience)
    return count


def right(classifier: Classifier, images: Images, adversary: Adversary | None, seed: int) -> int:
    """How many images are right; in adversarial training, how many withstand the strong attack. Of several labels, all.

    Several workers agree on the largest of their numbers.
    """
    found = 0
    for view, some in _problems(classifier, images):
        if adversary is None:
            predicted = torch.cat([one.argmax(1) for one in logits(view, some, batch=250)])
            found += int((predicted == some.labels).sum())
        else:
            run = Attacked(view, some, [adversary.threat] if adversary.eps else [], seed=seed)
            run.by(STRONG)
            found += len(run.standing(adversary.threat))
    return workers.largest(found)


def _problems(classifier: Classifier, images: Images) -> Iterator[tuple[Classifier, Images]]:
    """The classification itself; of several labels, each as a binary one."""
    if not images.has_several:
        yield classifier, images
        return
    for number in range(images.labels.shape[1]):
        yield classifier.label(number), images.label(number)
