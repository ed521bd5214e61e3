"""The audit of a model: what is left of its accuracy when only some kinds of its features are used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Data, Images
from notbugs.errors import check_count, check_number, must
from notbugs.files import write_tensors
from notbugs.given import checked
from notbugs.measure._usefulness import usefulness
from notbugs.measure.accuracy import Accuracy, Score, outcomes, with_areas
from notbugs.measure.audit_result import (
    TITLES,
    Audit,
    Group,
    GroupName,
    Measured,
    Sizes,
    Verdict,
    by_robustness,
    verdict,
)
from notbugs.measure.feature_visualization import Driver, drive
from notbugs.measure.features import feature_values, penultimate
from notbugs.measure.linear_models import refit_head
from notbugs.measure.spectrum import SpectrumRow, UsefulnessSummary
from notbugs.measure.unbalanced import is_unbalanced
from notbugs.progress import Progress, Stage, at_once
from notbugs.search import STRONG, Attack
from notbugs.search.compatibility import check_fits
from notbugs.seeds import generator
from notbugs.threat import Threat, check_radii

RADII = (0.25, 0.5, 1.0, 2.0)
"""At which robust accuracy is measured, in radii of the threat."""
SHOWN = 5
"""Features of each kind whose pictures are shown."""
PARTS = 6
"""Stages: the sorting of features, the model, three heads, the pictures."""


@checked
def audit(
    classifier: Classifier,
    data: Data,
    threat: Threat,
    *,
    images: int = 50,
    measured: int = 1000,
    fit_images: int = 20_000,
    attack: str | Attack = STRONG,
    seed: int = 0,
    pictures: Path | None = None,
    stage: Stage = at_once,
    **settings: Any,
) -> Audit:
    """How much of a classifier's accuracy its robustly useful features carry, and how much its non-robust ones.

    Every penultimate feature is sorted by `usefulness`. A linear head is refitted, on training images, on all features,
    on the robustly useful alone and on the useful non-robust alone; clean and robust accuracy of the classifier and of
    the three are measured on test images that did not sort the features. Where the largest class has over half of these
    images, every class counts the same: in the refitted heads, and in the verdict, which is of balanced accuracies.

    Parameters
    ----------
    classifier : Classifier
        Left as it is.
    data : Data
        Training and test images with their true labels.
    threat : Threat
        Which changes of an image are valid, in pixel units.
    images : int
        Test images that are searched to sort the features: two searches for each and every feature.
    measured : int
        Test images that measure accuracies, and as many others that sort the features; half of the test images each,
        where there are fewer.
    fit_images : int
        Training images at most, drawn at random, for means and heads.
    attack : str or Attack
        As `evaluate` takes it.
    seed : int
        Of draws and random starts.
    pictures : Path, optional
        A safetensors file to write the pictures of `drivers` to.
    stage : Stage
        Runs the parts of the work, and may keep what they gave.
    **settings
        Of the attack, in place of its own, as `evaluate` takes them.

    Raises
    ------
    InputError
        Before any work: if the radius is not above 0 and finite, there are fewer than four test images, or the
        classifier does not fit the images or has no features.

    Examples
    --------
    >>> found = nb.audit(classifier, data, nb.L2(0.5), images=4, measured=20, fit_images=100, attack='pgd')
    >>> len(found.verdict.sentences)
    3
    """
    check_radii([threat], data.train.shape)
    check_number("eps", threat.eps, open_low=True)
    attack = Attack.named(attack, **settings)
    for name, value in (("images", images), ("measured", measured), ("fit_images", fit_images)):
        check_count(name, value, low=2)
    check_fits(classifier, data.train, len(data.classes), features=True)
    train = data.train.sample(fit_images, seed, "audit training images")
    sorting, measuring = _parts(data.test, measured, seed)
    work = _Work(classifier, replace(data, train=train), sorting, measuring, threat, attack, seed, stage)
    features = work.usefulness(min(images, len(sorting)))
    model, groups = work.accuracies("model", classifier), work.groups(features.spectrum)
    score: Score = "balanced accuracy" if work.is_unbalanced else "accuracy"
    return Audit(
        norm=threat.norm,
        eps=threat.eps,
        seed=seed,
        classes=len(data.classes),
        sizes=Sizes(fitted=len(train), sorted=len(sorting), measured=len(measuring)),
        score=score,
        guessing=work.guessing,
        model=model,
        groups=groups,
        usefulness=features,
        drivers=work.drivers(by_robustness(features), pictures),
        verdict=judge(model, groups, threat, work.guessing, score),
    )


@dataclass
class _Work:
    """The parts of an audit, each in a stage; what they share is made when it is first needed."""

    classifier: Classifier
    data: Data
    sorting: Tensor
    measuring: Tensor
    threat: Threat
    attack: Attack
    seed: int
    stage: Stage

    @property
    def is_unbalanced(self) -> bool:
        """Whether the largest class has over half of the images that measure accuracies."""
        return is_unbalanced(self.data.test.labels[self.measuring])

    @property
    def guessing(self) -> float:
        """What naming one class scores."""
        labels = self.data.test.labels
        if self.is_unbalanced:
            return 1 / len(labels[self.measuring].unique())
        return float(torch.bincount(labels).max()) / len(labels)

    @cached_property
    def features(self) -> Tensor:
        """Of the training images."""
        return feature_values(penultimate(self.classifier), self.data.train)

    def usefulness(self, searched: int) -> UsefulnessSummary:
        """Every feature, sorted."""

        def work(progress: Progress) -> UsefulnessSummary:
            measured = usefulness(
                self.classifier,
                self.data.train,
                self.data.test.subset(self.sorting),
                self.threat,
                classes=len(self.data.classes),
                images=searched,
                seed=self.seed,
                progress=progress,
            )
            return measured.summary()

        return self.stage("usefulness", "sort the features", work, kind=UsefulnessSummary)

    def accuracies(self, name: str, classifier: Classifier) -> list[Accuracy]:
        """Clean, and under the attack at every radius."""

        def work(progress: Progress) -> list[Accuracy]:
            return self._evaluated(classifier, progress)

        return self.stage(f"accuracy-{name}", f"attack the {name}", work, kind=list[Accuracy])

    def groups(self, spectrum: list[SpectrumRow]) -> list[Group]:
        """Heads refitted on all features and on each kind."""
        kinds = [row.kind for row in spectrum]
        chosen: dict[GroupName, Tensor] = {"all": torch.ones(len(kinds), dtype=torch.bool)}
        for wanted in ("robust", "nonrobust"):
            chosen[wanted] = torch.tensor([kind == wanted for kind in kinds])
        return [self._group(name, mask) for name, mask in chosen.items()]

    def _group(self, name: GroupName, chosen: Tensor) -> Group:
        def work(progress: Progress) -> Group:
            fit = refit_head(
                self.classifier,
                self.data.train,
                chosen,
                classes=len(self.data.classes),
                features=self.features,
                balanced=self.is_unbalanced,
                seed=self.seed,
            )
            accuracies = self._evaluated(fit.classifier, progress, doubted=False)
            return Group(name=name, features=fit.features, strength=fit.strength, accuracies=accuracies)

        return self.stage(f"head-{name}", f"{TITLES[name]} alone", work, kind=Group)

    def _evaluated(self, classifier: Classifier, progress: Progress, *, doubted: bool = True) -> list[Accuracy]:
        images = self.data.test.subset(self.measuring)
        whole = self.threat.whole(images.shape)
        measured = outcomes(
            classifier,
            images,
            [replace(self.threat, eps=radius) for share in RADII if (radius := share * self.threat.eps) <= whole],
            attack=self.attack,
            doubted=doubted,
            seed=self.seed,
            progress=progress,
        )
        return with_areas([outcome.accuracy for outcome in measured], classifier, images)

    def drivers(self, spectrum: list[SpectrumRow], pictures: Path | None) -> list[Driver]:
        """What drives the most robust features and the least robust of the useful ones."""
        robust = [row.feature for row in spectrum if row.kind == "robust"]
        nonrobust = [row.feature for row in reversed(spectrum) if row.kind == "nonrobust"]
        chosen = robust[:SHOWN] + nonrobust[:SHOWN]

        def work(progress: Progress) -> list[Driver]:
            images = self.data.test.subset(self.measuring)
            mean, std = self.features.mean(0), self.features.std(0, correction=0)
            drivers, tensors = drive(self.classifier, images, chosen, self.threat, mean=mean, std=std)
            if pictures:
                write_tensors(pictures, tensors)
            return [self._numbered(driver) for driver in drivers]

        return self.stage("drivers", "what drives them", work, kind=list[Driver]) if chosen else []

    def _numbered(self, driver: Driver) -> Driver:
        """With the numbers that its images have among all test images."""
        numbers = self.measuring.tolist()
        top = [numbers[place] for place in driver.top]
        return driver.model_copy(update={"top": top, "start": numbers[driver.start]})


def judge(
    model: list[Accuracy], groups: list[Group], threat: Threat, guessing: float, score: Score = "accuracy"
) -> Verdict:
    """The verdict on accuracies clean and at the threat's radius, or on balanced ones."""
    by_name: dict[str, Measured] = {
        group.name: _measured(group.features, group.accuracies, threat.eps, score) for group in groups
    }
    return verdict(
        _measured(by_name["all"].features, model, threat.eps, score),
        by_name["all"],
        by_name["robust"],
        by_name["nonrobust"],
        guessing=guessing,
        threat=f"{threat.norm} {threat.eps:g}",
        score=score,
    )


def _measured(features: int, accuracies: list[Accuracy], eps: float, score: Score) -> Measured:
    attacked = next(item for item in accuracies if item.attack and item.attack.eps == eps)
    return Measured(features=features, clean=accuracies[0].by(score), attacked=attacked.by(score))


def _parts(images: Images, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of two samples of the test images without a common one, or group, each in the order of the data.

    They are equally large where images are of no groups.
    """
    if len(images) < 4:
        raise must("data", "have at least four test images", len(images))
    count = min(most, len(images) // 2)
    if images.groups is None:  # the halves of older versions, whose audits go on
        order = torch.randperm(len(images), generator=generator(seed, "audit test images"))
        return order[:count].sort().values, order[count : 2 * count].sort().values
    first, others = images.divided(count, seed, "audit test images")
    drawn = torch.randperm(len(others), generator=generator(seed, "audit test images, measured"))
    return first, others[drawn[:count]].sort().values
