"""`notbugs compare`: several finished studies side by side: what differs, over seeds, and image by image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue
from torch import Tensor

from notbugs.construct import CONTROLS, Control
from notbugs.errors import InputError, must
from notbugs.files import check_writable, only_writer
from notbugs.measure import (
    AttackUsed,
    Outcome,
    OverSeeds,
    PairedTest,
    Proportion,
    SeedDifference,
    holm,
    over_seeds,
    paired,
    welch,
)
from notbugs.measure.statistics import Score
from notbugs.records import Record, WholeFile, read_model, write_model
from notbugs.study.folder import Console
from notbugs.study.learned import unlearned
from notbugs.study.recipe import flat
from notbugs.study.results import KeptOutcomes, Results, Row, TrainSet, read_outcomes, read_results
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
    has_report: bool = Field(True, description="whether its page is on disk")


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


class BeyondOverSeeds(Record):
    """What a set teaches beyond one of its controls, over seeds."""

    of: str = Field(description="the set")
    control: Control
    weak_epochs: int | None = Field(description="of the weak classifier of a leakage control; null for other controls")
    score: Score = Field(description="what the differences are of: balanced accuracy where classes differ in size")
    values: list[float] = Field(description="the set less its control on images as they are, one for each seed")
    over: OverSeeds


class SeedGroup(Record):
    """Studies that are the same recipe on the same data but for the seed, and for instruments."""

    studies: list[int] = Field(description="places in `studies`, one for each seed")
    seeds: list[int]
    same_images: bool = Field(description="whether all have the same training and test images")
    drawn: list[str] = Field(description="settings of the recipe by which the seed draws images")
    rows: list[OverSeedsRow]
    beyond: list[BeyondOverSeeds] = Field(
        default=[],
        description="of every control that all of them have, where no classifier failed to learn it or its set",
    )


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

    schema_: Literal[1] = Field(default=1, alias="schema", description="version of this form")
    studies: list[ComparedStudy] = Field(description="in the order given")
    settings: list[Setting] = Field(description="that differ between studies")
    measures: list[SideBySide] = Field(description="every measure, side by side")
    groups: list[SeedGroup] = Field(description="studies that differ in the seed alone, with mean and spread")
    contrasts: list[Contrast] = Field(description="between groups of seeds")
    pairs: list[StudyPair] = Field(description="exact paired tests between studies on the same test images")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def lines(self) -> Iterator[str]:
        """What is found over seeds, a line for each accuracy."""
        for group in self.groups:
            for row in group.rows:
                yield f"{row.classifier}, {row.under}: accuracy {row.over}"


DRAWN = ("train_images", "test_images", "heldout")
"""Settings by which the seed of a recipe draws images."""


def compare(folders: Sequence[Path], out: Path, console: Console) -> Comparison:
    """Compare finished studies from their files alone, and write `compare.json` into `out`.

    Parameters
    ----------
    folders : sequence of Path
        Of two studies or more.
    out : Path
        The folder to write; what it has besides is left as it is.
    console : Console
        Told how far the work is.

    Raises
    ------
    InputError
        Before anything is written: if there are fewer than two studies, one is given twice or is not finished, or a
        file is damaged.
    """
    if len(folders) < 2:
        raise must("studies", "be two or more", [str(folder) for folder in folders])
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise must("studies", "be different folders", [str(folder) for folder in folders])
    check_writable(out)
    with console.stage(f"compare {len(folders)} studies") as progress:
        studies = []
        for number, folder in enumerate(folders, 1):
            studies.append(_Study(folder, read_results(folder / "results.json")))
            progress(number, len(folders))
        comparison = _compared(studies, out)
    with only_writer(out):
        write_model(out / "compare.json", comparison)
    return comparison


@dataclass(frozen=True)
class _Study:
    """A finished study, as its folder has it."""

    folder: Path
    results: Results

    @cached_property
    def rows(self) -> dict[Of, Row]:
        """Every accuracy; of several attacks at one radius the one that leaves least."""
        rows: dict[Of, Row] = {}
        for row in self.results.rows:
            key = _of(row)
            if key not in rows or row.accuracy < rows[key].accuracy:
                rows[key] = row
        return rows

    @cached_property
    def kept(self) -> dict[str, KeptOutcomes | None]:
        """What became of every image, by classifier."""
        names = dict.fromkeys(row.classifier for row in self.results.rows)
        return {name: read_outcomes(self.folder, name) for name in names}

    def survived(self, key: Of) -> Tensor | None:
        """Shape (image,), bool; None where it was not kept."""
        kept, row = self.kept[key.classifier], self.rows[key]
        outcome = next((item for item in kept.outcomes if item.attack == row.attack), None) if kept else None
        if outcome and not _belongs(outcome, row):
            file = self.folder / "outcomes" / f"{key.classifier}.safetensors"
            raise InputError(f"{file} does not belong to results.json beside it. Delete it to compare without it.")
        return outcome.survived if outcome else None

    def is_repeat_of(self) -> str:
        """Equal for studies that differ in their seed alone.

        Or in what was measured besides: instruments change no accuracy of a study, notes on its data are words.
        """
        study = self.results.study
        recipe = {
            name: value
            for name, value in flat(study.recipe).items()
            if name != "seed" and not name.startswith("instruments.")
        }
        data = {name: value for name, value in study.data.items() if name != "notes"}
        if _drawn(study.recipe):
            data.pop("fingerprint", None)
        return json.dumps([recipe, data], sort_keys=True)


def _compared(studies: list[_Study], out: Path) -> Comparison:
    groups = _groups(studies)
    return Comparison(
        studies=_described(studies, out),
        settings=_settings(studies),
        measures=[_side_by_side(studies, key) for key in _keys(studies)],
        groups=groups,
        contrasts=[_contrast(groups, *pair) for pair in combinations(range(len(groups)), 2)],
        pairs=_adjusted([_pair(studies, *pair) for pair in combinations(range(len(studies)), 2)]),
    )


def _described(studies: list[_Study], out: Path) -> list[ComparedStudy]:
    names = [study.folder.resolve().name for study in studies]
    labels = names if len(set(names)) == len(names) else [str(study.folder) for study in studies]
    return [_describe(study, label, out) for study, label in zip(studies, labels, strict=True)]


def _describe(study: _Study, label: str, out: Path) -> ComparedStudy:
    info, rows = study.results.study, study.results.rows
    variant = info.data.get("variant")
    return ComparedStudy(
        label=label,
        folder=os.path.relpath(study.folder, out),
        recipe=info.name,
        data=f"{info.data['name']} ({variant})" if variant else str(info.data["name"]),
        architecture=str(info.architecture["name"]),
        seed=info.seeds[0],
        train=info.data["train"],
        test=info.data["test"],
        test_set=rows[0].test_set if rows else "test",
        created=info.created,
        device=info.device,
        has_outcomes=any(study.kept.values()),
        has_report=(study.folder / "report.html").exists(),
    )


def _settings(studies: list[_Study]) -> list[Setting]:
    """Settings of the recipe first, then what the data and the machines were."""
    infos = [study.results.study for study in studies]
    machines = [{"device": info.device, "threads": info.threads, "versions": info.versions} for info in infos]
    return [
        *_differing("recipe", [info.recipe for info in infos]),
        *_differing("data", [{key: info.data[key] for key in info.data if key != "source"} for info in infos]),
        *_differing("machine", machines),
    ]


def _differing(part: Literal["recipe", "data", "machine"], of_studies: Sequence[Mapping[str, object]]) -> list[Setting]:
    levels = [flat(of_study) for of_study in of_studies]
    names = dict.fromkeys(name for level in levels for name in level)
    settings = [Setting(part=part, name=name, values=[level.get(name) for level in levels]) for name in names]
    return [setting for setting in settings if any(value != setting.values[0] for value in setting.values)]


def _keys(studies: Iterable[_Study]) -> list[Of]:
    """Every accuracy that any of them has."""
    return list(dict.fromkeys(key for study in studies for key in study.rows))


def _side_by_side(studies: list[_Study], key: Of) -> SideBySide:
    rows = [study.rows.get(key) for study in studies]
    shares = [row and Proportion(value=row.accuracy, low=row.low, high=row.high, n=row.n) for row in rows]
    return SideBySide(**dict(key), shares=shares, attacks=[row and row.attack for row in rows])


def _groups(studies: list[_Study]) -> list[SeedGroup]:
    """Of every recipe that was run with two seeds or more; a seed that was run twice counts once."""
    repeats: dict[str, dict[int, int]] = {}
    for place, study in enumerate(studies):
        repeats.setdefault(study.is_repeat_of(), {}).setdefault(study.results.study.seeds[0], place)
    groups = [_group(studies, places) for places in repeats.values() if len(places) > 1]
    return [group for group in groups if group.rows]


def _group(studies: list[_Study], places: dict[int, int]) -> SeedGroup:
    members = [studies[place] for place in places.values()]
    infos = [member.results.study for member in members]
    rows = []
    for key in _keys(members):
        if all(key in member.rows for member in members):
            accuracies = [member.rows[key].accuracy for member in members]
            rows.append(OverSeedsRow(**dict(key), values=accuracies, over=over_seeds(accuracies, within=(0, 1))))
    return SeedGroup(
        studies=list(places.values()),
        seeds=list(places),
        same_images=len({info.data.get("fingerprint") for info in infos}) == 1,
        drawn=_drawn(infos[0].recipe),
        rows=rows,
        beyond=_beyond(members),
    )


def _beyond(members: list[_Study]) -> list[BeyondOverSeeds]:
    found = [_beyond_controls(member.results) for member in members]
    shared = [key for key in found[0] if all(key in others for others in found)]
    return [
        BeyondOverSeeds(
            of=of,
            control=control,
            weak_epochs=epochs,
            score=score,
            values=values,
            over=over_seeds(values, within=(-1, 1)),
        )
        for of, control, epochs, score in shared
        for values in [[each[of, control, epochs, score] for each in found]]
    ]


def _beyond_controls(results: Results) -> dict[tuple[str, Control, int | None, Score], float]:
    """By set, kind of control, epochs of its weak classifier and score: what the study says that the set is beyond."""
    measured, left = results.instruments.controls, unlearned(results)
    if not measured:
        return {}
    return {
        (
            row.of,
            row.variant,
            row.weak_epochs,
            row.beyond.score,
        ): row.beyond.value
        for row in measured.rows
        if row.of and row.variant in CONTROLS and row.beyond and not {row.of, row.name} & left.keys()
    }


def _contrast(groups: list[SeedGroup], first: int, second: int) -> Contrast:
    mine, theirs = ({row.of: row for row in groups[place].rows} for place in (first, second))
    rows = [
        ContrastRow(**dict(key), difference=welch(mine[key].values, theirs[key].values))
        for key in mine
        if key in theirs
    ]
    return Contrast(first=first, second=second, rows=rows)


def _pair(studies: list[_Study], first: int, second: int) -> StudyPair:
    one, other = studies[first], studies[second]
    rows, untested = [], dict[str, None]()
    for key in (key for key in one.rows if key in other.rows):
        tested = _tested(one, other, key)
        if isinstance(tested, str):
            untested[tested] = None
        else:
            rows.append(tested)
    return StudyPair(first=first, second=second, rows=rows, untested=list(untested))


def _tested(one: _Study, other: _Study, key: Of) -> PairRow | str:
    """The test, or why there is none."""
    kept = one.kept[key.classifier], other.kept[key.classifier]
    if not (kept[0] and kept[1]):
        return "what became of each image is not on disk"
    if kept[0].test_images != kept[1].test_images:
        return "the test images are others"
    mine, theirs = one.survived(key), other.survived(key)
    if one.rows[key].attack != other.rows[key].attack or mine is None or theirs is None:
        return "the attacks are others"
    return PairRow(**dict(key), attack=one.rows[key].attack, test=paired(mine, theirs), adjusted=1.0)


def _adjusted(pairs: list[StudyPair]) -> list[StudyPair]:
    """With the p values of all tests adjusted together."""
    adjusted = iter(holm([row.test.p_value for pair in pairs for row in pair.rows]))
    return [
        pair.model_copy(update={"rows": [row.model_copy(update={"adjusted": next(adjusted)}) for row in pair.rows]})
        for pair in pairs
    ]


def _of(row: Row) -> Of:
    attack = row.attack
    return Of(
        classifier=row.classifier,
        train_set=row.train_set,
        training=row.training,
        norm=attack.norm if attack else None,
        eps=attack.eps if attack else 0.0,
    )


def _belongs(outcome: Outcome, row: Row) -> bool:
    return len(outcome.survived) == row.n and int(outcome.survived.sum()) == round(row.accuracy * row.n)


def _drawn(recipe: Mapping[str, object]) -> list[str]:
    return [name for name in DRAWN if recipe.get(name)]


def page(folder: Path) -> str:
    """`compare.html`, from `compare.json` alone."""
    from notbugs.report.compare import render_comparison

    return render_comparison(read_model(folder / "compare.json", Comparison, "a comparison", "comparison"))
