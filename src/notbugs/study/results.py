"""`results.json`: its types, the JSON schema made from them, and `outcomes/`, what became of every test image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from notbugs import files
from notbugs.data import Images
from notbugs.errors import InputError, in_one_line
from notbugs.files import Damaged, check_tensors, warn_unchecked, write_tensors
from notbugs.measure import Accuracy, AttackUsed, Outcome, Proportion, Spread
from notbugs.measure.likeness import PerturbationSize, Resemblance
from notbugs.measure.unbalanced import Area
from notbugs.records import Record, WholeFile, read_model
from notbugs.shown import Tabular, frame
from notbugs.study.instruments import Measured
from notbugs.study.sets import Constructed
from notbugs.study.sets import TrainSet as TrainSet
from notbugs.threat import Norm
from notbugs.training import Trained

if TYPE_CHECKING:
    import pandas as pd


class Row(Record):
    """One measured accuracy with its 95 % Wilson interval."""

    train_set: TrainSet = Field(description="what it was trained on")
    training: Literal["standard", "adversarial"] = Field(description="how it was trained")
    classifier: str = Field(description="the stage that trained it: standard, independent, robust, D_R, ...")
    architecture: str = Field(description="its name, and its options where classifiers of the study have several")
    test_set: str = Field(description="'test' (untouched) or 'heldout' (taken out of the training images)")
    attack: AttackUsed | None = Field(description="null: clean accuracy")
    accuracy: float = Field(ge=0, le=1, description="share of test images classified correctly, under the row's attack")
    low: float = Field(ge=0, le=1, description="lower end of its interval")
    high: float = Field(ge=0, le=1, description="upper end of its interval")
    n: int = Field(ge=1, description="how many images it is of")
    seed: int = Field(description="of the study")
    broken: dict[str, int] = Field({}, description="images, by the part of the attack that broke them first, in order")
    balanced: Proportion | None = Field(
        None,
        description="balanced accuracy: every class counts the same; null where classes are of like size",
    )
    area: Area | None = Field(
        None, description="under ROC, of the worst logits found; null but where one of two classes has under a fifth"
    )

    @property
    def measured(self) -> Accuracy:
        """The accuracy, as `evaluate` returns it."""
        return Accuracy(
            attack=self.attack, share=self.share, broken=self.broken, balanced=self.balanced, area=self.area
        )

    @property
    def share(self) -> Proportion:
        """The accuracy with its interval, as one."""
        return Proportion(value=self.accuracy, low=self.low, high=self.high, n=self.n)


class SetProperties(Record):
    """One constructed set with its measured properties.

    "Success" is always the share of images that a classifier gives the label the set trains with.
    """

    name: Constructed = Field(description="its name")
    folder: str = Field(description="inside the study's folder")
    kind: Literal["matched", "relabelled"] = Field(description="by feature matching, or relabelled")
    source: str = Field(description="the classifier it was built with: standard or robust")
    targets: Literal["any", "other", "next"] | None = Field(description="null for matched sets")
    n: int = Field(description="how many images it is of")
    settings: dict[str, Any] = Field(description="threat and schedule of the search, in pixel units")
    kept_label: Proportion = Field(description="images whose label is the label of the image it started from")
    success_source: Proportion = Field(description="images that the source classifies as their new label")
    success_source_changed: Proportion | None = Field(
        description="success_source among images whose label differs from the label of their start"
    )
    success_independent: Proportion = Field(description="on an independently trained standard classifier")
    success_8bit: Proportion = Field(description="on the source, after rounding to 8 bits")
    rises_source: Proportion | None = Field(
        None,
        description="images, of at most 2,000 whose start has another label, whose label is the output of the source "
        "that rises most from their start to them; null in studies of older versions",
    )
    rises_independent: Proportion | None = Field(
        None, description="the same on a standard classifier that was trained independently"
    )
    success_augmented: Proportion = Field(description="on the source, under the training augmentation")
    l2: Spread = Field(description="l2 distance to the start image")
    linf: Spread = Field(description="largest pixel change")
    matching_loss: Spread | None = Field(
        description="||g(x) - g(target)|| / ||g(target)|| at the end; null for relabelled sets"
    )
    distance_to_target: Spread | None = Field(
        description="||x - target|| / ||start - target||: 1 untouched, 0 when the target image is reproduced"
    )
    resemblance: Resemblance | None = Field(
        None, description="which image it resembles, its start or its target; null where it was not measured"
    )
    perturbation: PerturbationSize | None = Field(
        None, description="how large perturbations are; null for matched sets, and where it was not measured"
    )
    outside_band: Spread | None = Field(
        None,
        description="share of a perturbation's energy outside of its band, by clipping; null where it has no band",
    )
    seconds: float = Field(description="time to build")

    def row(self) -> dict[str, object]:
        """The set as a row of a table: a share with its interval, a spread as its mean."""
        told: dict[str, object] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Proportion):
                told |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            elif isinstance(value, Spread):
                told[f"{name}_mean"] = value.mean
            elif value is None or isinstance(value, str | int | float):
                told[name] = value
        return told


class TheoryCheck(Record):
    """Two Gaussians fitted to the features of two classes, and what they predict against what the search found.

    Radius 0 comes first: images as they are.
    """

    classifier: str = Field(description="its name in the study")
    pair: tuple[str, str] = Field(description="names of the two classes")
    norm: Norm = Field(description="of the threat")
    radii: list[float] = Field(description="of the attack on images, pixel units")
    moved: list[float] = Field(description="how far the search moved the features along the rule, on average")
    predicted: list[float] = Field(description="accuracy that the theory predicts for that distance")
    measured: list[Proportion] = Field(description="accuracy of the same linear rule under the attack")
    shrinkage: float = Field(description="weight of the identity in the fitted covariance")

    @model_validator(mode="after")
    def _check_lengths(self) -> TheoryCheck:
        if len({len(self.radii), len(self.moved), len(self.predicted), len(self.measured)}) > 1:
            raise ValueError("radii, moved, predicted and measured must be of one length")
        return self


class Stage(Record):
    """One finished stage and how long it took."""

    name: str = Field(description="as in `stages/`")
    seconds: float = Field(description="how long it took")
    images: int | None = Field(
        None,
        description="that it went through: all epochs of a training, a set's, those measured; null where it went "
        "through none, and in studies of older versions",
    )

    @property
    def speed(self) -> float | None:
        """Images a second; None where that says nothing."""
        return self.images / self.seconds if self.images and self.seconds else None


class Continued(Record):
    """With what a study went on, where that is not what it began with."""

    at: str = Field(description="ISO 8601, UTC")
    versions: dict[str, str] = Field(description="of notbugs, Python, torch and the other libraries")
    device: str = Field(description="that computed")
    threads: int = Field(description="of the processor that torch used")


def _with(**kinds: type) -> AfterValidator:
    """Values that have all of these, each of its kind."""

    def check(part: dict[str, object]) -> dict[str, object]:
        if missing := [name for name in kinds if name not in part]:
            raise ValueError(f"it has no {missing[0]!r}")
        if wrong := [name for name, kind in kinds.items() if not isinstance(part[name], kind)]:
            raise ValueError(f"its {wrong[0]!r} is no {kinds[wrong[0]].__name__}")
        return part

    return AfterValidator(check)


class StudyInfo(Record):
    """Where the numbers come from."""

    name: str = Field(description="of the study")
    created: str = Field(pattern=r"^\d{4}-\d\d-\d\dT", description="ISO 8601, UTC")
    recipe: dict[str, Any] = Field(description="as resolved: every setting, defaults included")
    command: str = Field(description="repeats the study")
    data: Annotated[
        dict[str, Any], _with(name=str, variant=str, classes=list, shape=list, train=int, test=int, fingerprint=str)
    ] = Field(
        description="name, variant, classes, shape (channel, height, width), train and test (counts), fingerprint"
    )
    architecture: Annotated[
        dict[str, Any], _with(name=str, parameters=int, features=int, feature_rank=dict, input_dimension=int)
    ] = Field(description="name, parameters, features, feature_rank, input_dimension")
    code: dict[str, str] = Field({}, description="hash of every architecture that is a user's own code, by its name")
    seeds: list[int] = Field(min_length=1, description="the seed of the study")
    versions: dict[str, str] = Field(description="of notbugs, Python, torch and the other libraries")
    device: str = Field(description="that computed")
    threads: int = Field(description="of the processor that torch used")
    continued: list[Continued] = Field([], description="with other versions, or on another machine, where it was")
    stages: list[Stage] = Field(description="every part of the work, with its time")
    classifiers: dict[str, str] = Field(description="sha256 of every checkpoint, by name")
    training: dict[str, Trained] = Field(
        {}, description="how it went, by name of the classifier: images held out for the guard, and the best epoch"
    )
    fits: dict[str, Proportion] = Field(
        {},
        description="by name: of at most 2,000 of its training images, those that a classifier gives their label",
    )


class AgainstExpected(Record):
    """One accuracy that the recipe expects, and what the run gave."""

    classifier: str = Field(description="its name in the study")
    radius: float = Field(description="of the evaluation's attack, pixel units; 0: clean accuracy")
    attack: str = Field("pgd", description="whose number is expected, where the radius is not 0")
    low: float = Field(description="expected, at least")
    high: float = Field(description="expected, at most")
    source: str = Field(description="of the expectation")
    found: Proportion = Field(description="the accuracy that was measured")
    verdict: Literal["inside", "overlaps", "outside"] = Field(
        description="whether the accuracy lies in the expected range; overlaps: only its 95 % interval reaches into it"
    )


class Expectations(Record):
    """What the recipe says it gives, against what the run gave."""

    time: str = Field(description="how long the recipe says the study takes, and on what")
    departures: list[str] = Field(description="settings that are not the recipe's: then nothing is compared")
    compared: list[AgainstExpected] = Field(description="every range that the recipe states, with what was found")


class Results(Tabular, WholeFile, Record):
    """The whole of `results.json`.

    Examples
    --------
    >>> results = nb.study.read_results('runs/digits')  # doctest: +SKIP
    >>> table = results.to_pandas()  # doctest: +SKIP
    """

    schema_: Literal[1] = Field(default=1, alias="schema", description="version of this form")
    study: StudyInfo = Field(description="what was run, on what, and where")
    rows: list[Row] = Field(min_length=1, description="every classifier, clean and under every attack")
    sets: list[SetProperties] = Field(description="every constructed set")
    theory: list[TheoryCheck] = Field(default_factory=list, description="theorems as formula against simulation")
    instruments: Measured = Field(Measured(), description="what each instrument measured")
    expected: Expectations | None = Field(None, description="null where the recipe states no expectation")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @property
    def heading(self) -> str:
        """What the rows are."""
        return f"Study {self.study.recipe['name']!r} of {self.study.data['name']}, {len(self.sets)} constructed sets"

    def table_rows(self) -> list[dict[str, object]]:
        """One row for each accuracy."""
        kept = ("classifier", "train_set", "training", "architecture", "test_set", "seed")
        return [{name: getattr(row, name) for name in kept} | row.measured.row() for row in self.rows]

    def sets_to_pandas(self) -> pd.DataFrame:
        """The constructed sets with their measured properties, as a `pandas.DataFrame`.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        return frame([one.row() for one in self.sets])


