"""Signs of masked gradients: a classifier that a gradient-based attack cannot break, though others could.

The checks of Athalye, Carlini & Wagner (2018, section 3.1) and Carlini et al. (2019), each with its rule and its
numbers. A sign is a reason to attack otherwise (`search.backward`), and no proof; no sign is no proof either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import check_count, must
from notbugs.given import checked
from notbugs.measure.accuracy import predictions
from notbugs.measure.statistics import Z95, Proportion
from notbugs.models.execution import ready
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search import Attack, Attacked, PGDSteps, search
from notbugs.search.compatibility import check_fits
from notbugs.search.objectives import away_from, estimated, log_odds
from notbugs.seeds import generator
from notbugs.shapes import Batch, Labels
from notbugs.threat import Threat, check_radii, l2_norm, threat

SignName = Literal[
    "softmaxed outputs",
    "random outputs",
    "vanishing gradients",
    "loss does not fall",
    "accuracy at a huge radius",
    "one step beats many",
    "queries beat gradients",
    "transfer beats gradients",
]
FEW = 0.01
"""Share of images up to which a sign may be chance."""
VANISHED = 1e-10
"""l2 norm of a gradient that other attacks lose: they divide by the norm plus 1e-12 to 1e-8."""
NOISE = 1e-4
"""Largest difference of two passes, in units of the largest logit, that rounding on a GPU makes."""
GROWTH = (0.5, 1.0, 2.0)
"""Radii at which the loss is compared, in units of the threat model's."""


class Sign(Record):
    """One sign of masked gradients.

    Examples
    --------
    >>> signs = nb.measure.masking_signs(classifier, images, nb.L2(0.5), steps=2)
    """

    name: SignName = Field(description="of the sign")
    shown: bool = Field(description="whether it was seen")
    rule: str = Field(description="when the sign is shown")
    numbers: dict[str, Proportion | float] = Field(description="what the rule was applied to")

    def __str__(self) -> str:
        told = (f"{name} {_shown(value)}" for name, value in self.numbers.items())
        return f"{'!' if self.shown else ' '} {self.name}: {'; '.join(told)}"


def _shown(value: Proportion | float) -> str:
    return f"{value}, n={value.n}" if isinstance(value, Proportion) else f"{value:.3g}"


@checked
def masking_signs(
    classifier: Classifier,
    images: Images,
    threat: Threat,
    *,
    other: Classifier | None = None,
    steps: int = 20,
    pairs: int = 5,
    seed: int = 0,
    batch: int = 250,
    progress: Progress = silent,
) -> list[Sign]:
    """Look for signs of masked gradients.

    Parameters
    ----------
    classifier : Classifier
        In evaluation mode.
    images : Images
        With their true labels; a hundred are enough for most signs.
    threat : Threat
        `L2` or `Linf`, in pixel units: at this radius the attacks are compared.
    other : Classifier, optional
        An independent one for the same classes, from which adversarial examples are taken over; without it that sign
        is left out.
    steps : int
        Of PGD from the image, of step size 2.5 eps / steps. The search by queries takes as many.
    pairs : int
        Pairs of queries for each of its steps.
    seed, batch : int
        Of the directions queried; images attacked at once.

    Returns
    -------
    list of Sign
        All of them, shown or not, each with its rule and numbers.

    Raises
    ------
    InputError
        If the radius is 0 or infinite, a count is below 1, or a classifier does not fit the images.

    Examples
    --------
    >>> signs = nb.measure.masking_signs(classifier, images, nb.L2(0.5), steps=2)
    """
    if not 0 < threat.eps < math.inf:
        raise must("threat", "have a radius above 0 and finite", threat)
    check_radii([threat], images.shape)
    for name, value in (("steps", steps), ("pairs", pairs), ("batch", batch)):
        check_count(name, value)
    for one in filter(None, (classifier, other)):
        check_fits(one, images, may_be_random=True)
    case = _Case(classifier, images, threat, other, steps, pairs, seed, batch)
    looks = [look for look in SIGNS if other or look is not _transfer]
    signs = []
    for done, look in enumerate(looks, start=1):
        signs.append(look(case))
        progress(done, len(looks), signs[-1].name)
    return signs


