"""Usefulness and robust usefulness of the features of a study's classifiers."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from notbugs.classifier import Classifier
from notbugs.measure import (
    AttackUsed,
    FeatureMap,
    Usefulness,
    UsefulnessSummary,
    layer,
    logits,
    penultimate,
    usefulness,
)
from notbugs.progress import Progress
from notbugs.study.lab import Lab
from notbugs.threat import Threat, threat

REAL = ("rho", "rho_low", "rho_high", "gamma", "gamma_low", "gamma_high", "mean", "std", "flat")
TABLES = dict.fromkeys(REAL, torch.float64) | {"kind": torch.int64}
"""The tensors of a `Usefulness`, as a stage keeps them."""
DEFAULT_EPS = {"l2": 0.5, "linf": 8 / 255}


class UsefulnessMeasured(BaseModel):
    """The features of some classifiers, sorted by usefulness and robust usefulness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classifiers: dict[str, UsefulnessSummary] = Field(description="by the classifier's name")
    test_set: str


def measure(lab: Lab) -> UsefulnessMeasured:
    """Measure each classifier that the recipe names, standardising on training images."""
    asked = lab.recipe.instruments.usefulness
    found: dict[str, UsefulnessSummary] = {name: sorted_features(lab, name).summary() for name in asked.classifiers}
    return UsefulnessMeasured(classifiers=found, test_set=lab.data.test_name)


def sorted_features(lab: Lab, name: str) -> Usefulness:
    """The usefulness of one classifier's features: measured once, for every instrument that asks."""
    asked, threat = lab.recipe.instruments.usefulness, _threat(lab)

    def work(progress: Progress) -> dict[str, Any]:
        found = usefulness(
            features_of(lab, name),
            lab.data.train,
            lab.data.test,
            threat,
            classes=len(lab.data.classes),
            steps=asked.steps,
            images=min(asked.images, len(lab.data.test)),
            min_rho=asked.min_rho,
            seed=lab.seed,
            progress=progress,
        )
        tables = {table: getattr(found, table).tolist() for table in TABLES}
        plain = {field: getattr(found, field) for field in ("features", "n", "n_searched", "z")}
        return tables | plain | {"attack": found.attack and found.attack.model_dump()}

    kept = lab.stage(f"usefulness-{name}", f"sort the features of {name}", work)
    kept |= {table: torch.tensor(kept[table], dtype=kind) for table, kind in TABLES.items()}
    kept["attack"] = kept["attack"] and AttackUsed(**kept["attack"])
    return Usefulness(**kept, names=(), threat=threat, min_rho=asked.min_rho, seed=lab.seed)


def features_of(lab: Lab, name: str) -> FeatureMap:
    """Those features of a classifier that the recipe asks for."""
    return _features(lab.classifier(name), lab.recipe.instruments.usefulness.features)


def check(lab: Lab) -> None:
    """Refuse a layer that the recipe's architecture does not have, before anything is trained.

    Raises
    ------
    InputError
        If there is no such layer, or its output is not a tensor.
    """
    images, _ = lab.data.train.batch(torch.arange(1))
    untrained = lab.recipe.architecture.new(lab.data, 0, lab.recipe).eval()
    with torch.no_grad():
        _features(untrained, lab.recipe.instruments.usefulness.features)(images.to(lab.device))


def _features(classifier: Classifier, which: str) -> FeatureMap:
    made = {"penultimate": penultimate, "logits": logits}
    return made[which](classifier) if which in made else layer(classifier, which)


def _threat(lab: Lab) -> Threat:
    """The ball that the recipe asks for, or around the middle of its evaluation."""
    evaluation, asked = lab.recipe.evaluation, lab.recipe.instruments.usefulness
    eps = asked.eps
    if eps is None:
        radii = sorted(evaluation.radii) if asked.norm == evaluation.norm else []
        eps = radii[len(radii) // 2] if radii else DEFAULT_EPS[asked.norm]
    return threat(asked.norm, eps)
