"""Usefulness and robust usefulness of the features of a study's classifiers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from notbugs.classifier import Classifier
from notbugs.measure import FeatureMap, UsefulnessSummary, layer, logits, penultimate, usefulness
from notbugs.progress import Progress
from notbugs.study.asked import Usefulness
from notbugs.study.lab import Lab
from notbugs.threat import Threat, threat

DEFAULT_EPS = {"l2": 0.5, "linf": 8 / 255}


class UsefulnessMeasured(BaseModel):
    """The features of some classifiers, sorted by usefulness and robust usefulness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifiers: dict[str, UsefulnessSummary] = Field(description="by the classifier's name")
    test_set: str


def measure(lab: Lab) -> UsefulnessMeasured:
    """Measure each classifier that the recipe names, standardising on training images."""
    asked = lab.recipe.instruments.usefulness
    found = {name: _summary(lab, name, asked) for name in asked.classifiers}
    return UsefulnessMeasured(classifiers=found, test_set=lab.data.test_name)


def _summary(lab: Lab, name: str, asked: Usefulness) -> UsefulnessSummary:
    def work(progress: Progress) -> dict[str, Any]:
        found = usefulness(
            _features(lab.classifier(name), asked.features),
            lab.data.train,
            lab.data.test,
            _threat(lab, asked),
            classes=len(lab.data.classes),
            steps=asked.steps,
            images=min(asked.images, len(lab.data.test)),
            min_rho=asked.min_rho,
            seed=lab.seed,
            progress=progress,
        )
        return found.summary().model_dump()

    return UsefulnessSummary(**lab.stage(f"usefulness-{name}", f"sort the features of {name}", work))


def _features(classifier: Classifier, which: str) -> FeatureMap:
    made = {"penultimate": penultimate, "logits": logits}
    return made[which](classifier) if which in made else layer(classifier, which)


def _threat(lab: Lab, asked: Usefulness) -> Threat:
    """The ball that the recipe asks for, or around the middle of its evaluation."""
    evaluation = lab.recipe.evaluation
    eps = asked.eps
    if eps is None:
        radii = sorted(evaluation.radii) if asked.norm == evaluation.norm else []
        eps = radii[len(radii) // 2] if radii else DEFAULT_EPS[asked.norm]
    return threat(asked.norm, eps)
