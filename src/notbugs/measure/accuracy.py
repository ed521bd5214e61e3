"""Clean and robust accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import check_count, must
from notbugs.measure.statistics import Proportion
from notbugs.measure.unbalanced import Area, areas, balanced, is_rare, is_unbalanced
from notbugs.models.forms import ready
from notbugs.progress import Progress, silent
from notbugs.search import Schedule, stream
from notbugs.search.fit import check_fits
from notbugs.search.objectives import across, away_from
from notbugs.search.steps import Decay
from notbugs.seeds import generator
from notbugs.threat import Threat, threat


class AttackUsed(BaseModel):
    """The attack behind a robust accuracy. Radii and steps are in pixel units, pixels in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["pgd", "autoattack"] = "pgd"
    norm: Literal["l2", "linf"]
    eps: float = Field(ge=0)
    steps: int = Field(ge=1)
    step_size: float | None = Field(ge=0, description="of the first step; null: the attack chooses its own")
    decay: Decay = Field("constant", description="how the step falls to 0")
    restarts: int = Field(ge=1, description="runs from different starts; the first starts at the image itself")
    targeted: int = Field(0, ge=0, description="further runs, towards each of so many most likely wrong classes")
    attacks: tuple[str, ...] = Field((), description="of an ensemble, in order")
    version: str = Field("", description="of the library that attacked; empty: notbugs itself")

    @property
    def threat(self) -> Threat:
        """The threat model."""
        return threat(self.norm, self.eps)


