"""What is measured of a classifier of several labels: each label as a binary classifier, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import must
from notbugs.formats import one_line
from notbugs.measure.accuracy import Accuracy, AttackUsed, outcomes
from notbugs.measure.statistics import Proportion
from notbugs.measure.unbalanced import Area, areas, balanced
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search.compatibility import check_fits


class LabelAccuracies(Record):
    """Of one label: whether it is there, clean first, then under the attack at every radius."""

    label: str
    having: Proportion = Field(description="images that have it")
    accuracies: list[Accuracy]

    def __str__(self) -> str:
        return f"{one_line(self.label)}, on {self.having} of the images\n" + "\n".join(
            f"  {one}" for one in self.accuracies
        )


class SeveralAccuracies(Record):
    """Of several labels, each on its own, and of all.

    `every` is the share of images all of whose labels are right: under attack, of which no label could be changed, each
    attacked on its own. `mean` is the mean of the labels' accuracies; its interval is the mean of theirs, which is wide
    enough however the labels hang together.
    """

    labels: list[LabelAccuracies]
    every: list[Accuracy]
    mean: list[Accuracy]

    def __iter__(self) -> Iterator[LabelAccuracies | str]:  # pyrefly: ignore
        """What a console says, item by item."""
        yield from self.labels
        for about, accuracies in (("all labels right", self.every), ("mean over labels", self.mean)):
            yield f"{about}\n" + "\n".join(f"  {one}" for one in accuracies)


def evaluate_several(
    classifier: Classifier,
    images: Images,
    names: Sequence[str],
    *,
    batch: int = 250,
    progress: Progress = silent,
    **how: Any,
) -> SeveralAccuracies:
    """Accuracy, balanced accuracy and area under ROC of every label, clean and robust, and of all labels together.

    A classifier of several labels is as many binary classifiers that share a network, and each is attacked as one
    (`Classifier.label`): the attack on one label does not care what becomes of the others.

    Parameters
    ----------
    classifier : Classifier
        Gives a logit, or a sigmoid, for each label.
    images : Images
        With labels of shape (image, label).
    names : sequence of str
        Of the labels.
    batch : int
        Images attacked at once.
    how
        Of `outcomes`: norm, radii and the attack's settings.

    Raises
    ------
    InputError
        If images have one label, or names or the classifier do not fit them.
    """
    check_several(classifier, images)
    if len(names) != images.labels.shape[1]:
        raise must("names", f"be {images.labels.shape[1]}, one for each label", len(names))
    labels, kept = [], []
    for number, name in enumerate(names):
        view, one = classifier.label(number), images.label(number)

        def told(done: int, total: int, note: str = "", number: int = number) -> None:
            progress(number * total + done, len(names) * total, note)

        kept.append(outcomes(view, one, batch=batch, progress=told, **how))
        accuracies = [item.accuracy for item in kept[-1]]
        threats = [item.attack.threat for item in accuracies if item.attack]
        both = 0 < int(one.labels.sum()) < len(one)
        beside: Sequence[Area | None] = areas(view, one, threats, batch=batch) if both else [None] * len(accuracies)
        accuracies = [
            accuracy.model_copy(update={"balanced": balanced(outcome.survived, one.labels), "area": area})
            for accuracy, outcome, area in zip(accuracies, kept[-1], beside, strict=True)
        ]
        labels.append(LabelAccuracies(label=name, having=Proportion.of(one.labels == 1), accuracies=accuracies))
        progress(number + 1, len(names), name)
    every = [torch.stack([one.survived for one in same]).all(0) for same in zip(*kept, strict=True)]
    attacks = [item.attack for item in kept[0]]
    return SeveralAccuracies(
        labels=labels,
        every=[Accuracy(attack=attack, share=Proportion.of(all_)) for attack, all_ in zip(attacks, every, strict=True)],
        mean=[_mean(attack, [one.accuracies[place].share for one in labels]) for place, attack in enumerate(attacks)],
    )


def check_several(classifier: Classifier, images: Images) -> None:
    """Refuse a classifier that has not one logit for each of the images' labels.

    Raises
    ------
    InputError
        If so, or images have one label; and as `check_fits`.
    """
    if not images.has_several:
        raise must("labels", "be several for each image, of shape (image, label)", tuple(images.labels.shape))
    check_fits(classifier, replace(images, labels=torch.zeros(len(images), dtype=torch.int64)), images.labels.shape[1])
    check_fits(classifier.label(0), images.label(0), 2)


def _mean(attack: AttackUsed | None, shares: list[Proportion]) -> Accuracy:
    value, low, high = (sum(getattr(one, end) for one in shares) / len(shares) for end in ("value", "low", "high"))
    return Accuracy(attack=attack, share=Proportion(value=value, low=low, high=high, n=shares[0].n))
