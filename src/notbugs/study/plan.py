"""Which classifiers and sets a study has, and how they depend on each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from notbugs.construct import Targets
from notbugs.study.results import TrainSet


@dataclass(frozen=True)
class SetPlan:
    """One constructed set: its name, the classifier it is built with, and its targets if it is relabelled."""

    name: TrainSet
    source: Literal["standard", "robust"]
    targets: Targets | None = None


@dataclass(frozen=True)
class ClassifierPlan:
    """One classifier: its name, the set it is trained on, and which section of the recipe trains it."""

    name: str
    train_set: TrainSet
    section: Literal["standard", "robust", "constructed"]


SETS = (
    SetPlan("D_R", "robust"),
    SetPlan("D_NR", "standard"),
    SetPlan("D_rand", "standard", "any"),
    SetPlan("D_rand_other", "standard", "other"),
    SetPlan("D_det", "standard", "next"),
)
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