class Accuracy(BaseModel):
    """One accuracy: clean where `attack` is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attack: AttackUsed | None
    share: Proportion
    balanced: Proportion | None = Field(
        None, description="balanced accuracy, where the largest class has over half of the images"
    )
    area: Area | None = Field(None, description="under ROC, where one of two classes has under a fifth of the images")

    @property
    def under(self) -> str:
        """What was done to the images: `clean`, `l2 0.5`, or `l2 0.5, autoattack`."""
        if self.attack is None:
            return "clean"
        by = f", {self.attack.name}" if self.attack.name != "pgd" else ""
        return f"{self.attack.norm} {self.attack.eps:g}{by}"

    def __str__(self) -> str:
        balanced = f", balanced {self.balanced}" if self.balanced else ""
        return f"{self.under}: {self.share}, n={self.share.n}{balanced}{f', {self.area}' if self.area else ''}"


@dataclass(frozen=True)
class Outcome:
    """What became of every image: clean where `attack` is None.

    Attributes
    ----------
    attack : AttackUsed or None
        What was tried.
    survived : Tensor
        Shape (n,), bool: classified correctly, and nothing misclassified was found.
    labels : Tensor, optional
        Shape (n,): the true ones.
    """

    attack: AttackUsed | None
    survived: Tensor
    labels: Tensor | None = None

    @property
    def accuracy(self) -> Accuracy:
        """The share that survived."""
        beside = self.labels is not None and is_unbalanced(self.labels)
        mean = balanced(self.survived, self.labels) if beside and self.labels is not None else None
        return Accuracy(attack=self.attack, share=Proportion.of(self.survived), balanced=mean)


def evaluate(
    classifier: Classifier,
    images: Images,
    *,
    norm: Literal["l2", "linf"] = "l2",
    radii: Sequence[float] = (),
    steps: int = 20,
    restarts: int = 1,
    targeted: int = 0,
    decay: Decay = "linear",
    seed: int = 0,
    batch: int = 250,
    progress: Progress = silent,
) -> list[Accuracy]:
    """Clean accuracy, then robust accuracy at every radius, in rising order.

    An image counts as robust at a radius if it is classified correctly and PGD, over all restarts and targets, found
    no misclassified image within that radius or a smaller one of the list: what is valid at a small radius is valid at
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
        Of PGD. The first run starts at the image, the others at random in the ball.
    targeted : int
        Further runs, from the image, each towards one of so many wrong classes: those with the largest logits of the
        image as it is. They descend the difference of the two logits.
    decay : {"constant", "linear", "cosine"}
        The first step is 2 eps long, and they fall to 0, which finds more with as many gradients than the usual
        steps of 2.5 eps / steps, "constant" (docs/robust-accuracy.md).
    seed : int
        Of the random starts.

    Raises
    ------
    InputError
        If a radius is negative or not a number, a count is below 1, there are fewer wrong classes than `targeted`, or
        the classifier does not fit the images.
    """
    found = outcomes(
        classifier,
        images,
        norm=norm,
        radii=radii,
        steps=steps,
        restarts=restarts,
        targeted=targeted,
        decay=decay,
        seed=seed,
        batch=batch,
        progress=progress,
    )
    return with_areas([outcome.accuracy for outcome in found], classifier, images, batch=batch)


def outcomes(
    classifier: Classifier,
    images: Images,
    *,
    norm: Literal["l2", "linf"] = "l2",
    radii: Sequence[float] = (),
    steps: int = 20,
    restarts: int = 1,
    targeted: int = 0,
    decay: Decay = "linear",
    seed: int = 0,
    batch: int = 250,
    progress: Progress = silent,
) -> list[Outcome]:
    """What became of every image: as `evaluate`, image by image, for tests of two classifiers on the same images."""
    check_count("steps", steps)
    check_count("restarts", restarts)
    check_count("targeted", targeted, low=0)
    threats = [threat(norm, eps) for eps in sorted(set(radii))]
    check_fits(classifier, images)
    clean = torch.cat(list(_logits(classifier, images, batch)))
    alive = clean.argmax(1) == images.labels
    found = [Outcome(None, alive.clone(), images.labels)]
    runs = [_Run((seed, "restart", restart) if restart else None) for restart in range(restarts)]
    runs += [_Run(targets=classes) for classes in _likeliest_wrong(clean, images.labels, targeted)]
    told = 0
    fast = ready(classifier, images.shape, batch=batch)[0] if threats else classifier
    for ball in threats:
        schedule = _schedule(ball, steps, decay)
        for run in runs:
            told += int((~alive).sum())  # nothing is left to do for these
            index = alive.nonzero().flatten()
            for numbers, is_broken in _attacked(classifier, fast, images, index, ball, schedule, batch, run):
                alive[numbers] = ~is_broken
                told += len(numbers)
                progress(told, len(threats) * len(runs) * len(images))
        attack = AttackUsed(
            norm=norm,
            eps=ball.eps,
            steps=steps,
            step_size=schedule.first_length(ball),
            decay=decay,
            restarts=restarts,
            targeted=targeted,
        )
        found.append(Outcome(attack, alive.clone(), images.labels))
    return found


def _schedule(ball: Threat, steps: int, decay: Decay) -> Schedule:
    return Schedule(steps) if decay == "constant" else Schedule(steps, 2 * ball.eps or None, decay=decay)


@dataclass(frozen=True)
class _Run:
    """One run of PGD: from the image, or at random for a `purpose`; from the label or, shape (n,), to `targets`."""

    purpose: tuple[int, str, int] | None = None
    targets: Tensor | None = None


def _likeliest_wrong(logits: Tensor, labels: Tensor, count: int) -> tuple[Tensor, ...]:
    """The wrong classes with the largest logits, from the largest: `count` tensors of shape (n,)."""
    if count >= logits.shape[1]:
        raise must("targeted", f"be below the number of classes, {logits.shape[1]}", count)
    return logits.scatter(1, labels[:, None], -torch.inf).topk(count).indices.unbind(1)


def _attacked(
    classifier: Classifier,
    fast: Classifier,
    images: Images,
    index: Tensor,
    ball: Threat,
    schedule: Schedule,
    batch: int,
    run: _Run,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of the images at `index`, and whether one run of PGD breaks them, judged in fp32.

    An image leaves the search as soon as it is broken in the classifier's `fast` form; if the classifier itself, in
    fp32, does not confirm that, it attacks it again.
    """

    def waiting(index: Tensor) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor | None]]:
        for part in index.split(batch) if len(index) else ():
            inputs, labels = images.batch(part)
            start = _random_start(inputs, part, ball, run.purpose).to(classifier.device) if run.purpose else None
            goals = (labels,) if run.targets is None else (labels, run.targets[part])
            goals = tuple(goal.to(classifier.device) for goal in goals)
            yield part, inputs.to(classifier.device), goals, start

    for searched, precision in ((fast, fast.precision), (classifier, "fp32")):
        objective = away_from(searched) if run.targets is None else across(searched)
        unconfirmed = [index[:0]]
        with searched.evaluating(precision):
            for numbers, found in stream(objective, waiting(index), ball, schedule, batch=batch):
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


def with_areas(
    found: Sequence[Accuracy], classifier: Classifier, images: Images, *, batch: int = 250
) -> list[Accuracy]:
    """The same accuracies, with areas under ROC beside them where one of two classes is rare."""
    if not is_rare(images.labels):
        return list(found)
    threats = [item.attack.threat for item in found if item.attack]
    beside = areas(classifier, images, threats, batch=batch)
    return [item.model_copy(update={"area": area}) for item, area in zip(found, beside, strict=True)]


def predictions(
    classifier: Classifier,
    images: Images,
    *,
    batch: int = 500,
    change: Callable[[Tensor], Tensor] = lambda images: images,
) -> Tensor:
    """The predicted class of every image, shape (n,), in fp32, after an optional `change` of the images."""
    return torch.cat([logits.argmax(1) for logits in _logits(classifier, images, batch, change)])


def _logits(
    classifier: Classifier, images: Images, batch: int, change: Callable[[Tensor], Tensor] = lambda images: images
) -> Iterator[Tensor]:
    for first in range(0, len(images), batch):
        inputs, _ = images.batch(slice(first, first + batch))
        with torch.no_grad(), classifier.evaluating("fp32"):
            yield classifier(change(inputs).to(classifier.device)).cpu()