@dataclass(frozen=True)
class _Case:
    """What a sign is looked for in."""

    classifier: Classifier
    images: Images
    threat: Threat
    other: Classifier | None
    steps: int
    pairs: int
    seed: int
    batch: int
    _known: dict[tuple[float, int], Tensor] = field(default_factory=dict)

    @cached_property
    def correct(self) -> Tensor:
        """Which images are classified correctly as they are, shape (n,)."""
        return predictions(self.classifier, self.images, batch=self.batch) == self.images.labels

    @cached_property
    def fast(self) -> Classifier:
        return ready(self.classifier, self.images.shape, batch=self.batch)[0]

    def survived(self, eps: float, steps: int) -> Tensor:
        """Which images survive PGD, shape (n,)."""
        if (eps, steps) not in self._known:
            ball = threat(self.threat.norm, eps)
            run = Attacked(self.classifier, self.images, [ball], batch=self.batch)
            run.by(Attack(name="pgd", steps=steps))  # a decaying first step of 2 eps would be the one-step attack, too
            self._known[eps, steps] = run.radius > eps
        return self._known[eps, steps]

    @property
    def white_box(self) -> Tensor:
        """Which images survive PGD at the radius of the threat model."""
        return self.survived(self.threat.eps, self.steps)

    def batches(self) -> Iterator[tuple[Batch, Labels]]:
        for first in range(0, len(self.images), self.batch):
            images, labels = self.images.batch(slice(first, first + self.batch))
            yield images.to(self.classifier.device), labels.to(self.classifier.device)

    def each(self, value: Callable[[Batch, Labels], Tensor]) -> Tensor:
        """The value of every image, on the CPU; the classifier in evaluation mode and fp32."""
        with self.classifier.evaluating("fp32"):
            return torch.cat([value(images, labels).detach().cpu() for images, labels in self.batches()])

    def logits(self) -> Tensor:
        with torch.no_grad():
            return self.each(lambda images, _: self.classifier(images))


def _softmaxed(case: _Case) -> Sign:
    logits = case.logits()
    is_one = (logits.sum(1) - 1).abs() < NOISE
    share = Proportion.of((logits >= 0).all(1) & is_one)
    return Sign(
        name="softmaxed outputs",
        shown=share.value == 1,
        rule="for every image the outputs are at or above 0 and sum to 1: probabilities in place of logits",
        numbers={"probabilities": share},
    )


def _random(case: _Case) -> Sign:
    first, second = case.logits(), case.logits()
    largest = first.abs().amax(1).clamp_min(torch.finfo(first.dtype).tiny)
    differs = (first - second).abs().amax(1) > NOISE * largest
    return Sign(
        name="random outputs",
        shown=bool(differs.any()),
        rule=f"two passes of the same images differ by more than {NOISE:g} of the largest logit",
        numbers={
            "differing": Proportion.of(differs),
            "changed class": Proportion.of(first.argmax(1) != second.argmax(1)),
        },
    )


