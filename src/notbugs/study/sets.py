"""The constructed sets of a study: one declaration each, from which all that names, builds or draws them follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the names of sets need no torch
    from notbugs.classifier import Classifier
    from notbugs.construct import ConstructedSet, Start, Targets
    from notbugs.data import Data
    from notbugs.study.sections import Matching, Relabelling
    from notbugs.threat import Threat

SMALLEST_STEPS = 30
"""Gradients of a search for the smallest perturbation, at least; 100 find hardly smaller ones
(docs/explanation/search.md)."""

Mark = Literal["circle", "square", "triangle-up", "triangle-down", "diamond", "cross"]


@dataclass(frozen=True)
class SetDeclaration:
    """A constructed set: what it is, how it is built, and how it looks.

    Attributes
    ----------
    name : str
        In `results.json`, recipes and folders: `D_rand_other`.
    subscript, qualifier : str
        Of its symbol: `rand` and `other`.
    command : str
        What `notbugs build` calls it.
    source : {"standard", "robust"}
        The classifier it is built with.
    says : str
        What one of its images is, below the set's name.
    colour, dark, mark : str
        Of its line in figures, on light pages and on dark ones. Colours are those of Okabe and Ito, or near them, and
        marks differ where colours are near each other.
    targets : {"any", "other", "next"}, optional
        The class that an image is pushed towards and labelled with; None where features are matched instead.
    start : {"images", "gaussian", "uniform"}
        What each search starts from.
    smallest : bool
        Whether a perturbation is the smallest that reaches the class, of any length, whatever the recipe's method and
        radius.
    """

    name: str
    subscript: str
    command: str
    source: Literal["standard", "robust"]
    says: str
    colour: str
    dark: str
    mark: Mark
    targets: Targets | None = None
    qualifier: str = ""
    start: Start = "images"
    smallest: bool = False

    @property
    def kind(self) -> Literal["matched", "relabelled"]:
        """How it was made."""
        return "matched" if self.targets is None else "relabelled"

    @property
    def keeps_labels(self) -> bool:
        """Whether some of its images keep their label, so that it can teach without any perturbation."""
        return self.targets == "any"

    def relabelling(self, settings: Relabelling) -> Relabelling:
        """The search of this set, where a recipe asks for `settings`."""
        if not self.smallest or settings.method == "minimum-norm":
            return settings
        change: dict[str, Any] = {"method": "minimum-norm", "step_size": None, "momentum": 0.0, "decay": "linear"}
        return settings.model_copy(update=change | {"steps": max(settings.steps, SMALLEST_STEPS)})

    def threat(self, settings: Relabelling) -> Threat:
        """Where its perturbations may be: the smallest are free, whatever the radius of the others."""
        from notbugs.threat import threat

        return threat(settings.norm, math.inf) if self.smallest else settings.threat

    def build(
        self,
        source: Classifier,
        data: Data,
        path: Path,
        *,
        matching: Matching,
        relabelling: Relabelling,
        start: Start | None = None,
        **how: Any,
    ) -> ConstructedSet:
        """Build it in the folder `path`, or what is left of it; `how` are more arguments of `robustify` and `relabel`.

        Raises
        ------
        InputError
            As these two.
        """
        from notbugs.construct import relabel, robustify

        how |= {"start": start or self.start}
        if self.targets is None:
            return robustify(source, data, path, **matching.how(data.train.shape), **how)
        settings = self.relabelling(relabelling)
        ball = self.threat(settings)
        return relabel(source, data, path, targets=self.targets, threat=ball, schedule=settings.schedule, **how)


SETS = (
    SetDeclaration(
        name="D_R",
        subscript="R",
        command="robust",
        source="robust",
        says="has the robust classifier's features of the training image",
        colour="#009e73",
        dark="#22c495",
        mark="triangle-up",
    ),
    SetDeclaration(
        name="D_NR",
        subscript="NR",
        command="nonrobust",
        source="standard",
        says="has the standard classifier's features of the training image",
        colour="#d55e00",
        dark="#f2813a",
        mark="diamond",
    ),
    SetDeclaration(
        name="D_rand",
        subscript="rand",
        command="rand",
        source="standard",
        targets="any",
        says="pushed to a class drawn from all",
        colour="#b97a00",
        dark="#e5a823",
        mark="triangle-up",
    ),
    SetDeclaration(
        name="D_rand_other",
        subscript="rand",
        qualifier="other",
        command="rand-other",
        source="standard",
        targets="other",
        says="pushed to a class drawn from the others",
        colour="#c0508f",
        dark="#e68abf",
        mark="diamond",
    ),
    # Of wrong targets only: the smallest perturbation towards an image's own class is none, and then a part of the set
    # would be untouched images with their right labels.
    SetDeclaration(
        name="D_rand_min",
        subscript="rand",
        qualifier="min",
        command="rand-min",
        source="standard",
        targets="other",
        smallest=True,
        says="pushed just into a class drawn from the others, by the smallest perturbation found",
        colour="#6f5bb5",
        dark="#a493e6",
        mark="cross",
    ),
    SetDeclaration(
        name="D_det",
        subscript="det",
        command="det",
        source="standard",
        targets="next",
        says="pushed to the next class",
        colour="#3f93c9",
        dark="#67b6e8",
        mark="square",
    ),
)
"""In the order in which a study builds them and everything shows them."""

BY_NAME = {declared.name: declared for declared in SETS}
MATCHED = tuple(declared.name for declared in SETS if declared.kind == "matched")
RELABELLED = tuple(declared.name for declared in SETS if declared.kind == "relabelled")
TARGETS: dict[Targets | None, str] = {
    "any": "any class, the right one included",
    "other": "any wrong class",
    "next": "the next class",
    None: "the features of an image",
}
"""What a search moves images towards."""


def aimed_at(name: str) -> str:
    """What the images of a set were moved towards; `D` are the original ones."""
    return "none: the original images" if name == "D" else TARGETS[BY_NAME[name].targets]


if TYPE_CHECKING:
    Matched = Relabelled = Constructed = TrainSet = Trained = str
else:
    Matched = Literal[MATCHED]
    Relabelled = Literal[RELABELLED]
    Constructed = Literal[tuple(BY_NAME)]
    TrainSet = Literal["D", *BY_NAME]
    """What a classifier of a study is trained on."""
    Trained = Literal["standard", "independent", "robust", *BY_NAME]
    """The classifiers of every study."""

EVERY = ("standard", "independent", "robust", *BY_NAME)
"""The same, as names."""


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
