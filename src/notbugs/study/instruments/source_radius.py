"""What D_R loses: sets by robust sources of growing radius, and the classifiers trained on them, beside the sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from pydantic import Field

from notbugs.classifier import Classifier
from notbugs.content import Cell, PrintedFigure, Section, Table
from notbugs.data import Images
from notbugs.formats import Interval, Span, ball, between, number, percent, spanned
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Accuracy, Difference
from notbugs.seeds import derive
from notbugs.study.sections import step_at
from notbugs.study.sets import BY_NAME
from notbugs.threat import check_radii
from notbugs.training import Training

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class SourceRadiusSettings(InstrumentSettings):
    """D_R by robust sources of several radii. Every radius costs two trainings and a set, for each of `repeats`."""

    radii: tuple[float, ...] = Field(
        (0.25, 0.5, 1.0), min_length=1, description="Radii that the sources are trained at, pixel units."
    )
    repeats: int = Field(3, ge=1, le=20, description="Seeds: sources, new sets and classifiers for each.")
    images: int = Field(1000, ge=2, description="Images of each D_R that its source is attacked on, at most.")


class SourceRadiusRow(InstrumentResult):
    """One source, its D_R, and the classifier trained on that."""

    eps: float = Field(ge=0, description="radius of the source's training, pixel units")
    repeat: int = Field(ge=1, description="number of the repetition, each with seeds of its own")
    source: list[Accuracy] = Field(description="of the source on the test images: clean, then robust")
    on_set: list[Accuracy] = Field(description="of the source on the images of its D_R")
    taught: list[Accuracy] = Field(description="of the classifier trained on D_R, on the test images")


class SourceRadiusResult(InstrumentResult):
    """What is lost from the source to what is trained on its D_R."""

    seed: Seed
    test_set: TestSet
    rows: list[SourceRadiusRow] = Field(description="one for each classifier, set or pair")


def _training(given: Training, eps: float) -> Training:
    """Robust training at another radius; a given step grows with it."""
    adversary = given.adversary
    assert adversary  # every recipe's robust training has one
    changed = adversary.model_copy(update={"eps": eps, "step_size": step_at(adversary.step_size, adversary.eps, eps)})
    return given.model_copy(update={"adversary": changed})


def _one(runner: Runner, eps: float, repeat: int) -> SourceRadiusRow:
    end, settings = f"{eps:g}_{repeat}", _training(runner.recipe.robust, eps)
    title = f"train robust classifier {repeat} at radius {eps:g}"
    source = runner.train(f"robust_{end}", runner.data.train, "robust", settings=settings, title=title)
    seed = derive(runner.seed, "set", "D_R", repeat)
    built = runner.construct(f"D_R_{end}", BY_NAME["D_R"], source=source, seed=seed)
    classifier = runner.train(f"D_R_{end}", built.images, "D_R")
    some = built.images.sample(runner.recipe.instruments.source_radius.images, runner.seed, "source_radius")

    def measured(name: str, classifier: Classifier, images: Images) -> list[Accuracy]:
        return runner.accuracies(f"source_radius-{name}", f"measure {name}", classifier, images)

    return SourceRadiusRow(
        eps=eps,
        repeat=repeat,
        source=measured(f"source-{end}", source, runner.data.test),
        on_set=measured(f"set-{end}", source, some),
        taught=measured(f"taught-{end}", classifier, runner.data.test),
    )


SOURCE_RADIUS_TEXT = (
    "In the paper a classifier trained as usual on D_R is less robust than the source that D_R was built with. Is that "
    "the source's radius? Here are sources trained at several radii, a D_R of each, and a classifier trained on each "
    "D_R, once for each seed. The source is attacked on the images of its D_R, too: where it is robust there and the "
    "classifier is not on test images, the loss is not in what the source sees in the images."
)


def _by_radius(result: SourceRadiusResult) -> dict[float, list[SourceRadiusRow]]:
    rows: dict[float, list[SourceRadiusRow]] = {}
    for row in result.rows:
        rows.setdefault(row.eps, []).append(row)
    return rows


def _lines(result: SourceRadiusResult) -> Mapping[str, list[tuple[float, Interval]]]:
    """Robust accuracy of sources and of what they taught, a line for each at every radius of the evaluation."""
    lines: dict[str, list[tuple[float, Interval]]] = {}
    for eps, rows in _by_radius(result).items():
        for place, one in enumerate(rows[0].source):
            if one.attack:
                at = ball(one.attack.norm, one.attack.eps)
                lines.setdefault(f"source, {at}", []).append((eps, Span.of([row.source[place].share for row in rows])))
                lines.setdefault(f"D_R, {at}", []).append((eps, Span.of([row.taught[place].share for row in rows])))
    return lines


TITLE = "radius of the source's training"


def _section(result: SourceRadiusResult) -> Section:
    from notbugs.report.section_charts import against_figure

    columns = ("radius", "seed", "attack", "source", "source on its D_R", "trained on D_R", "lost")
    rows: list[list[Cell]] = [
        [f"{row.eps:g}", str(row.repeat), source.under, source.share, on_set.share, taught.share, _lost(source, taught)]
        for row in result.rows
        for source, on_set, taught in zip(row.source, row.on_set, row.taught, strict=True)
    ]
    test, some = (f"{one[0].share.n:,}" for one in (result.rows[0].source, result.rows[0].on_set))
    caption = (
        f"Accuracy in per cent, on {test} test images and {some} images of D_R; lost: points from the source to what "
        "it taught"
    )
    bars = spanned(row.repeat for row in result.rows)
    shown = f"Robust accuracy of sources and of classifiers trained on their D_R: {bars}."
    return Section(
        "source_radius",
        "What D_R loses, by the radius of its source",
        "What D_R loses",
        SOURCE_RADIUS_TEXT,
        list(_reading(result)),
        [against_figure(shown, _lines(result), TITLE)],
        [Table(caption, columns, rows, words=("attack",))],
    )


def _lost(source: Accuracy, taught: Accuracy) -> str:
    return f"{100 * (source.share.value - taught.share.value):.1f}"


def _reading(result: SourceRadiusResult) -> Iterator[str]:
    """For each radius the loss under each attack, with its range over seeds; of one, with its interval over images."""
    for eps, rows in _by_radius(result).items():
        parts = []
        for place, one in enumerate(rows[0].source):
            lost = [row.source[place].share.value - row.taught[place].share.value for row in rows]
            alone = Difference.of(one.share, rows[0].taught[place].share)
            seeds = f"{between(min(lost), max(lost))} over {len(lost)} seeds"
            spread = seeds if len(lost) > 1 else between(alone.low, alone.high)
            parts.append(f"{percent(mean(lost))} points ({spread}) {'at ' if one.attack else ''}{one.under}")
        yield f"From a source of radius {number(eps)} to what is trained on its D_R, lost are {'; '.join(parts)}."


class SourceRadiusInstrument(Instrument[SourceRadiusSettings, SourceRadiusResult]):
    """What D_R loses, against the radius of its source."""

    name = "source_radius"
    grows = ("radii",)
    Settings = SourceRadiusSettings
    Result = SourceRadiusResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        radii = sorted(set(runner.recipe.instruments.source_radius.radii))
        adversaries = [_training(runner.recipe.robust, eps).adversary for eps in radii]
        check_radii([one.threat for one in adversaries if one], runner.data.train.shape)

    def run(self, runner: Runner) -> SourceRadiusResult:
        """A source, its set and a classifier for each radius and seed."""
        settings = runner.recipe.instruments.source_radius
        places = [(eps, repeat + 1) for repeat in range(settings.repeats) for eps in sorted(set(settings.radii))]
        rows = sorted((_one(runner, *place) for place in places), key=lambda row: (row.eps, row.repeat))
        return SourceRadiusResult(seed=runner.seed, test_set=runner.data.test_name, rows=rows)

    def section(self, result: SourceRadiusResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return _section(result)

    def figures(self, result: SourceRadiusResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_printed

        caption = (
            "Robust accuracy of robust sources and of classifiers trained on their D_R, against the radius of the "
            f"source's training: {spanned(row.repeat for row in result.rows)}; seed {seed}."
        )
        yield against_printed("source-radius", caption, _lines(result), TITLE)
