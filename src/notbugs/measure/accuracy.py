"""Clean and robust accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import check_count
from notbugs.measure.statistics import Proportion
from notbugs.models.forms import ready
from notbugs.progress import Progress, silent
from notbugs.search import Schedule, stream
from notbugs.search.fit import check_fits
from notbugs.search.objectives import away_from
from notbugs.seeds import generator
from notbugs.threat import Threat, threat


class AttackUsed(BaseModel):
    """The attack behind a robust accuracy. Radii and steps are in pixel units, pixels in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["pgd"] = "pgd"
    norm: Literal["l2", "linf"]
    eps: float = Field(ge=0)
    steps: int = Field(ge=1)
    step_size: float = Field(ge=0)
    restarts: int = Field(ge=1, description="runs from different starts; the first starts at the image itself")

    @property
    def threat(self) -> Threat:
        """The threat model."""
        return threat(self.norm, self.eps)


class Accuracy(BaseModel):
    """One accuracy: clean where `attack` is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attack: AttackUsed | None
    share: Proportion

    def __str__(self) -> str:
        under = f"{self.attack.norm} {self.attack.eps:g}" if self.attack else "clean"
        return f"{under}: {self.share}, n={self.share.n}"


def evaluate(
    classifier: Classifier,
    images: Images,
    *,
    norm: Literal["l2", "linf"] = "l2",
    radii: Sequence[float] = (),
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
    batch: int = 250,
    progress: Progress = silent,
) -> list[Accuracy]:
    """Clean accuracy, then robust accuracy at every radius, in rising order.

    An image counts as robust at a radius if it is classified correctly and PGD, over all restarts, found no
    misclassified image within that radius or a smaller one of the list: what is valid at a small radius is valid at
    a large one. So accuracy never rises with the radius. The search runs on a frozen copy in its fastest form
    (`models.forms`); what it found is judged by the classifier itself, in fp32.

    Parameters
    ----------
    classifier : Classifier
        Measured in evaluation mode.
    images : Images
        With their true labels.
    norm, radii : str, sequence of float
        Threat models, in pixel units.
    steps, restarts : int
        Of PGD, with step size 2.5 eps / steps. The first run starts at the image, the others at random in the ball.
    seed : int
        Of the random starts.

    Raises
    ------
    InputError
        If a radius is negative or not a number, a count is below 1, or the classifier does not fit the images.
    """
    check_count("steps", steps)
    check_count("restarts", restarts)
    threats = [threat(norm, eps) for eps in sorted(set(radii))]
    check_fits(classifier, images)
    alive = predictions(classifier, images, batch=batch) == images.labels
    found = [Accuracy(attack=None, share=Proportion.of(alive))]
    told = 0
    fast = ready(classifier, images.shape, batch=batch)[0] if threats else classifier
    for ball in threats:
        for restart in range(restarts):
            told += int((~alive).sum())  # nothing is left to do for these
            purpose = (seed, "restart", restart) if restart else None
            index = alive.nonzero().flatten()
            for numbers, is_broken in _attacked(classifier, fast, images, index, ball, steps, batch, purpose):
                alive[numbers] = ~is_broken
                told += len(numbers)
                progress(told, len(threats) * restarts * len(images))
        attack = AttackUsed(
            norm=norm, eps=ball.eps, steps=steps, step_size=Schedule(steps).first_length(ball), restarts=restarts
        )
        found.append(Accuracy(attack=attack, share=Proportion.of(alive)))
    return found


def _attacked(
    classifier: Classifier,
    fast: Classifier,
    images: Images,
    index: Tensor,
    ball: Threat,
    steps: int,
    batch: int,
    purpose: tuple[int, str, int] | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of the images at `index`, and whether one run of PGD breaks them, judged in fp32.

    An image leaves the search as soon as it is broken in the classifier's `fast` form; if the classifier itself, in
    fp32, does not confirm that, it attacks it again.
    """

    def waiting(index: Tensor) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor], Tensor | None]]:
        for part in index.split(batch) if len(index) else ():
            inputs, labels = images.batch(part)
            start = _random_start(inputs, part, ball, purpose).to(classifier.device) if purpose else None
            yield part, inputs.to(classifier.device), (labels.to(classifier.device),), start

    for searched, precision in ((fast, fast.precision), (classifier, "fp32")):
        unconfirmed = [index[:0]]
        with searched.evaluating(precision):
            for numbers, found in stream(away_from(searched), waiting(index), ball, Schedule(steps), batch=batch):
                numbers, is_claimed = numbers.cpu(), (found.score < 0).cpu()
                with torch.no_grad(), classifier.evaluating("fp32"):
                    is_broken = classifier(found.images).argmax(1).cpu() != images.labels[numbers]
                is_settled = is_broken | ~is_claimed | (searched is classifier)
                unconfirmed.append(numbers[~is_settled])
                yield numbers[is_settled], is_broken[is_settled]
        index = torch.cat(unconfirmed)


def _random_start(inputs: Tensor, numbers: Tensor, ball: Threat, purpose: tuple[int, str, int]) -> Tensor:
    """The inputs, each moved at random in the ball; an image's start does not depend on the others."""
    seed, *rest = purpose
    draws = (generator(seed, *rest, ball.norm, ball.eps, number) for number in numbers.tolist())
    return torch.cat([one[None] + ball.start(one[None], draw) for one, draw in zip(inputs, draws, strict=True)])


def predictions(
    classifier: Classifier,
    images: Images,
    *,
    batch: int = 500,
    change: Callable[[Tensor], Tensor] = lambda images: images,
) -> Tensor:
    """The predicted class of every image, shape (n,), in fp32, after an optional `change` of the images."""
    found = []
    with torch.no_grad(), classifier.evaluating("fp32"):
        for first in range(0, len(images), batch):
            inputs, _ = images.batch(slice(first, first + batch))
            found.append(classifier(change(inputs).to(classifier.device)).argmax(1).cpu())
    return torch.cat(found)
