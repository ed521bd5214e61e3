"""Common corruptions, and high- and low-pass filters: which kinds of change each kind of feature survives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator
from typing_extensions import TypedDict

from notbugs.content import Cell, Section, Table
from notbugs.data import CORRUPTIONS, Images
from notbugs.errors import check_choice
from notbugs.formats import number
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, InStudy
from notbugs.measure import (
    CorruptionAccuracy,
    FilterAccuracy,
    Proportion,
    corruption_accuracy,
    filter_accuracy,
    predictions,
)
from notbugs.progress import Progress, silent
from notbugs.study.sets import EVERY, Trained

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class CorruptionsSettings(InstrumentSettings):
    """Accuracy under common corruptions, and on what passes high- and low-pass filters."""

    classifiers: tuple[Trained, ...] = Field(EVERY, description="Which ones.")
    images: int = Field(500, ge=1, description="Test images, drawn at random; the same for every classifier.")
    names: tuple[str, ...] = Field(tuple(CORRUPTIONS), description="Which corruptions.")
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field((1, 3, 5), description="Of each, 1 to 5.")
    cutoffs: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (1, 2, 3, 4, 6, 8, 12, 16), description="Of the filters, cycles per image."
    )

    @field_validator("names")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_choice("names", name, CORRUPTIONS) for name in names)


class CorruptionRow(InstrumentResult):
    """One classifier."""

    classifier: InStudy
    clean: Proportion = Field(description="accuracy on the images as they are")
    corruptions: list[CorruptionAccuracy] = Field(description="accuracy under each corruption and severity")
    filters: list[FilterAccuracy] = Field(description="accuracy on filtered images, by cut-off")


class CorruptionsResult(InstrumentResult):
    """What `results.json` has of this instrument."""

    n: int = Field(description="test images, the same for every classifier")
    rows: list[CorruptionRow] = Field(description="one for each classifier, set or pair")


class Measured(TypedDict):
    """Of one classifier."""

    clean: Proportion
    corruptions: list[CorruptionAccuracy]
    filters: list[FilterAccuracy]


def _work(runner: Runner, images: Images, name: str, progress: Progress) -> Measured:
    settings, classifier = runner.recipe.instruments.corruptions, runner.classifier(name)
    clean = Proportion.of(predictions(classifier, images) == images.labels)
    corrupted = corruption_accuracy(
        classifier, images, names=settings.names, severities=settings.severities, seed=runner.seed, progress=progress
    )
    filtered = filter_accuracy(classifier, images, settings.cutoffs, progress=silent)
    return {"clean": clean, "corruptions": corrupted, "filters": filtered}


CORRUPTIONS_TEXT = (
    "Common corruptions in the manner of CIFAR-10-C (Hendrycks and Dietterich, 2019), in strengths of our own for "
    "images of this size, and what is left of an image below or above a spatial frequency. Robust training often helps "
    "where a change is fine-grained and hurts where it is coarse, as fog or contrast are."
)


def corruptions_section(measured: CorruptionsResult) -> Section:
    """A row a corruption or filter, a column a classifier."""
    columns = ("images", *(row.classifier for row in measured.rows))
    clean: list[Cell] = ["none", *(row.clean for row in measured.rows)]
    first = measured.rows[0]
    corrupted: list[list[Cell]] = [
        [
            f"{item.corruption.replace('_', ' ')}, severity {item.severity}",
            *(row.corruptions[index].share for row in measured.rows),
        ]
        for index, item in enumerate(first.corruptions)
    ]
    filtered: list[list[Cell]] = [
        [_filter(item), *(row.filters[index].share for row in measured.rows)]
        for index, item in enumerate(first.filters)
    ]
    caption = f"Accuracy in per cent, {measured.n} test images"
    tables = [
        Table(f"{caption}, by corruption; severities from 1 to 5", columns, [clean, *corrupted]),
        Table(f"{caption}, by filter; cutoffs in cycles per image", columns, [clean, *filtered]),
    ]
    return Section("corruptions", "Corruptions and filters", "Corruptions", CORRUPTIONS_TEXT, tables=tables)


def _filter(item: FilterAccuracy) -> str:
    return f"{item.passes} pass, {'up to' if item.passes == 'low' else 'above'} {number(item.cutoff)}"


class CorruptionsInstrument(Instrument[CorruptionsSettings, CorruptionsResult]):
    """Accuracy under common corruptions and filters."""

    name = "corruptions"
    Settings = CorruptionsSettings
    Result = CorruptionsResult

    def run(self, runner: Runner) -> CorruptionsResult:
        """Every classifier asked for, one stage each."""
        settings = runner.recipe.instruments.corruptions
        names = list(dict.fromkeys(settings.classifiers))
        images = runner.data.test.sample(settings.images, runner.seed, "corruptions")
        work, title = partial(_work, runner, images), "corrupt the images of"
        measured = runner.of_each(names, "corruptions", title, work, kind=Measured)
        rows = [CorruptionRow(classifier=name, **of_one) for name, of_one in measured.items()]
        return CorruptionsResult(n=len(images), rows=rows)

    def section(self, result: CorruptionsResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return corruptions_section(result)
