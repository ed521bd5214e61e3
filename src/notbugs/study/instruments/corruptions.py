"""Common corruptions, and high- and low-pass filters: which kinds of change each kind of feature survives."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from notbugs.data import Images
from notbugs.measure import (
    CorruptionAccuracy,
    FilterAccuracy,
    Proportion,
    corruption_accuracy,
    filter_accuracy,
    predictions,
)
from notbugs.progress import Progress, silent
from notbugs.study.folder import Step
from notbugs.study.lab import Lab


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CorruptionRow(_Model):
    """One classifier."""

    classifier: str
    clean: Proportion
    corruptions: list[CorruptionAccuracy]
    filters: list[FilterAccuracy]


class CorruptionResult(_Model):
    """What `results.json` has of this instrument."""

    n: int = Field(description="test images, the same for every classifier")
    rows: list[CorruptionRow]


def measure(lab: Lab) -> CorruptionResult:
    """Every classifier asked for, one stage each."""
    asked = lab.recipe.instruments.corruptions
    names = list(dict.fromkeys(asked.classifiers))
    for name in names:
        lab.classifier(name)  # a wrong name is refused before work
    images = lab.data.test.sample(asked.images, lab.seed, "corruptions")
    steps = [
        Step(f"corruptions-{name}", f"corrupt the images of {name}", partial(_work, lab, name, images))
        for name in names
    ]
    found = lab.stages(steps)
    rows = [CorruptionRow(classifier=name, **values) for name, values in zip(names, found, strict=True)]
    return CorruptionResult(n=len(images), rows=rows)


def _work(lab: Lab, name: str, images: Images, progress: Progress) -> dict[str, Any]:
    asked, classifier = lab.recipe.instruments.corruptions, lab.classifier(name)
    clean = Proportion.of(predictions(classifier, images) == images.labels)
    corrupted = corruption_accuracy(
        classifier, images, names=asked.names, severities=asked.severities, seed=lab.seed, progress=progress
    )
    filtered = filter_accuracy(classifier, images, asked.cutoffs, progress=silent)
    return {
        "clean": clean.model_dump(),
        "corruptions": [item.model_dump() for item in corrupted],
        "filters": [item.model_dump() for item in filtered],
    }
