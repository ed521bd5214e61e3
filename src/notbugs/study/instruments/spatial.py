"""Rotations and shifts: does robustness to small changes of pixels bring robustness to changes nobody notices?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from notbugs.content import Cell, Section, Table
from notbugs.data import Images
from notbugs.formats import number, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Step
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

    classifier: str
    accuracy: SpatialAccuracy


class SpatialResult(InstrumentResult):
    """What `results.json` has of this instrument."""

    n: int = Field(description="test images, the same for every classifier")
    training: SpatialTraining | None = Field(description="of the classifier `spatial`, standard otherwise; null: none")
    rows: list[SpatialRow]


def _work(runner: Runner, name: str, images: Images, progress: Progress) -> dict[str, Any]:
    settings = runner.recipe.instruments.spatial
    counts = settings.model_dump(include={"shifts", "angles", "tries", "steps", "restarts"})
    spatial = Spatial(settings.degrees, settings.pixels)
    accuracy = spatial_accuracy(runner.classifier(name), images, spatial, **counts, seed=runner.seed, progress=progress)
    return accuracy.model_dump()


SPATIAL_TEXT = (
    "An image that is turned a little or moved by a few pixels shows the same thing. Each classifier is under the "
    "worst of a grid of such changes, of random ones, and of a search along the gradient; the last column counts "
    "images that none of them broke. Robustness to small changes of pixels need not bring "
    "this one (Engstrom et al., 2019)."
)


def spatial_section(measured: SpatialResult) -> Section:
    """Every classifier under the three searches and the worst of them."""
    asked = measured.rows[0].accuracy
    caption = (
        f"Accuracy in per cent under rotations of at most {number(asked.degrees)} degrees and shifts of at most "
        f"{number(asked.pixels)} pixels: grid of {asked.shifts} x {asked.shifts} x {asked.angles}, {asked.tries} "
        f"random ones, gradient search of {asked.steps} steps from {asked.restarts} starts; {measured.n} test images, "
        f"seed {asked.seed}."
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
        asked = runner.recipe.instruments.spatial
        names: list[str] = list(dict.fromkeys(asked.classifiers))
        training = None
        if asked.train:
            training = SpatialTraining(degrees=asked.degrees, pixels=asked.pixels, tries=asked.train)
            settings = runner.recipe.standard.model_copy(update={"spatial": training})
            runner.train(TRAINED, runner.data.train, settings=settings, title="train with rotations and shifts")
            names.append(TRAINED)
        images = runner.data.test.sample(asked.images, runner.seed, "spatial")
        steps = [
            Step(f"spatial-{name}", f"turn and move the images of {name}", partial(_work, runner, name, images))
            for name in names
        ]
        found = runner.stages(steps)
        rows = [SpatialRow(classifier=name, accuracy=values) for name, values in zip(names, found, strict=True)]
        return SpatialResult(n=len(images), training=training, rows=rows)

    def section(self, result: SpatialResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return spatial_section(result)
