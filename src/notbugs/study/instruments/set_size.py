"""How much a set teaches against the number of its images: noise may need more of them than photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import Field

from notbugs.content import Cell, PrintedFigure, Section, Table
from notbugs.errors import must
from notbugs.formats import said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Accuracy, Difference, Proportion
from notbugs.measure.statistics import Score, score_of
from notbugs.seeds import generator
from notbugs.study.learned import LearnedSet, first_unlearned, not_learned, success_of
from notbugs.study.sets import Constructed
from notbugs.training.loop import check_training

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class SetSizeSettings(InstrumentSettings):
    """Training on parts of sets. Each part costs a training that goes through as many images as that on the whole."""

    shares: tuple[float, ...] = Field((0.125, 0.25, 0.5), min_length=1, description="Parts of each set, below 1.")
    sets: tuple[Constructed, ...] = Field(
        (), description="Sets of the study; D_rand and those that start from noise if none given."
    )


class SetSizeRow(LearnedSet):
    """One training on a part of a set, or on all of it."""

    trained_on: str = Field(description="the set")
    n: int = Field(ge=1, description="training images: a smaller part is within a larger one")
    epochs: int = Field(ge=1, description="passes over them: a smaller part is gone through more often")
    clean: Proportion = Field(description="accuracy on the test images")
    balanced: Proportion | None = Field(
        None, description="balanced accuracy on the test images; null where classes differ little in size"
    )
    gained: list[Difference] = Field(
        [],
        description="its accuracy, or the balanced one, less that of each smaller part, from the smallest on; none in "
        "studies of older versions",
    )

    @property
    def accuracy(self) -> Accuracy:
        """On the test images as they are."""
        return Accuracy(attack=None, share=self.clean, balanced=self.balanced)


class SetSizeResult(InstrumentResult):
    """Accuracy against the number of training images."""

    seed: Seed
    test_set: TestSet
    rows: list[SetSizeRow] = Field(description="one for each set and number of images")


def _sets(runner: Runner) -> list[str]:
    from_noise = [name for name in ("D_rand_uniform", "D_rand_gaussian") if name in runner.recipe.sets]
    return list(dict.fromkeys(runner.recipe.instruments.set_size.sets)) or ["D_rand", *from_noise]


def _counts(runner: Runner, images: int) -> list[int]:
    """How many images the parts have; batch norm wants two."""
    return sorted({max(2, round(share * images)) for share in runner.recipe.instruments.set_size.shares})


def _part(runner: Runner, name: str, count: int) -> SetSizeRow:
    images, training = runner.set(name).images, runner.recipe.training(name)
    epochs = max(1, round(training.epochs * len(images) / count))
    order = torch.randperm(len(images), generator=generator(runner.seed, "set size"))
    called = f"{name}_{count}"
    runner.train(
        called,
        images.subset(order[:count].sort().values),
        name,
        settings=training.model_copy(update={"epochs": epochs}),
        title=f"train on {count:,} images of {name}",
    )
    return _row(runner, name, called, count)


def _row(runner: Runner, of: str, name: str, count: int) -> SetSizeRow:
    trained = runner.trained.get(name)  # missing in studies of older versions
    epochs = trained.epochs if trained else runner.recipe.training(of).epochs
    clean, built = runner.clean(name, "set_size"), runner.set(of)
    return SetSizeRow(
        trained_on=of,
        n=count,
        epochs=epochs,
        clean=clean.share,
        balanced=clean.balanced,
        success=success_of(built),
        fits=runner.fits.get(name),
    )


SET_SIZE_TEXT = (
    "Classifiers trained on parts of a set, a smaller part within a larger one. A smaller part is gone through more "
    "often, so that all see as many images: what grows with the number of images is not due to longer training. A set "
    "that starts from noise has no class that could leak, so what exceeds chance is in the perturbations. One training "
    "each."
)
TITLE = "training images"


def _with_gains(runner: Runner, of: str, rows: Sequence[SetSizeRow]) -> Iterator[SetSizeRow]:
    """The rows of one set, the whole of it last, each held against all before it."""
    names = [*(f"{of}_{row.n}" for row in rows[:-1]), of]
    for place, row in enumerate(rows):
        gained = [
            runner.less(names[place], name, (row.accuracy, smaller.accuracy))
            for name, smaller in zip(names[:place], rows, strict=False)
        ]
        yield row.model_copy(update={"gained": gained})


def _by_set(result: SetSizeResult) -> dict[str, list[SetSizeRow]]:
    rows: dict[str, list[SetSizeRow]] = {}
    for row in result.rows:
        rows.setdefault(row.trained_on, []).append(row)
    return rows


def _lines(result: SetSizeResult) -> dict[str, list[tuple[float, Proportion]]]:
    """For each line of the figure its points."""
    return {name: [(row.n, row.accuracy.held) for row in rows] for name, rows in _by_set(result).items()}


def _score(result: SetSizeResult) -> Score:
    return score_of(row.balanced for row in result.rows)


def _reading(result: SetSizeResult) -> Iterator[str]:
    """For each set what the fewest and the most images teach, and whether intervals tell these, or others, apart.

    A part that its classifier did not learn says nothing.
    """
    score = _score(result)
    for name, rows in _by_set(result).items():
        if left := first_unlearned(rows):
            yield not_learned(f"{name} of {left.n:,} images", left.fits)
            continue
        gained = [
            row.gained or [row.accuracy.less(one.accuracy) for one in rows[:place]] for place, row in enumerate(rows)
        ]
        sides = {one.side for differences in gained for one in differences}
        does = {
            "more": f"The {score} grows with the images",
            "less": f"The {score} falls as the images become more",
            "unclear": "The two are not told apart",
        }[gained[-1][0].side if gained[-1] else "unclear"]
        if {"more", "less"} <= sides:
            does = f"The {score} grows and falls with the images"
        least, most = (said(row.accuracy.held) for row in (rows[0], rows[-1]))
        yield f"{name}: {least} from {rows[0].n:,} images, {most} from {rows[-1].n:,}. {does}."


class SetSizeInstrument(Instrument[SetSizeSettings, SetSizeResult]):
    """What a set teaches against the number of its images."""

    name = "set_size"
    Settings = SetSizeSettings
    Result = SetSizeResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        settings, train = runner.recipe.instruments.set_size, runner.data.train
        for share in settings.shares:
            if not 0 < share < 1:
                rule = "be above 0 and below 1, parts of a set; the whole set is measured anyway"
                raise must("instruments.set_size.shares", rule, share)
        for name in _sets(runner):
            check_training(runner.recipe.training(name), train, min(_counts(runner, len(train))))

    def run(self, runner: Runner) -> SetSizeResult:
        """Train on parts of every set, and measure what was trained on the whole."""
        rows = []
        for name in _sets(runner):
            whole = len(runner.set(name))
            parts = [_part(runner, name, count) for count in _counts(runner, whole) if count < whole]
            rows += _with_gains(runner, name, [*parts, _row(runner, name, name, whole)])
        return SetSizeResult(seed=runner.seed, test_set=runner.data.test_name, rows=rows)

    def section(self, result: SetSizeResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_figure

        score = _score(result)
        is_uneven = score == "balanced accuracy"
        columns = ("trained on", "training images", "epochs", "accuracy", *((score,) if is_uneven else ()))
        cells: list[list[Cell]] = [
            [row.trained_on, row.n, row.epochs, row.clean, *((row.balanced,) if is_uneven else ())]
            for row in result.rows
        ]
        caption = f"Accuracy in per cent on the test images; seed {result.seed}"
        shown = (
            f"{score.capitalize()} on the test images against the number of training images, with 95\u00a0% intervals."
        )
        return Section(
            "set_size",
            "How much a set teaches, by its size",
            "Sizes of sets",
            SET_SIZE_TEXT,
            list(_reading(result)),
            [against_figure(shown, _lines(result), TITLE, doubles=True, score=score)],
            [Table(caption, columns, cells)],
        )

    def figures(self, result: SetSizeResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_printed

        caption = (
            f"{_score(result).capitalize()} on the test images against the number of training images of a set, as many "
            f"seen in all; bars are 95\u00a0% intervals; seed {seed}."
        )
        yield against_printed("set-size", caption, _lines(result), TITLE, doubles=True, score=_score(result))
