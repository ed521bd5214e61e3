"""The audit of a model: what is left of its accuracy when only some kinds of its features may speak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.data import Data
from notbugs.errors import check_count, check_number, must
from notbugs.files import write_tensors
from notbugs.measure.accuracy import Accuracy, evaluate
from notbugs.measure.drivers import Driver, drive
from notbugs.measure.heads import features_of, refit_head
from notbugs.measure.usefulness import Usefulness, usefulness
from notbugs.measure.verdict import Measured, Verdict, verdict
from notbugs.progress import Progress, silent
from notbugs.search.fit import check_fits
from notbugs.seeds import generator
from notbugs.threat import Norm, Threat

RADII = (0.25, 0.5, 1.0, 2.0)
"""At which robust accuracy is measured, in radii of the threat."""
SHOWN = 5
"""Features of each kind whose pictures are shown."""
PARTS = 6
"""Stages: the sorting of features, the model, three heads, the pictures."""

Stage = Callable[[str, str, Callable[[Progress], Any]], Any]
"""From a name, a title and some work to the JSON value of that work: made now, or kept from before."""

GroupName = Literal["all", "robust", "nonrobust"]
TITLES: dict[GroupName, str] = {
    "all": "all features",
    "robust": "robustly useful features",
    "nonrobust": "useful non-robust features",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeatureUse(_Model):
    """One feature, for the class that decides its kind."""

    feature: int
    label: int = Field(description="the class")
    kind: Literal["robust", "nonrobust", "useless"]
    rho: float = Field(description="usefulness: E[y f(x)], y = 1 for the class and -1 for the others")
    rho_low: float
    rho_high: float
    gamma: float = Field(description="robust usefulness: E[min y f(x + d)] over the threat model; an upper bound")
    gamma_low: float
    gamma_high: float


class Group(_Model):
    """A linear head refitted on some features, on training images."""

    name: GroupName
    features: int = Field(description="how many may speak")
    strength: float = Field(description="weight of the l2 penalty, on features of unit variance")
    accuracies: list[Accuracy] = Field(description="clean, then under PGD at every radius")


class Sizes(_Model):
    """How many images decided what; the first three are different images."""

    fitted: int = Field(description="training images: mean and standard deviation of features, and heads")
    sorted: int = Field(description="test images on which features were sorted")
    measured: int = Field(description="test images on which accuracies were measured")


class Audit(_Model):
    """The whole audit."""

    norm: Norm
    eps: float = Field(description="radius of the threat, pixel units, pixels in [0, 1]")
    seed: int
    classes: int
    sizes: Sizes
    steps: int = Field(description="of the search for gamma")
    guessing: float = Field(description="accuracy of naming the most frequent class: its share of all test images")
    model: list[Accuracy] = Field(description="of the model as it is: clean, then under PGD at every radius")
    groups: list[Group]
    spectrum: list[FeatureUse] = Field(description="every feature, the most robust first")
    drivers: list[Driver] = Field(description="what drives the most robust and the least robust useful features")
    verdict: Verdict

    @property
    def threat_name(self) -> str:
        """As sentences have it: `l2 0.5`."""
        return f"{self.norm} {self.eps:g}"

    def group(self, name: GroupName) -> Group:
        """The group of this name."""
        return next(group for group in self.groups if group.name == name)

    def count(self, kind: str) -> int:
        """How many features are of a kind."""
        return sum(row.kind == kind for row in self.spectrum)


def at_once(name: str, title: str, work: Callable[[Progress], Any]) -> Any:
    """A `Stage` that keeps nothing."""
    return work(silent)


def audit(
    classifier: Classifier,
    data: Data,
    threat: Threat,
    *,
    images: int = 250,
    measured: int = 1000,
    fit_images: int = 20_000,
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
    pictures: Path | None = None,
    stage: Stage = at_once,
) -> Audit:
    """How much of a classifier's accuracy its robustly useful features carry, and how much its non-robust ones.

    Every penultimate feature is sorted by `usefulness` into robustly useful, useful non-robust and not useful. A linear
    head is refitted, on training images, on all features, on the robustly useful alone and on the useful non-robust
    alone; clean and robust accuracy of the classifier and of the three are measured on test images that did not sort
    the features.

    Parameters
    ----------
    classifier : Classifier
        Left as it is.
    data : Data
        Training and test images with their true labels.
    threat : Threat
        Which changes of an image are valid, in pixel units.
    images : int
        Test images that sort the features; half of the test images where there are not twice as many.
    measured : int
        Other test images at most that measure accuracies.
    fit_images : int
        Training images at most, drawn at random, for means and heads.
    steps, restarts : int
        Of the searches; robust accuracy with step size 2.5 eps / steps.
    seed : int
        Of draws and random starts.
    pictures : Path, optional
        A safetensors file to write the pictures of `drivers` to.
    stage : Stage
        Runs the parts of the work, and may keep what they gave.

    Raises
    ------
    InputError
        Before any work: if the radius is not above 0 and finite, there are fewer than two test images, or the
        classifier does not fit the images or has no features.
    """
    check_number("eps", threat.eps, open_low=True)
    counts = {"images": images, "measured": measured, "steps": steps, "restarts": restarts}
    for name, value in counts.items():
        check_count(name, value)
    check_count("fit_images", fit_images, low=2)
    check_fits(classifier, data.train, len(data.classes))
    train = data.train.sample(fit_images, seed, "audit training images")
    sorting, measuring = _parts(len(data.test), images, measured, seed)
    work = _Work(classifier, replace(data, train=train), sorting, measuring, threat, steps, restarts, seed, stage)
    spectrum = work.spectrum()
    model, groups = work.accuracies("model", classifier), work.groups(spectrum)
    guessing = float(torch.bincount(data.test.labels).max()) / len(data.test)
    return Audit(
        norm=threat.norm,
        eps=threat.eps,
        seed=seed,
        classes=len(data.classes),
        sizes=Sizes(fitted=len(train), sorted=len(sorting), measured=len(measuring)),
        steps=steps,
        guessing=guessing,
        model=model,
        groups=groups,
        spectrum=spectrum,
        drivers=work.drivers(spectrum, pictures),
        verdict=judge(model, groups, threat, guessing, len(spectrum)),
    )


@dataclass
class _Work:
    """The parts of an audit, each in a stage; what they share is made when it is first needed."""

    classifier: Classifier
    data: Data
    sorting: Tensor
    measuring: Tensor
    threat: Threat
    steps: int
    restarts: int
    seed: int
    stage: Stage

    @cached_property
    def features(self) -> Tensor:
        """Of the training images."""
        return features_of(self.classifier, self.data.train)

    def spectrum(self) -> list[FeatureUse]:
        """Every feature, the most robust first."""

        def work(progress: Progress) -> list[dict[str, Any]]:
            images = self.data.test.subset(self.sorting)
            how: dict[str, Any] = {"steps": self.steps, "seed": self.seed, "progress": progress}
            found = usefulness(self.classifier, self.data.train, images, self.threat, **how)
            return [row.model_dump() for row in _rows(found)]

        return [FeatureUse(**row) for row in self.stage("usefulness", "sort the features", work)]

    def accuracies(self, name: str, classifier: Classifier) -> list[Accuracy]:
        """Clean, and under the attack at every radius."""

        def work(progress: Progress) -> list[dict[str, Any]]:
            return [found.model_dump() for found in self._evaluated(classifier, progress)]

        return [Accuracy(**found) for found in self.stage(f"accuracy-{name}", f"attack the {name}", work)]

    def groups(self, spectrum: list[FeatureUse]) -> list[Group]:
        """Heads refitted on all features and on each kind."""
        kinds = {row.feature: row.kind for row in spectrum}
        chosen: dict[GroupName, Tensor] = {"all": torch.ones(len(kinds), dtype=torch.bool)}
        for kind in ("robust", "nonrobust"):
            chosen[kind] = torch.tensor([kinds[number] == kind for number in range(len(kinds))])
        return [self._group(name, mask) for name, mask in chosen.items()]

    def _group(self, name: GroupName, chosen: Tensor) -> Group:
        def work(progress: Progress) -> dict[str, Any]:
            labels, classes = self.data.train.labels, len(self.data.classes)
            fit = refit_head(self.classifier, self.features, labels, chosen, classes=classes, seed=self.seed)
            found = self._evaluated(fit.classifier, progress)
            return Group(name=name, features=fit.features, strength=fit.strength, accuracies=found).model_dump()

        return Group(**self.stage(f"head-{name}", f"{TITLES[name]} alone", work))

    def _evaluated(self, classifier: Classifier, progress: Progress) -> list[Accuracy]:
        return evaluate(
            classifier,
            self.data.test.subset(self.measuring),
            norm=self.threat.norm,
            radii=[share * self.threat.eps for share in RADII],
            steps=self.steps,
            restarts=self.restarts,
            seed=self.seed,
            progress=progress,
        )

    def drivers(self, spectrum: list[FeatureUse], pictures: Path | None) -> list[Driver]:
        """What drives the most robust features and the least robust of the useful ones."""
        robust = [row.feature for row in spectrum if row.kind == "robust"]
        nonrobust = [row.feature for row in reversed(spectrum) if row.kind == "nonrobust"]
        chosen = robust[:SHOWN] + nonrobust[:SHOWN]

        def work(progress: Progress) -> list[dict[str, Any]]:
            images = self.data.test.subset(self.measuring)
            mean, std = self.features.mean(0), self.features.std(0, correction=0)
            found, tensors = drive(self.classifier, images, chosen, self.threat, mean=mean, std=std)
            if pictures:
                write_tensors(pictures, tensors)
            return [self._numbered(driver).model_dump() for driver in found]

        return [Driver(**driver) for driver in self.stage("drivers", "what drives them", work)] if chosen else []

    def _numbered(self, driver: Driver) -> Driver:
        """With the numbers that its images have among all test images."""
        numbers = self.measuring.tolist()
        top = [numbers[place] for place in driver.top]
        return driver.model_copy(update={"top": top, "start": numbers[driver.start]})


def judge(model: list[Accuracy], groups: list[Group], threat: Threat, guessing: float, features: int) -> Verdict:
    """The verdict on accuracies clean and at the threat's radius."""
    by_name = {group.name: _measured(group.features, group.accuracies, threat.eps) for group in groups}
    return verdict(
        _measured(features, model, threat.eps),
        by_name["all"],
        by_name["robust"],
        by_name["nonrobust"],
        guessing=guessing,
        threat=f"{threat.norm} {threat.eps:g}",
    )


