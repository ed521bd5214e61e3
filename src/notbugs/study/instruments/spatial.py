"""Rotations and shifts: does robustness to small changes of pixels bring robustness to changes nobody notices?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from notbugs.content import Cell, Section, Table
from notbugs.data import Images
from notbugs.formats import number, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, InStudy
from notbugs.measure import SpatialAccuracy, spatial_accuracy
from notbugs.progress import Progress
from notbugs.study.sets import EVERY, Trained
from notbugs.threat import Spatial
from notbugs.training import SpatialTraining

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class SpatialSettings(InstrumentSettings):
    """Accuracy under rotations and shifts, and of a classifier that is trained with them."""

    classifiers: tuple[Trained, ...] = Field(EVERY, description="Which ones.")
    images: int = Field(300, ge=1, description="Test images, drawn at random; the same for every classifier.")
    degrees: float = Field(30.0, ge=0, le=180, allow_inf_nan=False, description="Largest rotation, either way.")
    pixels: float = Field(3.0, ge=0, allow_inf_nan=False, description="Largest shift, either way along each axis.")
    shifts: int = Field(5, ge=1, description="Of the grid, along each axis.")
    angles: int = Field(31, ge=1, description="Of the grid, which is the paper's unless changed.")
    tries: int = Field(10, ge=1, description="Random transformations of every image.")
    steps: int = Field(10, ge=1, description="Of the gradient search.")
    restarts: int = Field(3, ge=1, description="Of the gradient search; the first starts at the identity.")
    train: int = Field(
        0,
        ge=0,
        description="Train one more classifier on the worst of so many transformations of every image.",
    )


TRAINED = "spatial"
"""Name of the classifier that is trained with rotations and shifts."""


class SpatialRow(InstrumentResult):
    """One classifier."""

    classifier: InStudy
    accuracy: SpatialAccuracy = Field(description="by grid, random transformations and gradient search")


class SpatialResult(InstrumentResult):
    """What `results.json` has of this instrument."""

    n: int = Field(description="test images, the same for every classifier")
    training: SpatialTraining | None = Field(description="of the classifier `spatial`, standard otherwise; null: none")
    rows: list[SpatialRow] = Field(description="one for each classifier, set or pair")


def _work(runner: Runner, images: Images, name: str, progress: Progress) -> SpatialAccuracy:
    settings = runner.recipe.instruments.spatial
    return spatial_accuracy(
        runner.classifier(name),
        images,
        Spatial(settings.degrees, settings.pixels),
        shifts=settings.shifts,
        angles=settings.angles,
        tries=settings.tries,
        steps=settings.steps,
        restarts=settings.restarts,
        seed=runner.seed,
        progress=progress,
    )


SPATIAL_TEXT = (
    "An image that is turned a little or moved by a few pixels shows the same thing. Each classifier is under the "
    "worst of a grid of such changes, of random ones, and of a search along the gradient; the last column counts "
    "images that none of them broke. Robustness to small changes of pixels need not bring "
    "this one (Engstrom et al., 2019)."
)


def spatial_section(measured: SpatialResult) -> Section:
    """Every classifier under the three searches and the worst of them."""
    first = measured.rows[0].accuracy
    caption = (
        f"Accuracy in per cent under rotations of at most {number(first.degrees)} degrees and shifts of at most "
        f"{number(first.pixels)} pixels: grid of {first.shifts} x {first.shifts} x {first.angles}, {first.tries} "
        f"random ones, gradient search of {first.steps} steps from {first.restarts} starts; {measured.n} test images, "
        f"seed {first.seed}."
    )
    columns = ("classifier", "clean", "grid", "random", "gradient", "worst")
    rows: list[list[Cell]] = [
        [row.classifier, *(getattr(row.accuracy, name) for name in columns[1:])] for row in measured.rows
    ]
    reading = []
    if measured.training:
        trained = next(row.accuracy.worst for row in measured.rows if row.classifier == "spatial")
        reading.append(
            f"The classifier “spatial” was trained on the worst of {measured.training.tries} random changes of each "
            f"image: it keeps {said(trained)}."
        )
    tables = [Table(caption, columns, rows)]
    return Section("spatial", "Rotations and shifts", "Rotations", SPATIAL_TEXT, reading, tables=tables)


class SpatialInstrument(Instrument[SpatialSettings, SpatialResult]):
    """Accuracy under rotations and shifts."""

    name = "spatial"
    Settings = SpatialSettings
    Result = SpatialResult

    def run(self, runner: Runner) -> SpatialResult:
        """Every classifier asked for, one stage each; before them the one that is trained with transformations."""
        settings = runner.recipe.instruments.spatial
        names: list[str] = list(dict.fromkeys(settings.classifiers))
        turning = None
        if settings.train:
            turning = SpatialTraining(degrees=settings.degrees, pixels=settings.pixels, tries=settings.train)
            training = runner.recipe.standard.model_copy(update={"spatial": turning})
            runner.train(TRAINED, runner.data.train, settings=training, title="train with rotations and shifts")
            names.append(TRAINED)
        images = runner.data.test.sample(settings.images, runner.seed, "spatial")
        work, title = partial(_work, runner, images), "turn and move the images of"
        accuracies = runner.of_each(names, "spatial", title, work, kind=SpatialAccuracy)
        rows = [SpatialRow(classifier=name, accuracy=accuracy) for name, accuracy in accuracies.items()]
        return SpatialResult(n=len(images), training=turning, rows=rows)

    def section(self, result: SpatialResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return spatial_section(result)
