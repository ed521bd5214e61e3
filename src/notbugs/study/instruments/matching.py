"""D_R and D_NR matched in other ways: by the other gradient of the last ReLU, and by the paper's 1000 steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from notbugs.content import Cell, Section, Table
from notbugs.data import Data
from notbugs.errors import InputError, must
from notbugs.formats import number, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Accuracy, Difference, Proportion, Resemblance, Spread
from notbugs.measure.likeness import By
from notbugs.measure.statistics import score_of
from notbugs.search.backward import fake_relu_features
from notbugs.seeds import derive
from notbugs.study.learned import LearnedSet, first_unlearned, not_learned
from notbugs.study.sections import Matching
from notbugs.study.sets import BY_NAME
from notbugs.training.loop import check_training

if TYPE_CHECKING:
    from notbugs.study.runner import Runner

Way = Literal["fake_relu", "paper"]
Variant = Literal["itself", "fake_relu", "paper"]
Set = Literal["D_R", "D_NR"]
PAPER = Matching(method="gradient", steps=1000, step_size=0.1)


class MatchingSettings(InstrumentSettings):
    """Matched sets built again in other ways. Every one costs a set and a training, `paper` 1000 gradients an image.

    With `images`, the sets as the recipe says are built and trained on again, too.
    """

    ways: tuple[Way, ...] = Field(
        ("fake_relu",),
        min_length=1,
        description="fake_relu: the fake gradient of the last ReLU, which it passes unchanged; the true one where "
        "[matching] has the fake one. paper: 1000 steps of l2 length 0.1, the paper's on CIFAR-10.",
    )
    sets: tuple[Set, ...] = Field(("D_R", "D_NR"), min_length=1, description="Which sets.")
    images: int | None = Field(
        None, ge=2, description="Training images that all are built from, at most, drawn at random; all if not given."
    )


class MatchingRow(LearnedSet):
    """One set, and the classifier trained on it."""

    of: Set = Field(description="which set it is, but for how it was matched")
    way: Variant = Field(description="how: itself as the recipe says")
    method: Literal["quasi-newton", "gradient"] = Field(description="how the search moved")
    steps: int = Field(ge=1, description="gradients of each search")
    fake_relu: bool | str = Field(description="whether gradients passed the last ReLU, or that of this name, unchanged")
    n: int = Field(ge=1, description="training images")
    loss: Spread = Field(description="distance of the features from those of the target, over the norm of these")
    l2: Spread = Field(description="from the start, pixel units")
    resemblance: Resemblance | None = Field(description="whom its images are like; null where it was not measured")
    accuracies: list[Accuracy] = Field(description="of the classifier trained on it: clean, then robust")
    changed: list[Difference] = Field(
        [],
        description="each accuracy, or the balanced one, less that of the set itself; none for this, and in studies of "
        "older versions",
    )


class MatchingResult(InstrumentResult):
    """Matched sets by the ways they were matched in."""

    seed: Seed
    test_set: TestSet
    rows: list[MatchingRow] = Field(description="one for each set and way")


def _data(runner: Runner) -> Data:
    """The study's, or a part of its training images."""
    count = runner.recipe.instruments.matching.images
    if count is None or count >= len(runner.data.train):
        return runner.data
    return replace(runner.data, train=runner.data.train.sample(count, runner.seed, "matching"))


def _check_part(runner: Runner) -> None:
    """Refuse a part of the images on which a study could not be done."""
    recipe, images, train = runner.recipe, runner.recipe.instruments.matching.images, runner.data.train
    try:
        part = _data(runner).train
    except InputError:
        part = None
    if part is None or len(part.labels.unique()) < len(train.labels.unique()):
        raise must("instruments.matching.images", "leave an image of every class", images, "Take more.")
    for of in recipe.instruments.matching.sets:
        check_training(recipe.training(of), part)


def _matching(given: Matching, way: Variant) -> Matching:
    if way == "paper":
        return PAPER.model_copy(update={"fake_relu": given.fake_relu})
    return given.model_copy(update={"fake_relu": not given.fake_relu}) if way == "fake_relu" else given


def _one(runner: Runner, data: Data, of: Set, way: Variant) -> MatchingRow:
    """The study's own set is taken where it is one of these; all begin with its initial weights."""
    declared, name = BY_NAME[of], _name(data, runner, of, way)
    matching = _matching(runner.recipe.matching, way)
    if name == of:
        built, classifier = runner.set(of), runner.classifier(of)
    else:
        built = runner.construct(name, declared, data=data, matching=matching, seed=derive(runner.seed, "set", of))
        classifier = runner.train(name, built.images, of, drawn_as=of)
    measured, accuracies = runner.measure(name, declared, built, data.train), runner.evaluate(name, classifier)
    loss = measured["matching_loss"]
    assert loss  # of a matched set
    return MatchingRow(
        of=of,
        way=way,
        method=matching.method,
        steps=matching.steps,
        fake_relu=matching.fake_relu,
        n=len(built),
        loss=loss,
        l2=measured["l2"],
        resemblance=measured.get("resemblance"),  # studies of older versions have none
        accuracies=accuracies[: 1 + len(runner.recipe.evaluation.threats)],  # without PGD, which follows
        success=measured["success_source"],
        fits=runner.fits.get(name),
    )


def _name(data: Data, runner: Runner, of: Set, way: Variant) -> str:
    """Of the set and its classifier: the study's own where it is one of these."""
    part = "" if data is runner.data else f"_{len(data.train)}"
    return of if way == "itself" and not part else f"{of}_{way}{part}"