def json_schema() -> dict[str, Any]:
    """The JSON schema of `results.json`, with the instruments that are installed.

    Examples
    --------
    >>> 'rows' in nb.study.json_schema()['properties']
    True
    """
    schema = Results.model_json_schema(by_alias=True)
    schema["properties"]["checksum"] = {
        "description": "SHA-256 of the rest as JSON in ASCII without spaces, names sorted; older files have none",
        "type": "string",
    }
    return schema


FORMAT = "1"
_ATTACKS = TypeAdapter(list[AttackUsed | None])


@dataclass(frozen=True)
class KeptOutcomes:
    """One classifier's outcomes: clean first, then one for each attack.

    Attributes
    ----------
    test_images : str
        `Images.fingerprint` of the images they are of.
    """

    test_images: str
    outcomes: tuple[Outcome, ...]


def write_outcomes(folder: Path, name: str, outcomes: Sequence[Outcome], images: Images) -> None:
    """Write `outcomes/NAME.safetensors` into the folder of a study: a byte for each image and attack."""
    attacks = _ATTACKS.dump_json([item.attack for item in outcomes]).decode()
    metadata = {"format": FORMAT, "test_images": images.fingerprint, "attacks": attacks}
    tensors = {str(number): item.survived for number, item in enumerate(outcomes)}
    write_tensors(outcomes_file(folder, name), tensors, metadata)