def _vanishing(case: _Case) -> Sign:
    def norm(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        def of(images: Batch, labels: Labels) -> Tensor:
            leaf = images.clone().requires_grad_()
            with torch.enable_grad():
                loss(case.classifier(leaf), labels).sum().backward(inputs=[leaf])
            assert leaf.grad is not None  # `check_fits` has seen one
            return l2_norm(leaf.grad)

        return case.each(of)

    entropy = Proportion.of(norm(lambda logits, labels: cross_entropy(logits, labels, reduction="none")) < VANISHED)
    odds = Proportion.of(norm(log_odds) < VANISHED)
    return Sign(
        name="vanishing gradients",
        shown=max(entropy.value, odds.value) > FEW,
        rule=f"for more than {FEW:.0%} of the images, the gradient of the cross-entropy, or of the log-odds that "
        f"notbugs descends instead, is shorter than {VANISHED:g} (l2)",
        numbers={"of the cross-entropy": entropy, "of the log-odds": odds},
    )


def _loss_falls(case: _Case) -> Sign:
    """Each radius is searched on its own: taking over what was found at a smaller one would hide the sign."""
    losses = [_loss(case, share * case.threat.eps).double() for share in GROWTH]
    numbers: dict[str, Proportion | float] = {}
    least = math.inf
    for (smaller, before), (larger, after) in pairwise(zip(GROWTH, losses, strict=True)):
        fall = before - after
        mean, half = float(fall.mean()), Z95 * float(fall.std(correction=0)) / math.sqrt(len(fall))
        numbers[f"least fall from {smaller:g} to {larger:g} eps"] = mean - half
        numbers[f"mean fall from {smaller:g} to {larger:g} eps"] = mean
        least = min(least, mean - half)
    return Sign(
        name="loss does not fall",
        shown=least <= 0,
        rule="the log-odds of the label, as low as PGD brings them, do not fall from radius to radius: the lower end "
        "of the 95 % interval of their mean fall is at or below 0",
        numbers=numbers,
    )


def _loss(case: _Case, eps: float) -> Tensor:
    """The log-odds of the label at what PGD finds, judged in fp32; shape (n,)."""
    ball, parts = threat(case.threat.norm, eps), []
    for images, labels in case.batches():
        with case.fast.evaluating():
            result = search(away_from(case.fast), images, (labels,), ball, PGDSteps(case.steps))
        with torch.no_grad(), case.classifier.evaluating("fp32"):
            parts.append(log_odds(case.classifier(result.images), labels).cpu())
    return torch.cat(parts)


def _huge(case: _Case) -> Sign:
    """At the least radius that has plain grey in the ball around every image."""
    eps = 0.5 * (math.sqrt(math.prod(case.images.shape)) if case.threat.norm == "l2" else 1.0)
    share = Proportion.of(case.survived(eps, case.steps))
    return Sign(
        name="accuracy at a huge radius",
        shown=share.value > FEW,
        rule=f"more than {FEW:.0%} of the images survive PGD at a radius at which each could become plain grey",
        numbers={"radius": eps, "robust accuracy": share},
    )


def _one_step(case: _Case) -> Sign:
    return _compared(case, "one step beats many", "one step", case.survived(case.threat.eps, 1))


def _queries(case: _Case) -> Sign:
    """The same search, with gradients estimated from queries."""
    survived, steps = [], PGDSteps(case.steps)
    with case.classifier.evaluating("fp32"):
        for images, labels in case.batches():
            draw = generator(case.seed, "queries")
            blind = estimated(away_from(case.classifier), case.threat, case.pairs, draw)
            result = search(blind, images, (labels,), case.threat, steps)
            with torch.no_grad():
                survived.append((case.classifier(result.images).argmax(1) == labels).cpu())
    return _compared(case, "queries beat gradients", "queries", torch.cat(survived))


def _transfer(case: _Case) -> Sign:
    assert case.other is not None
    survived = []
    fast = ready(case.other, case.images.shape, batch=case.batch)[0]
    for images, labels in case.batches():
        with fast.evaluating():
            result = search(away_from(fast), images, (labels,), case.threat, PGDSteps(case.steps), keep="last")
        with torch.no_grad(), case.classifier.evaluating("fp32"):
            survived.append((case.classifier(result.images).argmax(1) == labels).cpu())
    return _compared(case, "transfer beats gradients", "transfer", torch.cat(survived))


def _compared(case: _Case, name: SignName, weak: str, survived: Tensor) -> Sign:
    """A weaker attack, of whose outcome `survived` tells, beside PGD with many steps."""
    survived = survived & case.correct
    alone = Proportion.of(case.white_box & ~survived)
    return Sign(
        name=name,
        shown=alone.value > FEW,
        rule=f"more than {FEW:.0%} of the images fall to the weaker attack ({weak}) and not to PGD",
        numbers={
            "robust accuracy, PGD": Proportion.of(case.white_box),
            f"robust accuracy, {weak}": Proportion.of(survived),
            "to the weaker alone": alone,
        },
    )


SIGNS = (_softmaxed, _random, _vanishing, _loss_falls, _huge, _one_step, _queries, _transfer)
