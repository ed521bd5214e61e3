"""Each relabelled set beside its controls: what its classifier learns, and what it would learn without the features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator

from notbugs.classifier import Classifier
from notbugs.construct import CONTROLS, ConstructedSet, Control, Start, control, mislabel, starts_of
from notbugs.content import Cell, Section, Table
from notbugs.errors import must
from notbugs.formats import counted, percent, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Accuracy, Difference, Proportion, predictions, relabelled_accuracy
from notbugs.progress import Progress
from notbugs.seeds import derive
from notbugs.study.learned import LearnedSet, is_unlearned, success_of
from notbugs.study.sets import BY_NAME, Constructed, Relabelled
from notbugs.threat import Linf, Norm, check_radii

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


def _as_tuple(given: object) -> object:
    """Recipes of older versions have one number."""
    return (given,) if isinstance(given, int) else given


class ControlsSettings(InstrumentSettings):
    """Relabelled sets beside their controls. Every set named below costs a training, and its own build."""

    leakage: tuple[Relabelled, ...] = Field(
        ("D_rand", "D_det"), description="Sets whose leakage control is trained on: synthetic patterns, no features."
    )
    random: tuple[Relabelled, ...] = Field(
        ("D_rand",), description="Sets whose random control is trained on: as far, in random directions."
    )
    labels: tuple[Relabelled, ...] = Field((), description="Sets whose labels are trained on, on untouched images.")
    robust_source: tuple[Relabelled, ...] = Field(("D_det",), description="Sets built again, by the robust classifier.")
    noise: tuple[Constructed, ...] = Field((), description="Sets built again, from images of noise.")
    linf: tuple[Relabelled, ...] = Field((), description="Sets built again, in an l-inf ball.")
    mislabelled: bool = Field(True, description="Whether images that a weak classifier gets wrong are trained on.")
    noise_kind: Literal["gaussian", "uniform"] = Field("uniform", description="The noise that `noise` starts from.")
    linf_eps: float = Field(8 / 255, gt=0, allow_inf_nan=False, description="Radius of `linf`, pixel units.")
    weak_epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_as_tuple)] = Field(
        (1,),
        min_length=1,
        description="Passes over the data of the weak classifier, which says what is consistent. Of several numbers "
        "each has its classifier and controls; what teaches most counts. The first one's finds mislabelled images.",
    )


Again = Literal["robust_source", "noise", "linf"]
AGAIN: tuple[Again, ...] = ("robust_source", "noise", "linf")
Variant = Literal["itself", "mislabelled"] | Control | Again
CHUNK = 2000


class ControlRow(LearnedSet):
    """One set, and what a classifier trained on it does on the test images."""

    of: str | None = Field(description="the set of the study beside which it stands; null for mislabelled images")
    variant: Variant = Field(
        description="itself; its leakage, random or labels control; itself built again with a robust source, from "
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
    balanced: Proportion | None = Field(
        None, description="balanced accuracy on the test images; null where classes differ little in size"
    )
    beyond: Difference | None = Field(
        description="clean accuracy of the set itself less that of this control; null for what is no control"
    )
    changed: Difference | None = Field(
        None,
        description="clean accuracy of the set built again less that of the set itself; null for others, and in "
        "studies of older versions",
    )
    weak_epochs: int | None = Field(
        None, description="of the weak classifier that says which images are consistent; null where none does"
    )

    @property
    def accuracy(self) -> Accuracy:
        """On the test images as they are."""
        return Accuracy(attack=None, share=self.clean, balanced=self.balanced)


class WeakClassifier(InstrumentResult):
    """One whose training ended early: what it says of an image, the image itself says."""

    epochs: int = Field(ge=1, description="passes over the data")
    clean: Proportion = Field(description="accuracy on the test images")


class ControlsResult(InstrumentResult):
    """Relabelled sets beside their controls."""

    chance: float = Field(description="one in the number of classes")
    weak: list[WeakClassifier] = Field(description="that say which images are consistent; none where none was needed")
    seed: Seed
    test_set: TestSet
    rows: list[ControlRow] = Field(description="one for each classifier, set or pair")

    @model_validator(mode="before")
    @classmethod
    def _of_one(cls, given: Any) -> Any:
        """Studies of older versions have one weak classifier, and say here alone how long it was trained."""
        if not isinstance(given, dict) or "weak_epochs" not in given:
            return given
        epochs, clean, rows = (given.get(name) for name in ("weak_epochs", "weak", "rows"))
        if isinstance(rows, list):
            rows = [row | {"weak_epochs": epochs} if _was_judged(row) else row for row in rows]
        weak = [{"epochs": epochs, "clean": clean}] if clean else []
        return {name: value for name, value in given.items() if name != "weak_epochs"} | {"weak": weak, "rows": rows}


def _was_judged(row: Any) -> bool:
    """Of a row of an older version, which may be anything."""
    of = row.get("of") if isinstance(row, dict) and row.get("variant") == "leakage" else None
    return isinstance(of, str) and of in BY_NAME and is_judged(of)


def strongest(rows: Iterable[ControlRow]) -> dict[str, ControlRow]:
    """By set, of its leakage controls that which leaves least beyond: any of them can explain what the set teaches."""

    def left(row: ControlRow) -> float:
        assert row.beyond  # of every control
        return row.beyond.value

    found: dict[str, ControlRow] = {}
    for row in rows:
        if row.of and row.variant == "leakage" and row.beyond:
            found[row.of] = min(found.get(row.of, row), row, key=left)
    return found


def is_judged(name: str, kind: Control = "leakage") -> bool:
    """Whether a weak classifier says which images are consistent; else those are that have their own label."""
    return kind == "leakage" and not BY_NAME[name].keeps_labels


def _needs_weak(settings: ControlsSettings) -> bool:
    return settings.mislabelled or any(map(is_judged, settings.leakage))


def weak_classifiers(runner: Runner) -> dict[int, Classifier]:
    """By their epochs, those whose training ended early; the learning rate rises and falls in that time."""
    found = {}
    for epochs in sorted(set(runner.recipe.instruments.controls.weak_epochs)):
        training = runner.recipe.standard.model_copy(update={"epochs": epochs})
        found[epochs] = runner.train(weak_name(epochs), runner.data.train, "standard", settings=training)
    return found


def weak_name(epochs: int) -> str:
    """Of that classifier: another number of epochs, which another instrument may have begun with, is another one."""
    return "weak" if epochs == 1 else f"weak_{epochs}"


def _errors(runner: Runner, weak: Classifier, name: str) -> int:
    """How many training images it gets wrong."""
    images = runner.data.train

    def work(progress: Progress) -> int:
        return int((predictions(weak, images) != images.labels).sum())

    stage = "controls-errors" if name == weak_name(1) else f"controls-errors-{name}"
    return runner.stage(stage, f"count the errors of {name}", work, kind=int)


def _mislabelled(runner: Runner, weak: Classifier, name: str) -> ConstructedSet:
    storage = runner.recipe.storage

    def work(path: Path, progress: Progress) -> ConstructedSet:
        return mislabel(weak, runner.data, path, dtype=storage.dtype, batch=storage.batch, progress=progress)

    return runner.build("mislabelled" if name == weak_name(1) else f"mislabelled_{name}", work)


def _beside(runner: Runner, settings: ControlsSettings, name: str, weak: Mapping[int, Classifier]) -> list[ControlRow]:
    """A set of the study and what stands beside it; nothing if nothing does."""
    controls: list[Control] = [kind for kind in CONTROLS if name in getattr(settings, kind)]
    again: list[Again] = [variant for variant in AGAIN if name in getattr(settings, variant)]
    if not controls and not again:
        return []
    own = BY_NAME[name].source
    itself = _row(runner, name, "itself", own, runner.set(name))
    rows = [itself]
    for kind in controls:
        for epochs, built in built_controls(runner, name, kind, weak).items():
            row = _row(runner, name, kind, own, built)
            beyond = runner.less(itself.name, row.name, (itself.accuracy, row.accuracy))
            rows.append(row.model_copy(update={"beyond": beyond, "weak_epochs": epochs}))
    for variant in again:
        source = "robust" if variant == "robust_source" else own
        row = _row(runner, name, variant, source, _again(runner, settings, name, variant, source))
        changed = runner.less(row.name, itself.name, (row.accuracy, itself.accuracy))
        rows.append(row.model_copy(update={"changed": changed}))
    return rows


def built_controls(
    runner: Runner,
    name: str,
    kind: Control,
    weak: Mapping[int, Classifier],
    *,
    of: str = "",
    source: Classifier | None = None,
    again: tuple[int, ...] = (),
) -> dict[int | None, ConstructedSet]:
    """The controls of a set in the folder: of the study's own, or of one like its set `of`, by another `source`.

    By the epochs of the weak classifier: one by each where one has a part in it, else one. `again` is the number of a
    repetition, which has seeds of its own.
    """
    of = of or name
    source = source or runner.classifier(BY_NAME[of].source)

    def built(epochs: int | None) -> ConstructedSet:
        def work(path: Path, progress: Progress) -> ConstructedSet:
            seed, itself = derive(runner.seed, "control", of, *again), runner.set(name)
            judge = weak[epochs] if epochs else None
            return control(source, runner.data, path, of=itself, kind=kind, weak=judge, seed=seed, progress=progress)

        return runner.build(control_name(name, kind, epochs), work)

    return {epochs: built(epochs) for epochs in (weak if is_judged(of, kind) else (None,))}


def control_name(name: str, kind: Control, weak_epochs: int | None) -> str:
    """With that of the weak classifier that has a part in it, unless it is the usual one."""
    return f"{name}_{kind}_{weak_name(weak_epochs)}" if weak_epochs not in (None, 1) else f"{name}_{kind}"


def _again(runner: Runner, settings: ControlsSettings, name: str, variant: Again, source: str) -> ConstructedSet:
    """The set, built with one thing changed; targets are drawn as they were."""
    declared = BY_NAME[name]
    relabelling = declared.relabelling(runner.recipe.relabelling)
    if variant == "linf":  # lengths of steps are in the norm of the ball
        steps = {"step_size": None, "momentum": 0.0, "decay": "linear"} if relabelling.method == "gradient" else {}
        relabelling = relabelling.model_copy(update={"norm": "linf", "eps": settings.linf_eps, **steps})
    return runner.construct(
        f"{name}_{variant}",
        declared,
        source=runner.classifier(source),
        relabelling=relabelling,
        start=settings.noise_kind if variant == "noise" else None,
        seed=derive(runner.seed, "set", name),
    )


def _row(runner: Runner, of: str | None, variant: Variant, source: str, built: ConstructedSet) -> ControlRow:
    name, request = built.folder.name, built.manifest["request"]
    like = of or "D_rand_other"  # of the relabelled sets, the one whose labels are wrong in no order either
    if variant != "itself":
        runner.train(name, built.images, like)
    clean, relabelled, *balanced = _accuracies(runner, name)
    return ControlRow(
        of=of,
        variant=variant,
        name=name,
        source=source,
        start=request.get("start", "images"),
        norm=request["threat"]["norm"],
        eps=request["threat"]["eps"],
        n=len(built),
        success=success_of(built),
        untouched=_untouched(runner, built),
        clean=clean,
        relabelled=relabelled,
        balanced=balanced[0] if balanced else None,
        fits=runner.fits.get(name),
        beyond=None,
    )


Measured = tuple[Proportion, Proportion] | tuple[Proportion, Proportion, Proportion]
"""Accuracy on the test images, and on those with the next label; where classes differ in size, the balanced one."""


def _accuracies(runner: Runner, name: str) -> Measured:
    def work(progress: Progress) -> Measured:
        clean = runner.known(name).accuracy
        relabelled = relabelled_accuracy(runner.classifier(name), runner.data.test, len(runner.data.classes))
        return (clean.share, relabelled, clean.balanced) if clean.balanced else (clean.share, relabelled)

    title = f"measure {name} and its labels"
    return runner.stage(f"controls-{name}", title, work, leaves=runner.outcomes_file(name), kind=Measured)


def _untouched(runner: Runner, built: ConstructedSet) -> Proportion:
    """The images that are exactly those they started from."""
    starts = starts_of(built.manifest["request"], runner.data.train)
    equal = []
    for part in torch.arange(len(built)).split(CHUNK):
        images, _ = built.images.batch(part)
        equal.append((images == starts(built.start[part])).flatten(1).all(1))
    return Proportion.of(torch.cat(equal))


def in_pairs(differences: Iterable[Difference | None]) -> str:
    """What a caption says of their intervals."""
    is_paired = any(one.paired for one in differences if one)
    return ", with Newcombe's interval for paired shares: both are measured on the same images" if is_paired else ""


VARIANTS = {
    "itself": "{of}",
    "leakage": "{of}, leakage control",
    "random": "{of}, random control",
    "labels": "{of}, labels control",
    "robust_source": "{of}, by the robust source",
    "noise": "{of}, from noise",
    "linf": "{of}, l-inf",
    "mislabelled": "images that a weak classifier gets wrong",
}


CONTROLS_TEXT = (
    "A control has the images and the labels of its set, but no adversarial features: nothing was searched for it. The "
    "leakage control hides every label behind a synthetic pattern, except where the image agrees with it; the random "
    "control moves every image as far as its adversarial one, in a random direction. What a set teaches beyond its "
    "controls is in its perturbations. One training each: that two trainings differ is not in the intervals."
)


def controls_section(measured: ControlsResult) -> Section:
    """The table of all sets and controls, and what follows for each set."""
    is_uneven = any(row.balanced for row in measured.rows)
    score = next((row.beyond.score for row in measured.rows if row.beyond), "accuracy")
    caption = (
        f"Chance is {percent(measured.chance)} %{', of balanced accuracy' if is_uneven else ''}. Beyond: {score} of "
        f"the set less that of its control, in points{in_pairs(row.beyond for row in measured.rows)}."
    )
    for weak in measured.weak:
        caption += f" The weak classifier of {counted(weak.epochs, 'epoch')} is right on {said(weak.clean)}."
    columns = ["trained on", "training images", "unmoved", "source gives the label", "accuracy", "next label", "beyond"]
    if is_uneven:
        columns.insert(5, "balanced accuracy")
    table = Table(caption, columns, [_cells(row, is_uneven) for row in measured.rows])
    return Section(
        name="controls",
        title="Relabelled sets beside their controls",
        short="Controls",
        text=CONTROLS_TEXT,
        reading=list(_reading(measured.rows)),
        tables=[table],
    )


def _cells(row: ControlRow, is_uneven: bool) -> list[Cell]:
    name, beyond = VARIANTS[row.variant].format(of=row.of), str(row.beyond) if row.beyond else None
    if row.weak_epochs:
        name += f" (weak classifier of {counted(row.weak_epochs, 'epoch')})"
    balanced = [row.balanced] if is_uneven else []
    return [name, row.n, row.untouched, row.success, row.clean, *balanced, row.relabelled, beyond]


def _reading(rows: list[ControlRow]) -> Iterator[str]:
    """A sentence for each set with a leakage control, and for each set built again by the robust source."""
    itself = {row.of: row for row in rows if row.variant == "itself"}
    learned = [row for row in rows if not _is_left(row)]
    hardest = strongest(row for row in learned if row.of not in itself or itself[row.of] in learned)
    controls = Counter(row.of for row in rows if row.variant == "leakage" and row.beyond)
    for row in rows:
        if row.variant == "leakage" and (count := controls.pop(row.of, 0)):
            if row.of in hardest:
                yield _against_leakage(hardest[row.of], count)
            else:
                yield f"{row.of} is not compared with its leakage control: one of the two was not learned."
        if row.variant == "robust_source" and not (row in learned and itself[row.of] in learned):
            yield f"{row.of} is not compared with that built by the robust source: one of the two was not learned."
        elif row.variant == "robust_source":
            own = itself[row.of].accuracy
            side = (row.changed or row.accuracy.less(own)).side
            than = f"{side} than" if side != "unclear" else "what cannot be told from what it teaches"
            yield (
                f"Built by the robust source, {row.of} teaches {than} when built by the standard one: "
                f"{said(row.accuracy.held)} against {said(own.held)}."
            )


def _is_left(row: ControlRow) -> bool:
    """Whether its classifier did not learn it; patterns are there for all to see, whatever the source sees."""
    return is_unlearned(row.fits, 1.0 if row.variant == "leakage" else row.success.value)


def _against_leakage(row: ControlRow, count: int) -> str:
    """Of the strongest of so many controls."""
    beyond = row.beyond
    assert beyond  # of every control
    its = "its leakage control" if count == 1 else f"the strongest of its {count} leakage controls"
    points = f"points{' of balanced accuracy' if beyond.score == 'balanced accuracy' else ''}"
    if beyond.side == "more":
        return f"{row.of} teaches more than {its}, by {beyond} {points}."
    control = f"{its}, in which there is no adversarial feature"
    said = f"teaches less than {control}, by" if beyond.side == "less" else f"cannot be told from {control}:"
    return f"{row.of} {said} {beyond.size} {points}. Its accuracy alone is no evidence for non-robust features."


class ControlsInstrument(Instrument[ControlsSettings, ControlsResult]):
    """Relabelled sets beside their controls."""

    name = "controls"
    grows = (*CONTROLS, *AGAIN, "weak_epochs")
    Settings = ControlsSettings
    Result = ControlsResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        settings = runner.recipe.instruments.controls
        for variant in (*CONTROLS, *AGAIN):
            for name in getattr(settings, variant):
                declared = BY_NAME[name]
                if variant in CONTROLS and declared.start != "images":
                    rule, why = "name sets that start from images", "Noise has no class that could leak."
                    raise must(f"instruments.controls.{variant}", rule, name, why)
                if variant in AGAIN and declared.claim:
                    rule = "name sets of every study, which alone are built again"
                    raise must(f"instruments.controls.{variant}", rule, name)
        if settings.linf:
            check_radii([Linf(settings.linf_eps)], runner.data.train.shape)

    def run(self, runner: Runner) -> ControlsResult:
        """Build, train on and measure what the recipe asks for, each set beside its own."""
        settings = runner.recipe.instruments.controls
        weak = weak_classifiers(runner) if _needs_weak(settings) else {}
        rows = [row for name in BY_NAME for row in _beside(runner, settings, name, weak)]
        if settings.mislabelled:
            name, first = weak_name(settings.weak_epochs[0]), weak[settings.weak_epochs[0]]
            if _errors(runner, first, name) > 1:  # batch norm wants two
                rows.append(_row(runner, None, "mislabelled", name, _mislabelled(runner, first, name)))
        return ControlsResult(
            chance=1 / len(runner.data.classes),
            weak=[WeakClassifier(epochs=epochs, clean=_accuracies(runner, weak_name(epochs))[0]) for epochs in weak],
            seed=runner.seed,
            test_set=runner.data.test_name,
            rows=rows,
        )

    def section(self, result: ControlsResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return controls_section(result)
