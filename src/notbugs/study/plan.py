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
JUDGE = ClassifierPlan("judge", "D", "robust")
"""A second robust classifier, where the recipe asks for it: it had no hand in D_R."""


def stage_names(judge: bool) -> list[str]:
    """The stages that a study has, in order, with or without a judge; an instrument's come after them."""
    names = [f"{work}-{plan.name}" for plan in ON_ORIGINALS for work in ("train", "evaluate")]
    for plan in SETS:
        names += [f"build-{plan.name}", f"measure-{plan.name}", f"train-{plan.name}", f"evaluate-{plan.name}"]
    if judge:
        names.insert(names.index("measure-D_R"), f"train-{JUDGE.name}")
    return [*names, "gallery", "rank", "theory"]
