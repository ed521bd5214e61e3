"""Rotations and shifts: does robustness to small changes of pixels bring robustness to changes nobody notices?"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from notbugs.data import Images
from notbugs.measure import SpatialAccuracy, spatial_accuracy
from notbugs.progress import Progress
from notbugs.spatial import Spatial
from notbugs.study.folder import Step
from notbugs.study.lab import Lab
from notbugs.training import SpatialTraining

TRAINED = "spatial"
"""Name of the classifier that is trained with rotations and shifts."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpatialRow(_Model):
    """One classifier."""

    classifier: str
    accuracy: SpatialAccuracy


class SpatialResult(_Model):
    """What `results.json` has of this instrument."""

    n: int = Field(description="test images, the same for every classifier")
    training: SpatialTraining | None = Field(description="of the classifier `spatial`, standard otherwise; null: none")
    rows: list[SpatialRow]


def measure(lab: Lab) -> SpatialResult:
    """Every classifier asked for, one stage each; before them the one that is trained with transformations."""
    asked = lab.recipe.instruments.spatial
    names: list[str] = list(dict.fromkeys(asked.classifiers))
    training = None
    if asked.train:
        training = SpatialTraining(degrees=asked.degrees, pixels=asked.pixels, tries=asked.train)
        settings = lab.recipe.standard.model_copy(update={"spatial": training})
        lab.train(TRAINED, lab.data.train, settings=settings, title="train with rotations and shifts")
        names.append(TRAINED)
    images = lab.data.test.sample(asked.images, lab.seed, "spatial")
    steps = [
        Step(f"spatial-{name}", f"turn and move the images of {name}", partial(_work, lab, name, images))
        for name in names
    ]
    found = lab.stages(steps)
    rows = [SpatialRow(classifier=name, accuracy=values) for name, values in zip(names, found, strict=True)]
    return SpatialResult(n=len(images), training=training, rows=rows)


def _work(lab: Lab, name: str, images: Images, progress: Progress) -> dict[str, Any]:
    asked = lab.recipe.instruments.spatial
    counts = asked.model_dump(include={"shifts", "angles", "tries", "steps", "restarts"})
    spatial = Spatial(asked.degrees, asked.pixels)
    found = spatial_accuracy(lab.classifier(name), images, spatial, **counts, seed=lab.seed, progress=progress)
    return found.model_dump()
