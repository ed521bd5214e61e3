"""Where features that generalise live: what is learned from low and from high frequencies, against the cut-off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from notbugs.content import Cell, PrintedFigure, Section, Table
from notbugs.data import Images
from notbugs.errors import must
from notbugs.formats import number, said
from notbugs.frequency import SIDES, Side, half_of, high_pass, low_pass
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Accuracy, Difference, Proportion, evaluate
from notbugs.measure.statistics import Score, score_of
from notbugs.progress import Progress
from notbugs.seeds import derive
from notbugs.study.learned import LearnedSet, first_unlearned, not_learned, success_of
from notbugs.study.sets import BY_NAME
from notbugs.training.loop import check_training

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class FrequenciesSettings(InstrumentSettings):
    """Training on filtered images, and on sets whose perturbations are confined to a band. Each point is a training."""

    cutoffs: tuple[float, ...] = Field(
        (),
        description="Cycles per image; a quarter, half and three quarters of the highest along an axis if none given.",
    )
    sets: tuple[Literal["D_rand", "D_det"], ...] = Field(
        ("D_det",), description="Sets that are built with low, and with high frequencies alone."
    )
    filtered: bool = Field(True, description="Whether filtered training images are trained on, too.")
    images: int = Field(50_000, ge=2, description="Training images that are filtered, at most.")


TrainedOn = Literal["D", "D_rand", "D_det"]


class FrequencyRow(LearnedSet):
    """One training at one cut-off."""

    trained_on: TrainedOn = Field(description="D: filtered training images; a set: perturbations in the band")
    side: Side = Field(description="low: frequencies up to the cut-off; high: above it")
    cutoff: float = Field(description="cycles per image")
    n: int = Field(ge=1, description="training images")
    clean: Proportion = Field(description="accuracy on the test images")
    filtered: Proportion | None = Field(description="accuracy on test images filtered alike; null for sets")
    balanced: Proportion | None = Field(
        None, description="balanced accuracy on the test images; null where classes differ little in size"
    )
    filtered_balanced: Proportion | None = Field(None, description="the same on test images filtered alike")
    beyond: Difference | None = Field(
        None,
        description="accuracy on the test images, or the balanced one, less that of the high frequencies; null for "
        "these, and in studies of older versions",
    )

    @property
    def accuracy(self) -> Accuracy:
        """On the test images as they are."""
        return Accuracy(attack=None, share=self.clean, balanced=self.balanced)


class FrequenciesResult(InstrumentResult):
    """Accuracy against cut-off."""

    highest: float = Field(description="the highest frequency along the shorter side, cycles per image")
    seed: Seed
    test_set: TestSet
    rows: list[FrequencyRow] = Field(description="one for each classifier, set or pair")


def _cutoffs(runner: Runner) -> list[float]:
    half = half_of(min(runner.data.train.shape[1:]))
    return sorted(set(runner.recipe.instruments.frequencies.cutoffs or (half / 2, half, 1.5 * half)))


def filtered(images: Images, side: Side, cutoff: float) -> Images:
    """Images with frequencies of one side alone, and their mean grey, clipped to [0, 1]."""
    passes = low_pass if side == "low" else high_pass
    parts = torch.arange(len(images)).split(2000)
    pixels = torch.cat([passes(images.batch(part)[0], cutoff).clamp(0, 1) for part in parts])
    return Images(pixels, images.labels)


Both = tuple[Accuracy, Accuracy] | tuple[Proportion, Proportion]
"""On whole test images, and on those filtered alike; in studies of older versions the shares alone."""


def _of_images(runner: Runner, side: Side, cutoff: float) -> FrequencyRow:
    name, test = f"D_{side}_{cutoff:g}", runner.data.test
    train = runner.data.train.sample(runner.recipe.instruments.frequencies.images, runner.seed, "frequencies")
    classifier = runner.train(name, filtered(train, side, cutoff), "standard", title=f"train on {name}")

    def work(progress: Progress) -> Both:
        return runner.known(name).accuracy, evaluate(classifier, filtered(test, side, cutoff), doubted=False)[0]

    kept = runner.stage(f"frequencies-{name}", f"measure {name}", work, leaves=runner.outcomes_file(name), kind=Both)
    clean, alike = (Accuracy(attack=None, share=one) if isinstance(one, Proportion) else one for one in kept)
    return FrequencyRow(
        trained_on="D",
        side=side,
        cutoff=cutoff,
        n=len(train),
        success=None,
        clean=clean.share,
        filtered=alike.share,
        balanced=clean.balanced,
        filtered_balanced=alike.balanced,
        fits=runner.fits.get(name),
    )


def _of_set(runner: Runner, of: Literal["D_rand", "D_det"], side: Side, cutoff: float) -> FrequencyRow:
    name = f"{of}_{side}_{cutoff:g}"
    built = runner.construct(name, BY_NAME[f"{of}_{side}"], cutoff=cutoff, seed=derive(runner.seed, "set", of))
    runner.train(name, built.images, of)
    clean = runner.clean(name, "frequencies")
    return FrequencyRow(
        trained_on=of,
        side=side,
        cutoff=cutoff,
        n=len(built),
        success=success_of(built),
        clean=clean.share,
        filtered=None,
        balanced=clean.balanced,
        fits=runner.fits.get(name),
    )


def _beside(runner: Runner, low: FrequencyRow, high: FrequencyRow) -> list[FrequencyRow]:
    """Both, at one cut-off, and how far the low frequencies go beyond the high ones."""
    name, other = (f"{row.trained_on}_{row.side}_{row.cutoff:g}" for row in (low, high))
    beyond = runner.less(name, other, (low.accuracy, high.accuracy))
    return [low.model_copy(update={"beyond": beyond}), high]


FREQUENCIES_TEXT = (
    "Training images filtered to low or to high spatial frequencies, and sets whose perturbations are confined to "
    "them in the search, each at several cut-offs. What a classifier then knows of whole test images says where the "
    "features are that generalise. High-pass images keep their mean grey. A perturbation that may use fewer "
    "frequencies moves the source less, too: beside the accuracy stands how often the source gives the label. One "
    "training each."
)


def _lines(result: FrequenciesResult) -> dict[str, list[tuple[float, Proportion]]]:
    """For each line of the figure its points."""
    lines: dict[str, list[tuple[float, Proportion]]] = {}
    for row in result.rows:
        lines.setdefault(f"{row.trained_on}, {row.side}", []).append((row.cutoff, row.accuracy.held))
    return lines


TITLE = "cut-off, cycles per image"


def _section(result: FrequenciesResult) -> Section:
    from notbugs.report.section_charts import against_figure

    score, is_uneven = _score(result), _score(result) == "balanced accuracy"
    columns = (
        *("trained on", "frequencies", "cut-off", "training images", "source gives the label", "accuracy", "filtered"),
        *(("balanced accuracy", "filtered, balanced") if is_uneven else ()),
    )
    rows: list[list[Cell]] = [
        [row.trained_on, row.side, row.cutoff, row.n, row.success, row.clean, row.filtered] for row in result.rows
    ]
    if is_uneven:
        for cells, row in zip(rows, result.rows, strict=True):
            cells += [row.balanced, row.filtered_balanced]
    caption = (
        "Accuracy in per cent on the test images, and for filtered images on test images filtered alike; the highest "
        f"frequency along an axis is {number(result.highest)} cycles per image; seed {result.seed}"
    )
    lines = _lines(result)
    shown = f"{score.capitalize()} on the test images against the cut-off, with 95\u00a0% intervals."
    return Section(
        "frequencies",
        "Low and high frequencies",
        "Frequencies",
        FREQUENCIES_TEXT,
        list(_reading(result)),
        [against_figure(shown, lines, TITLE, score=score)],
        [Table(caption, columns, rows, words=("frequencies",))],
    )


def _score(result: FrequenciesResult) -> Score:
    return score_of(row.balanced for row in result.rows)


def _reading(result: FrequenciesResult) -> Iterator[str]:
    """For each set and cut-off, which half teaches more, where intervals tell them apart and both were learned."""
    of = {(row.trained_on, row.cutoff, row.side): row for row in result.rows}
    for trained_on, cutoff in dict.fromkeys((row.trained_on, row.cutoff) for row in result.rows):
        low, high = (of[trained_on, cutoff, side] for side in SIDES)
        if left := first_unlearned((low, high)):
            yield not_learned(f"{trained_on}, {left.side}, at {number(cutoff)} cycles per image", left.fits)
            continue
        beyond = low.beyond or low.accuracy.less(high.accuracy)
        told = {"more": "low", "less": "high", "unclear": ""}[beyond.side]
        what = "D, filtered," if trained_on == "D" else trained_on
        more = f"the {told} ones teach more" if told else "the two are not told apart"
        both = f"{said(low.accuracy.held)} from low, {said(high.accuracy.held)} from high"
        yield f"{what} at {number(cutoff)} cycles per image: {both}; {more}."


class FrequenciesInstrument(Instrument[FrequenciesSettings, FrequenciesResult]):
    """What is learned from low and from high frequencies."""

    name = "frequencies"
    grows = ("sets",)
    Settings = FrequenciesSettings
    Result = FrequenciesResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        highest = 2 * half_of(min(runner.data.train.shape[1:]))
        for cutoff in _cutoffs(runner):
            if not 0 < cutoff <= highest:
                rule = f"be above 0 and at most {highest:g}, the highest frequency along an axis"
                raise must("instruments.frequencies.cutoffs", rule, cutoff)
        settings, train = runner.recipe.instruments.frequencies, runner.data.train
        if settings.filtered:
            check_training(runner.recipe.standard, train, min(settings.images, len(train)))

    def run(self, runner: Runner) -> FrequenciesResult:
        """Filter, build and train, at every cut-off."""
        settings, rows = runner.recipe.instruments.frequencies, []
        for cutoff in _cutoffs(runner):
            if settings.filtered:
                rows += _beside(runner, *(_of_images(runner, side, cutoff) for side in SIDES))
            for of in dict.fromkeys(settings.sets):
                rows += _beside(runner, *(_of_set(runner, of, side, cutoff) for side in SIDES))
        rows.sort(key=lambda row: (row.trained_on, row.cutoff))
        highest = 2 * half_of(min(runner.data.train.shape[1:]))
        return FrequenciesResult(highest=highest, seed=runner.seed, test_set=runner.data.test_name, rows=rows)

    def section(self, result: FrequenciesResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return _section(result)

    def figures(self, result: FrequenciesResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_printed

        caption = (
            f"{_score(result).capitalize()} on the test images after training on low or on high frequencies alone, "
            f"against the cut-off; bars are 95\u00a0% intervals; seed {seed}."
        )
        yield against_printed("frequencies", caption, _lines(result), TITLE, score=_score(result))
