"""Which classifiers a study has beside those of its sets, and the stages of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from notbugs.study.sets import SETS, TrainSet


@dataclass(frozen=True)
class ClassifierPlan:
    """One classifier: its name, the set it is trained on, and which section of the recipe trains it."""

    name: str
    train_set: TrainSet
    section: Literal["standard", "robust", "constructed"]


ON_ORIGINALS = (
    ClassifierPlan("standard", "D", "standard"),
    ClassifierPlan("independent", "D", "standard"),
    ClassifierPlan("robust", "D", "robust"),
)
STAGE_NAMES = (
    *(f"{work}-{plan.name}" for plan in ON_ORIGINALS for work in ("train", "evaluate")),
    *(f"{work}-{plan.name}" for plan in SETS for work in ("build", "measure", "train", "evaluate")),
    "gallery",
    "rank",
    "theory",
)
"""Of the stages that every study has, in order; an instrument's come after them."""
STAGES = len(STAGE_NAMES)
