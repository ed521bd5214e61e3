"""The constructed sets of a study: one declaration each, from which all that names, builds or draws them follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from notbugs.errors import check_choice
from notbugs.study.declaration import SetDeclaration

if TYPE_CHECKING:  # the names of sets need no torch
    from notbugs.construct import Targets

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

NAKKIRAN = "Nakkiran, 2019 (Distill)"
KUMANO = "Kumano et al., 2024"
BANDS = "Yin et al., 2019; Wang et al., 2020"
HALVES = "Ilyas et al., 2019, with one classifier in place of two"
FURTHER = (
    SetDeclaration(
        name="D_bugs",
        subscript="bugs",
        command="bugs",
        source="standard",
        targets="next",
        alone="label",
        says="pushed to the next class on the source alone, while other classifiers keep its label",
        beside="D_det",
        claim="As D_det, but fooling the source alone: if what fools one classifier and no other is a bug, it teaches "
        "nothing.",
        origin=NAKKIRAN,
        colour="#8c2d04",
        dark="#e8875f",
        mark="circle",
    ),
    SetDeclaration(
        name="D_bugs_other",
        subscript="bugs",
        qualifier="other",
        command="bugs-other",
        source="standard",
        targets="other",
        alone="label",
        says="pushed to a class drawn from the others on the source alone, while other classifiers keep its label",
        beside="D_rand_other",
        claim="As D_rand_other, but fooling the source alone: nothing taught is an accuracy at chance or below.",
        origin=NAKKIRAN,
        colour="#a63d57",
        dark="#ef8fa4",
        mark="square",
    ),
    SetDeclaration(
        name="D_bugs_held",
        subscript="bugs",
        qualifier="held",
        command="bugs-held",
        source="standard",
        targets="other",
        alone="outputs",
        says="pushed to a class drawn from the others on the source alone, while other classifiers keep all their "
        "outputs",
        beside="D_rand_other",
        claim="As D_bugs_other, but other classifiers keep every output and not the label alone: what it teaches, they "
        "do not show.",
        origin="Ours, after Nakkiran, 2019",
        colour="#7f4f8f",
        dark="#c792d8",
        mark="triangle-up",
    ),
    SetDeclaration(
        name="D_rand_uniform",
        subscript="rand",
        qualifier="uniform noise",
        command="rand-uniform",
        source="standard",
        targets="any",
        start="uniform",
        says="uniform noise, pushed to a class drawn from all",
        beside="D_rand",
        claim="Noise has no class that could leak: whatever it teaches is in the perturbations.",
        origin=KUMANO,
        colour="#4d7d2b",
        dark="#93c56b",
        mark="circle",
    ),
    SetDeclaration(
        name="D_rand_gaussian",
        subscript="rand",
        qualifier="Gaussian noise",
        command="rand-gaussian",
        source="standard",
        targets="any",
        start="gaussian",
        says="grey with Gaussian noise, pushed to a class drawn from all",
        beside="D_rand",
        claim="As D_rand_uniform, from noise that is nearly flat.",
        origin=KUMANO,
        colour="#227d5b",
        dark="#59c199",
        mark="diamond",
    ),
    SetDeclaration(
        name="D_rand_low",
        subscript="rand",
        qualifier="low",
        command="rand-low",
        source="standard",
        targets="any",
        band="low",
        says="pushed to a class drawn from all, by low frequencies alone",
        beside="D_rand",
        claim="Where the features that generalise live: in low frequencies?",
        origin=BANDS,
        colour="#7a6a00",
        dark="#cdb83a",
        mark="triangle-down",
    ),
    SetDeclaration(
        name="D_rand_high",
        subscript="rand",
        qualifier="high",
        command="rand-high",
        source="standard",
        targets="any",
        band="high",
        says="pushed to a class drawn from all, by high frequencies alone",
        beside="D_rand",
        claim="Or in high ones, which people do not see?",
        origin=BANDS,
        colour="#9a5b2c",
        dark="#dba06c",
        mark="triangle-up",
    ),
    SetDeclaration(
        name="D_det_low",
        subscript="det",
        qualifier="low",
        command="det-low",
        source="standard",
        targets="next",
        band="low",
        says="pushed to the next class, by low frequencies alone",
        beside="D_det",
        claim="As D_rand_low, where no label is right.",
        origin=BANDS,
        colour="#2d6f9e",
        dark="#74aedb",
        mark="triangle-down",
    ),
    SetDeclaration(
        name="D_det_high",
        subscript="det",
        qualifier="high",
        command="det-high",
        source="standard",
        targets="next",
        band="high",
        says="pushed to the next class, by high frequencies alone",
        beside="D_det",
        claim="As D_rand_high, where no label is right.",
        origin=BANDS,
        colour="#5463a9",
        dark="#99a5e3",
        mark="triangle-up",
    ),
    SetDeclaration(
        name="D_half_R",
        subscript="half",
        qualifier="R",
        command="half-robust",
        source="standard",
        half="robust",
        says="has the more robust half of the standard classifier's features of the training image",
        beside="D_NR",
        claim="Does the more robust half of one standard classifier's features make a robust set?",
        origin=HALVES,
        colour="#00767a",
        dark="#3fbcc0",
        mark="square",
    ),
    SetDeclaration(
        name="D_half_NR",
        subscript="half",
        qualifier="NR",
        command="half-nonrobust",
        source="standard",
        half="nonrobust",
        says="has the less robust half of the standard classifier's features of the training image",
        beside="D_NR",
        claim="And the less robust half, of the same classifier: what does it teach, and whom do its images resemble?",
        origin=HALVES,
        colour="#b0452f",
        dark="#ec8e7a",
        mark="cross",
    ),
)
"""Those of the discussion that followed the paper: a study has those that its recipe asks for, after the others."""

EVERY_SET = (*SETS, *FURTHER)
BY_NAME = {declared.name: declared for declared in EVERY_SET}
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
    Matched = Literal[*(declared.name for declared in EVERY_SET if declared.kind == "matched")]
    Relabelled = Literal[*(declared.name for declared in EVERY_SET if declared.kind == "relabelled")]
    Constructed = Literal[tuple(BY_NAME)]
    TrainSet = Literal["D", *BY_NAME]
    """What a classifier of a study is trained on."""
    Trained = Literal["standard", "independent", "robust", *BY_NAME]
    """The classifiers that a study may have."""

EVERY = ("standard", "independent", "robust", *(declared.name for declared in SETS))
"""Those that a study has without asking, as names."""


@dataclass(frozen=True)
class ClassifierPlan:
    """One classifier: its name, and the set it is trained on."""

    name: str
    train_set: TrainSet


ON_ORIGINALS = (
    ClassifierPlan("standard", "D"),
    ClassifierPlan("independent", "D"),
    ClassifierPlan("robust", "D"),
)
JUDGE = ClassifierPlan("judge", "D")
"""A second robust classifier, where the recipe asks for it: it had no hand in D_R."""


def chosen_sets(given: Sequence[str]) -> tuple[str, ...]:
    """The names of the further sets that are asked for, in their order: `all` of them, or some by name."""
    names = tuple(declared.name for declared in FURTHER)
    words = [word for words in given for word in words.replace(",", " ").split()]
    for word in words:
        check_choice("sets", word, ("all", *names))
    return names if "all" in words else tuple(name for name in names if name in words)


MOST_OTHERS = 16


def other_names(sets: Sequence[str], count: int) -> list[str]:
    """The classifiers that these sets keep at their label or outputs, of which a recipe asks for `count`."""
    return [f"other-{number + 1}" for number in range(count)] if any(BY_NAME[name].alone for name in sets) else []


FOR_HALVES = ("eps", "norm", "steps", "images", "min_rho")
"""Settings of the instrument `usefulness` by which the features of the halves are sorted, whether or not it is on."""
SECTIONS: dict[str, str] = {
    "standard": "standard",
    "independent": "standard",
    "robust": "robust",
    JUDGE.name: "robust",
    **dict.fromkeys(BY_NAME, "constructed"),
    **dict.fromkeys(other_names([declared.name for declared in FURTHER], MOST_OTHERS), "standard"),
}
"""For every classifier that a study may have, the section of the recipe that trains it."""


def stage_names(judge: bool, sets: Sequence[str] = (), others: int = 0) -> list[str]:
    """The stages that a study has, in order, with or without a judge, and with further sets; then an instrument's."""
    names = [f"{work}-{plan.name}" for plan in ON_ORIGINALS for work in ("train", "evaluate")]
    for plan in SETS:
        names += _stages_of(plan)
    if judge:
        names.insert(names.index("measure-D_R"), f"train-{JUDGE.name}")
    names += [f"train-{name}" for name in other_names(sets, others)]
    names += ["halves"] if any(BY_NAME[name].half for name in sets) else []
    for name in sets:
        names += _stages_of(BY_NAME[name])
    names += ["gallery", *(["gallery-further"] if sets else [])]
    return [*names, "rank", "theory"]


def _stages_of(plan: SetDeclaration) -> list[str]:
    return [f"{work}-{plan.name}" for work in ("build", "measure", "train", "evaluate")]
