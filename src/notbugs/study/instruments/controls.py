"""Each relabelled set beside its controls: what its classifier learns, and what it would learn without the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from notbugs.classifier import Classifier
from notbugs.construct import CONTROLS, ConstructedSet, Control, Start, control, mislabel, starts_of
from notbugs.measure import Difference, Proportion, evaluate, predictions, relabelled_accuracy, wilson
from notbugs.progress import Progress
from notbugs.seeds import derive
from notbugs.study.asked import Controls
from notbugs.study.lab import Lab
from notbugs.study.sets import BY_NAME
from notbugs.threat import Norm

Again = Literal["robust_source", "noise", "linf"]
AGAIN: tuple[Again, ...] = ("robust_source", "noise", "linf")
Variant = Literal["itself", "mislabelled"] | Control | Again
CHUNK = 2000


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ControlRow(_Model):
    """One set, and what a classifier trained on it does on the test images."""

    of: str | None = Field(description="the set of the study beside which it stands; null for mislabelled images")
    variant: Variant = Field(
        description="itself; its leakage, random or labels control; itself built anew with a robust source, from "
        "noise, in an l-inf ball; images that a weak classifier gets wrong"
    )
    name: str = Field(description="of the set in sets/ and of the classifier in classifiers/")
    source: str = Field(description="the classifier it was built with")
    start: Start = Field(description="what searches started from")
    norm: Norm = Field(description="of the perturbations")
    eps: float | None = Field(description="radius, pixel units; null where it was free")
    n: int = Field(ge=1, description="training images")
    success: Proportion = Field(description="training images that the source gives the label they train with")
    untouched: Proportion = Field(description="training images that are exactly as they were")
    clean: Proportion = Field(description="accuracy on the test images")
    relabelled: Proportion = Field(description="accuracy on the test images with label + 1, modulo the classes")
    beyond: Difference | None = Field(
        description="clean accuracy of the set itself less that of this control; null for what is no control"
    )


class ControlsMeasured(_Model):
    """Relabelled sets beside their controls."""

    chance: float = Field(description="one in the number of classes")
    weak: Proportion | None = Field(description="clean accuracy of the weak classifier; null where none was needed")
    weak_epochs: int
    seed: int
    test_set: str
    rows: list[ControlRow]


def measure(lab: Lab) -> ControlsMeasured:
    """Build, train on and measure what the recipe asks for, each set beside its own."""
    asked = lab.recipe.instruments.controls
    weak = _weak(lab, asked) if _needs_weak(asked) else None
    rows = [row for name in BY_NAME for row in _beside(lab, asked, name, weak)]
    if weak and asked.mislabelled and _errors(lab, weak) > 1:  # batch norm wants two
        rows.append(_row(lab, None, "mislabelled", "weak", _mislabelled(lab, weak)))
    return ControlsMeasured(
        chance=1 / len(lab.data.classes),
        weak=_accuracies(lab, "weak", weak)[0] if weak else None,
        weak_epochs=asked.weak_epochs,
        seed=lab.seed,
        test_set=lab.data.test_name,
        rows=rows,
    )


def _needs_weak(asked: Controls) -> bool:
    return asked.mislabelled or not all(BY_NAME[name].keeps_labels for name in asked.leakage)


def _weak(lab: Lab, asked: Controls) -> Classifier:
    """One whose training ended early; its learning rate rises and falls in that time."""
    settings = lab.recipe.standard.model_copy(update={"epochs": asked.weak_epochs})
    return lab.train("weak", lab.data.train, "standard", settings=settings)


def _errors(lab: Lab, weak: Classifier) -> int:
    """How many training images it gets wrong."""
    images = lab.data.train

    def work(progress: Progress) -> int:
        return int((predictions(weak, images) != images.labels).sum())

    return lab.stage("controls-errors", "count the errors of weak", work)


def _mislabelled(lab: Lab, weak: Classifier) -> ConstructedSet:
    def work(path: Path, progress: Progress) -> ConstructedSet:
        return mislabel(weak, lab.data, path, **lab.recipe.storage.model_dump(), progress=progress)

    return lab.build("mislabelled", work)


def _beside(lab: Lab, asked: Controls, name: str, weak: Classifier | None) -> list[ControlRow]:
    """A set of the study and what stands beside it; nothing if nothing does."""
    controls: list[Control] = [kind for kind in CONTROLS if name in getattr(asked, kind)]
    again: list[Again] = [variant for variant in AGAIN if name in getattr(asked, variant)]
    if not controls and not again:
        return []
    own = BY_NAME[name].source
    itself = _row(lab, name, "itself", own, lab.set(name))
    rows = [itself]
    for kind in controls:
        row = _row(lab, name, kind, own, _control(lab, name, kind, weak))
        rows.append(row.model_copy(update={"beyond": Difference.of(itself.clean, row.clean)}))
    for variant in again:
        source = "robust" if variant == "robust_source" else own
        rows.append(_row(lab, name, variant, source, _again(lab, asked, name, variant, source)))
    return rows


def _control(lab: Lab, name: str, kind: Control, weak: Classifier | None) -> ConstructedSet:
    of, source = lab.set(name), lab.classifier(BY_NAME[name].source)
    judge = None if BY_NAME[name].keeps_labels else weak  # there, images with their own label are consistent

    def work(path: Path, progress: Progress) -> ConstructedSet:
        seed = derive(lab.seed, "control", name)
        return control(source, lab.data, path, of=of, kind=kind, weak=judge, seed=seed, progress=progress)

    return lab.build(f"{name}_{kind}", work)


def _again(lab: Lab, asked: Controls, name: str, variant: Again, source: str) -> ConstructedSet:
    """The set, built with one thing changed; targets are drawn as they were."""
    recipe, asked_of = lab.recipe, BY_NAME[name].relabelling(lab.recipe.relabelling)
    if variant == "linf":  # lengths of steps are in the norm of the ball
        steps = {"step_size": None, "momentum": 0.0, "decay": "linear"} if asked_of.method == "gradient" else {}
        asked_of = asked_of.model_copy(update={"norm": "linf", "eps": asked.linf_eps, **steps})

    def work(path: Path, progress: Progress) -> ConstructedSet:
        how: dict[str, Any] = {**recipe.storage.model_dump(), "seed": derive(lab.seed, "set", name)}
        how |= {"start": asked.noise_kind if variant == "noise" else None, "progress": progress}
        searches: dict[str, Any] = {"matching": recipe.matching, "relabelling": asked_of}
        return BY_NAME[name].build(lab.classifier(source), lab.data, path, **searches, **how)

    return lab.build(f"{name}_{variant}", work)


def _row(lab: Lab, of: str | None, variant: Variant, source: str, built: ConstructedSet) -> ControlRow:
    name, request = built.folder.name, built.manifest["request"]
    classifier = lab.classifier(name) if variant == "itself" else lab.train(name, built.images)
    clean, relabelled = _accuracies(lab, name, classifier)
    return ControlRow(
        of=of,
        variant=variant,
        name=name,
        source=source,
        start=request.get("start", "images"),
        norm=request["threat"]["norm"],
        eps=request["threat"]["eps"],
        n=len(built),
        success=wilson(round(built.manifest["storage"]["success_stored"] * len(built)), len(built)),
        untouched=_untouched(lab, built),
        clean=clean,
        relabelled=relabelled,
        beyond=None,
    )


def _accuracies(lab: Lab, name: str, classifier: Classifier) -> tuple[Proportion, Proportion]:
    """On the test images, and on the test images with the next label."""

    def work(progress: Progress) -> list[dict[str, Any]]:
        test = lab.data.test
        shares = evaluate(classifier, test)[0].share, relabelled_accuracy(classifier, test, len(lab.data.classes))
        return [share.model_dump() for share in shares]

    clean, relabelled = lab.stage(f"controls-{name}", f"measure {name} and its labels", work)
    return Proportion(**clean), Proportion(**relabelled)


def _untouched(lab: Lab, built: ConstructedSet) -> Proportion:
    """The images that are exactly those they started from."""
    starts = starts_of(built.manifest["request"], lab.data.train)
    equal = []
    for part in torch.arange(len(built)).split(CHUNK):
        images, _ = built.images.batch(part)
        equal.append((images == starts(built.start[part])).flatten(1).all(1))
    return Proportion.of(torch.cat(equal))
