"""D_R and D_NR matched in other ways: by the fake gradient of the last ReLU, and by the paper's own steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from notbugs.content import Cell, Section, Table
from notbugs.data import Data
from notbugs.errors import must
from notbugs.formats import ball, number, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Accuracy, Difference, Resemblance, Spread
from notbugs.seeds import derive
from notbugs.study.sections import Matching
from notbugs.study.sets import BY_NAME

if TYPE_CHECKING:
    from notbugs.study.runner import Runner

Way = Literal["fake_relu", "paper"]
Set = Literal["D_R", "D_NR"]
PAPER = Matching(method="gradient", steps=1000, step_size=0.1)
WAYS = {
    "itself": "as the recipe says",
    "fake_relu": "with the fake gradient of the last ReLU",
    "paper": "by the paper's 1000 steps of 0.1",
}


class MatchingSettings(InstrumentSettings):
    """Matched sets built again in other ways. Every one costs a set and a training, `paper` 1000 gradients an image."""

    ways: tuple[Way, ...] = Field(
        ("fake_relu",),
        min_length=1,
        description="fake_relu: gradients pass the last ReLU unchanged. paper: 1000 steps of l2 length 0.1.",
    )
    sets: tuple[Set, ...] = Field(("D_R", "D_NR"), min_length=1, description="Which sets.")
    images: int | None = Field(
        None, ge=2, description="Training images that all are built from, at most, drawn at random; all if not given."
    )


class MatchingRow(InstrumentResult):
    """One set, and the classifier trained on it."""

    of: Set = Field(description="which set it is, but for how it was matched")
    way: Literal["itself", "fake_relu", "paper"] = Field(description="how: itself as the recipe says")
    n: int = Field(ge=1, description="training images")
    loss: Spread = Field(description="distance of the features from those of the target, over the norm of these")
    l2: Spread = Field(description="from the start, pixel units")
    resemblance: Resemblance | None = Field(description="whom its images are like; null where all starts are targets")
    accuracies: list[Accuracy] = Field(description="of the classifier trained on it: clean, then robust")


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


def _matching(given: Matching, way: str) -> Matching:
    if way == "paper":
        return PAPER.model_copy(update={"fake_relu": given.fake_relu})
    return given.model_copy(update={"fake_relu": True}) if way == "fake_relu" else given


def _one(runner: Runner, data: Data, of: Set, way: Literal["itself", "fake_relu", "paper"]) -> MatchingRow:
    """The study's own set is taken where it is one of these."""
    declared, part = BY_NAME[of], "" if data is runner.data else f"_{len(data.train)}"
    is_own = way == "itself" and not part
    name = of if is_own else f"{of}_{way}{part}"
    if is_own:
        built, classifier = runner.set(of), runner.classifier(of)
    else:
        matching = _matching(runner.recipe.matching, way)
        built = runner.construct(name, declared, data=data, matching=matching, seed=derive(runner.seed, "set", of))
        classifier = runner.train(name, built.images, of)
    measured, accuracies = runner.measure(name, declared, built, data.train), runner.evaluate(name, classifier)
    loss = measured["matching_loss"]
    assert loss  # of a matched set
    return MatchingRow(
        of=of,
        way=way,
        n=len(built),
        loss=loss,
        l2=measured["l2"],
        resemblance=measured["resemblance"],
        accuracies=accuracies[: 1 + len(runner.recipe.evaluation.threats)],  # without PGD, which follows
    )


MATCHING_TEXT = (
    "Whose features a matched image has does not depend on the search alone that found it. Here are the same sets, "
    "from the same starts and targets and by the same sources, searched in other ways. The inversions of the paper's "
    "authors let gradients pass the last ReLU unchanged, so that features that are 0 get one, too; the paper's own "
    "search takes 1000 steps of l2 length 0.1. Loss: distance of the features from the target's, over the norm of the "
    "target's. Nearer to the target: images nearer to it than to their start. One training each: that two trainings "
    "differ is not in the intervals."
)


def _like(row: MatchingRow) -> list[Cell]:
    found = row.resemblance
    measures = [found.by(by) if found else None for by in ("pixels", "ssim", "robust features")]
    return [one.nearer_target if one else None for one in measures]


def _under(one: Accuracy) -> str:
    return ball(one.attack.norm, one.attack.eps) if one.attack else "clean"


def _section(result: MatchingResult) -> Section:
    sets: list[list[Cell]] = [
        [f"{row.of}, {WAYS[row.way]}", row.n, row.loss, row.l2, *_like(row)] for row in result.rows
    ]
    taught: list[list[Cell]] = [
        [f"{row.of}, {WAYS[row.way]}", *(one.share for one in row.accuracies)] for row in result.rows
    ]
    nearer = ("nearer to the target, pixels", "structure", "robust features")
    attacks = [_under(one) for one in result.rows[0].accuracies]
    return Section(
        name="matching",
        title="Features matched in other ways",
        short="Other matching",
        text=MATCHING_TEXT,
        reading=list(_reading(result)),
        tables=[
            Table("The sets", ("set", "images", "loss", "l2 from the start", *nearer), sets),
            Table("Accuracy of classifiers trained on them, on the test images", ("trained on", *attacks), taught),
        ],
    )


def _reading(result: MatchingResult) -> Iterator[str]:
    """For each set and way how it differs from the set itself: its loss, and what it teaches."""
    itself = {row.of: row for row in result.rows if row.way == "itself"}
    for row in result.rows:
        if row.way == "itself":
            continue
        own, told, same = itself[row.of], [], []
        for one, before in zip(row.accuracies, own.accuracies, strict=True):
            difference = Difference.of(one.share, before.share)
            if difference.low <= 0 <= difference.high:
                same.append(_under(one))
            else:
                told.append(f"{said(one.share)} in place of {said(before.share)} ({_under(one)})")
        teaches = f"It teaches {' and '.join(told)}." if told else ""
        alike = f"What it teaches is not told apart: {', '.join(same)}." if same else ""
        loss = f"median loss {number(row.loss.median)} in place of {number(own.loss.median)}"
        yield " ".join(part for part in (f"{row.of} {WAYS[row.way]}: {loss}.", teaches, alike) if part)


class MatchingInstrument(Instrument[MatchingSettings, MatchingResult]):
    """D_R and D_NR, matched in other ways."""

    name = "matching"
    Settings = MatchingSettings
    Result = MatchingResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        if runner.recipe.matching.fake_relu and "fake_relu" in runner.recipe.instruments.matching.ways:
            raise must("instruments.matching.ways", "be without fake_relu where [matching] has it already", "fake_relu")
        _data(runner)  # refuses a part in which a class has no image

    def run(self, runner: Runner) -> MatchingResult:
        """Build, measure and train on every set in every way."""
        settings, data = runner.recipe.instruments.matching, _data(runner)
        ways: list[Literal["itself", "fake_relu", "paper"]] = ["itself", *dict.fromkeys(settings.ways)]
        rows = [_one(runner, data, of, way) for of in dict.fromkeys(settings.sets) for way in ways]
        return MatchingResult(seed=runner.seed, test_set=runner.data.test_name, rows=rows)

    def section(self, result: MatchingResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return _section(result)