def read_outcomes(folder: Path, name: str) -> KeptOutcomes | None:
    """What `write_outcomes` wrote; None where there is no such file, as in studies made before outcomes were kept.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = outcomes_file(folder, name)
    if not os.path.lexists(path):
        return None
    try:
        if not check_tensors(path):
            warn_unchecked(path)
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            survived = [file.get_tensor(str(number)).bool() for number in range(len(file.keys()))]
        attacks = _ATTACKS.validate_json(said["attacks"])
        outcomes = tuple(Outcome(*pair) for pair in zip(attacks, survived, strict=True))
        return KeptOutcomes(said["test_images"], outcomes)
    except (SafetensorError, KeyError, ValidationError, ValueError, OSError) as error:
        stage = folder / "stages" / f"evaluate-{name}.json"
        remedy = f"Delete it to compare without it, or {stage} to measure again"
        raise InputError(f"{path} is not a readable file of outcomes ({in_one_line(error)}). {remedy}.") from error


def outcomes_file(folder: Path, name: str) -> Path:
    """Where a classifier's outcomes are, in the folder of a study."""
    return folder / "outcomes" / f"{name}.safetensors"


def read_results(path: str | Path) -> Results:
    """Read `results.json`.

    Parameters
    ----------
    path : str or Path
        The file, or the folder of a study.

    Raises
    ------
    InputError
        If the file is missing, or is not a results file of this version of notbugs.
    Damaged
        If it was changed since it was written, or a classifier was: the numbers are not of that one.

    Examples
    --------
    >>> results = nb.study.read_results('runs/digits')  # doctest: +SKIP
    >>> table = results.to_pandas()  # doctest: +SKIP
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    results = read_model(path, Results, "a results", "study")
    for name, digest in results.study.classifiers.items():
        file = path.parent / "classifiers" / f"{Path(name).name}.safetensors"
        if file.is_file() and files.sha256(file) != digest:
            raise Damaged(
                f"{file} is damaged: the numbers in {path} are of another one. "
                "Give the command of the study again: it trains it again."
            )
    return results