def _measured(features: int, found: list[Accuracy], eps: float) -> Measured:
    attacked = next(item for item in found if item.attack and item.attack.eps == eps)
    return Measured(features=features, clean=found[0].share, attacked=attacked.share)


def _parts(total: int, sorting: int, measured: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of two samples of the test images without a common one, each in the order of the data."""
    if total < 2:
        raise must("data", "have at least two test images", total)
    first = min(sorting, total // 2)
    order = torch.randperm(total, generator=generator(seed, "audit test images"))
    return order[:first].sort().values, order[first : first + measured].sort().values


def _rows(found: Usefulness) -> list[FeatureUse]:
    """Every feature for the class that decides its kind, the most robust first."""
    rows = [_row(found, number) for number in range(len(found.rho))]
    return sorted(rows, key=lambda row: -row.gamma)


def _row(found: Usefulness, number: int) -> FeatureUse:
    """A robust feature for the class where it is most robust, another where it is most useful."""
    kind = "robust" if found.robust[number] else "nonrobust" if found.nonrobust[number] else "useless"
    label = int((found.gamma if kind == "robust" else found.rho)[number].argmax())
    names = ("rho", "rho_low", "rho_high", "gamma", "gamma_low", "gamma_high")
    values = {name: float(getattr(found, name)[number, label]) for name in names}
    return FeatureUse(feature=number, label=label, kind=kind, **values)
