"""`compare.json`: its types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from notbugs.measure import AttackUsed, OverSeeds, PairedTest, Proportion, SeedDifference
from notbugs.records import Record, WholeFile
from notbugs.study.results import TrainSet
from notbugs.threat import Norm


class ComparedStudy(Record):
    """One of the studies."""

    label: str = Field(description="its folder's name, or where two have the same, its path")
    folder: str = Field(description="seen from the folder of compare.json")
    recipe: str = Field(description="name of the recipe")
    data: str = Field(description="name of the data, with its variant")
    architecture: str
    seed: int
    train: int = Field(description="training images")
    test: int = Field(description="test images")
    test_set: str = Field(description="'test' (untouched) or 'heldout' (taken out of the training images)")
    created: str = Field(description="ISO 8601, UTC")
    device: str
    has_outcomes: bool = Field(description="whether what became of each test image is on disk")


class Setting(Record):
    """One setting that is not the same in all studies."""

    part: Literal["recipe", "data", "machine"]
    name: str
    values: list[JsonValue] = Field(description="one for each study; null: not set")


class Of(Record):
    """What an accuracy is of: a classifier, on images as they are (`norm` null) or attacked within a radius."""

    classifier: str
    train_set: TrainSet
    training: Literal["standard", "adversarial"]
    norm: Norm | None
    eps: float = Field(ge=0, description="radius, pixel units; 0 where norm is null")

    @property
    def under(self) -> str:
        """`clean`, or norm and radius: `l2 0.25`."""
        return f"{self.norm} {self.eps:g}" if self.norm else "clean"

    @property
    def of(self) -> Of:
        """This alone, without what was measured; to look others up by."""
        return Of(**{name: getattr(self, name) for name in Of.model_fields})


class SideBySide(Of):
    """One accuracy in every study."""

    shares: list[Proportion | None] = Field(description="one for each study; null: not measured there")
    attacks: list[AttackUsed | None] = Field(description="one for each study")


class OverSeedsRow(Of):
    """One accuracy over seeds."""

    values: list[float] = Field(description="one for each seed")
    over: OverSeeds


class SeedGroup(Record):
    """Studies that are the same recipe on the same data but for the seed."""

    studies: list[int] = Field(description="places in `studies`, one for each seed")
    seeds: list[int]
    same_images: bool = Field(description="whether all have the same training and test images")
    drawn: list[str] = Field(description="settings of the recipe by which the seed draws images")
    rows: list[OverSeedsRow]


class ContrastRow(Of):
    """One accuracy, mean over the first group's seeds minus mean over the second's."""

    difference: SeedDifference


class Contrast(Record):
    """Two groups of seeds."""

    first: int = Field(description="place in `groups`")
    second: int
    rows: list[ContrastRow]


class PairRow(Of):
    """One accuracy of two studies, on the same images under the same attack."""

    attack: AttackUsed | None
    test: PairedTest
    adjusted: float = Field(ge=0, le=1, description="p value, adjusted for all tests of the comparison (Holm 1979)")


class StudyPair(Record):
    """Two studies, image by image."""

    first: int = Field(description="place in `studies`")
    second: int
    rows: list[PairRow]
    untested: list[str] = Field(description="why some or all accuracies could not be tested in pairs")


class Comparison(WholeFile):
    """The whole of `compare.json`."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    studies: list[ComparedStudy]
    settings: list[Setting]
    measures: list[SideBySide]
    groups: list[SeedGroup]
    contrasts: list[Contrast]
    pairs: list[StudyPair]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def lines(self) -> Iterator[str]:
        """What is found over seeds, a line for each accuracy."""
        for group in self.groups:
            for row in group.rows:
                yield f"{row.classifier}, {row.under}: accuracy {row.over}"
