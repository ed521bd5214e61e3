"""How much a set teaches against the number of its images: noise may need more of them than photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from pydantic import Field

from notbugs.content import Cell, PrintedFigure, Section, Table
from notbugs.errors import must
from notbugs.formats import said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Proportion
from notbugs.measure.statistics import compare
from notbugs.seeds import generator
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


class SetSizeRow(InstrumentResult):
    """One training on a part of a set, or on all of it."""

    trained_on: str = Field(description="the set")
    n: int = Field(ge=1, description="training images: a smaller part is within a larger one")
    epochs: int = Field(ge=1, description="passes over them: a smaller part is gone through more often")
    clean: Proportion = Field(description="accuracy on the test images")


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
    return SetSizeRow(trained_on=of, n=count, epochs=epochs, clean=runner.clean(name, "set_size"))


SET_SIZE_TEXT = (
    "Classifiers trained on parts of a set, a smaller part within a larger one. A smaller part is gone through more "
    "often, so that all see as many images: what grows with the number of images is not due to longer training. A set "
    "that starts from noise has no class that could leak, so what exceeds chance is in the perturbations. One training "
    "each."
)
TITLE = "training images"


def _lines(result: SetSizeResult) -> dict[str, list[tuple[float, Proportion]]]:
    """For each line of the figure its points."""
    lines: dict[str, list[tuple[float, Proportion]]] = {}
    for row in result.rows:
        lines.setdefault(row.trained_on, []).append((row.n, row.clean))
    return lines


def _reading(result: SetSizeResult) -> Iterator[str]:
    """For each set what the fewest and the most images teach, and whether intervals tell these, or others, apart."""
    for name, points in _lines(result).items():
        (fewest, least), (most, all_of_it) = points[0], points[-1]
        orders = {compare(more, less) for (_, less), (_, more) in combinations(points, 2)}
        does = {
            "higher": "The accuracy grows with the images",
            "lower": "The accuracy falls as the images become more",
            "unclear": "The two are not told apart",
        }[compare(all_of_it, least)]
        if {"higher", "lower"} <= orders:
            does = "The accuracy grows and falls with the images"
        yield f"{name}: {said(least)} from {fewest:,.0f} images, {said(all_of_it)} from {most:,.0f}. {does}."


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
            rows += [_part(runner, name, count) for count in _counts(runner, whole) if count < whole]
            rows.append(_row(runner, name, name, whole))
        return SetSizeResult(seed=runner.seed, test_set=runner.data.test_name, rows=rows)

    def section(self, result: SetSizeResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_figure

        columns = ("trained on", "training images", "epochs", "accuracy")
        cells: list[list[Cell]] = [[row.trained_on, row.n, row.epochs, row.clean] for row in result.rows]
        caption = f"Accuracy in per cent on the test images; seed {result.seed}"
        shown = "Accuracy on the test images against the number of training images, with 95\u00a0% intervals."
        return Section(
            "set_size",
            "How much a set teaches, by its size",
            "Sizes of sets",
            SET_SIZE_TEXT,
            list(_reading(result)),
            [against_figure(shown, _lines(result), TITLE, doubles=True)],
            [Table(caption, columns, cells)],
        )

    def figures(self, result: SetSizeResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_printed

        caption = (
            "Accuracy on the test images against the number of training images of a set, as many seen in all; "
            f"bars are 95\u00a0% intervals; seed {seed}."
        )
        yield against_printed("set-size", caption, _lines(result), TITLE, doubles=True)