def _changed(runner: Runner, data: Data, row: MatchingRow) -> list[Difference]:
    """What a way changes, image by image; nothing where that was not kept."""
    ours, own = (runner.outcomes(_name(data, runner, row.of, way)) for way in (row.way, "itself"))
    if not (ours and own):
        return []
    mine, theirs = ({one.attack: one for one in some} for some in (ours, own))
    return [mine[one.attack].less(theirs[one.attack]) for one in row.accuracies]


MATCHING_TEXT = (
    "What a matched set is depends on the search, too. Here are the same sets, from the same starts and targets and by "
    "the same sources, searched in other ways, and classifiers trained on them from the same initial weights with the "
    "same order of batches. The inversions of the paper's authors let gradients pass the last ReLU unchanged, so that "
    "features that are 0 get one, too; the paper's search on CIFAR-10 takes 1000 steps of l2 length 0.1. Loss: the "
    "distance of the features from the target's, over the norm of the target's. Nearer to the target than to the "
    "start: of at most 1,000 images whose start has another class, in three measures; the features are those of a "
    "robust classifier that had no hand in the set, where the study has one. One training each: that two trainings "
    "differ is not in the intervals."
)
NEARER = {
    "pixels": "nearer to the target by pixels",
    "ssim": "nearer by structural similarity",
    "robust features": "nearer by robust features",
}


def _called(row: MatchingRow) -> str:
    """The set and its search in words."""
    kind = "quasi-Newton" if row.method == "quasi-newton" else "gradient"
    return f"{row.of}, {row.steps:,} {kind} steps, {'fake' if row.fake_relu else 'true'} gradient of the last ReLU"


def _nearer(row: MatchingRow, by: By) -> Proportion | None:
    found = row.resemblance.by(by) if row.resemblance else None
    return found.nearer_target if found else None


def _section(result: MatchingResult) -> Section:
    shown = [by for by in get_args(By) if any(_nearer(row, by) for row in result.rows)]
    sets: list[list[Cell]] = [
        [_called(row), row.n, row.loss, row.l2, *(_nearer(row, by) for by in shown)] for row in result.rows
    ]
    taught: list[list[Cell]] = [[_called(row), *(one.share for one in row.accuracies)] for row in result.rows]
    attacks = [one.under for one in result.rows[0].accuracies]
    return Section(
        name="matching",
        title="Features matched in other ways",
        short="Other matching",
        text=MATCHING_TEXT,
        reading=list(_reading(result)),
        tables=[
            Table("The sets", ("set", "images", "loss", "l2 from the start", *(NEARER[by] for by in shown)), sets),
            Table("Accuracy of classifiers trained on them, on the test images", ("trained on", *attacks), taught),
        ],
    )


def _reading(result: MatchingResult) -> Iterator[str]:
    """For each set and way how it differs from the set itself: its loss; what it teaches, where both were learned."""
    itself = {row.of: row for row in result.rows if row.way == "itself"}
    for row in result.rows:
        if row.way == "itself":
            continue
        own, told, same = itself[row.of], [], []
        loss = f"median loss {number(row.loss.median)} in place of {number(own.loss.median)}"
        if left := first_unlearned((row, own)):
            yield f"{_called(row)}: {loss}. {not_learned(_called(left), left.fits)}"
            continue
        for place, (one, before) in enumerate(zip(row.accuracies, own.accuracies, strict=True)):
            difference = row.changed[place] if row.changed else one.less(before)
            if difference.side == "unclear":
                same.append(one.under)
            else:
                told.append(f"{said(one.held)} in place of {said(before.held)} ({one.under})")
        score = score_of(one.balanced for one in row.accuracies).capitalize()
        teaches = f"{score} after training on it: {'; '.join(told)}." if told else ""
        alike = f"Not told apart: {', '.join(same)}." if same else ""
        yield " ".join(part for part in (f"{_called(row)}: {loss}.", teaches, alike) if part)


class MatchingInstrument(Instrument[MatchingSettings, MatchingResult]):
    """D_R and D_NR, matched in other ways."""

    name = "matching"
    grows = ("ways", "sets")
    Settings = MatchingSettings
    Result = MatchingResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        recipe, settings = runner.recipe, runner.recipe.instruments.matching
        if "paper" in settings.ways and _matching(recipe.matching, "paper") == recipe.matching:
            raise must("instruments.matching.ways", "be other than what [matching] has already", "paper")
        _check_part(runner)
        if "fake_relu" in settings.ways:
            new = recipe.architecture.new(runner.data, recipe.seed, recipe)
            images, _ = runner.data.train.batch(slice(1))
            try:
                fake_relu_features(new.eval(), images.to(new.device), recipe.matching.fake_relu or True)
            except InputError as error:
                remedy = "Ask for other ways of instruments.matching, or for instruments by their names."
                raise InputError(f"{error} {remedy}") from error

    def run(self, runner: Runner) -> MatchingResult:
        """Build, measure and train on every set in every way."""
        settings, data = runner.recipe.instruments.matching, _data(runner)
        ways: list[Variant] = ["itself", *dict.fromkeys(settings.ways)]
        rows = [_one(runner, data, of, way) for of in dict.fromkeys(settings.sets) for way in ways]
        rows = [
            row if row.way == "itself" else row.model_copy(update={"changed": _changed(runner, data, row)})
            for row in rows
        ]
        return MatchingResult(seed=runner.seed, test_set=runner.data.test_name, rows=rows)

    def section(self, result: MatchingResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return _section(result)
