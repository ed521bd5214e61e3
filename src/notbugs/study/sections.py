"""The sections of a recipe, which are also the options of the commands for one step of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from notbugs import data as data_room
from notbugs.classifier import Classifier, Precision
from notbugs.construct import Dtype
from notbugs.data import Data
from notbugs.data.rows import Reading
from notbugs.errors import InputError, must
from notbugs.models import Blueprint, load_classifier
from notbugs.models.checkpoint import check_classifier, says_itself
from notbugs.models.registry import TAKEN, check_options, sized
from notbugs.normalisation import ChannelOrder
from notbugs.outputs import OutputsAre
from notbugs.progress import Progress, silent
from notbugs.records import Record
from notbugs.search import FMN, LBFGS, PGD, Attack, PGDSteps, Steps, fast_matching
from notbugs.search.steps import Decay
from notbugs.study.machine import find_device
from notbugs.study.sets import MOST_OTHERS
from notbugs.threat import Norm, Spatial, Threat, threat
from notbugs.training import new_classifier

OWN = TAKEN | {"architecture", "data", "device", "precision", "seed", "shape", "source"}
"""What no option may be called: flags, and what a network is told anyway."""


PYTHONS = {"True": "true", "False": "false"}
"""How Python writes what others write as `true` and `false`."""


def _as_values(given: object) -> object:
    """Options from a command line, which are all text: `4`, `0.5`, `true` and `false` become what they say."""
    if isinstance(given, dict):
        check_options(given, OWN)
    return {name: _as_value(value) for name, value in given.items()} if isinstance(given, dict) else given


def _as_value(text: object) -> object:
    try:
        return json.loads(PYTHONS.get(text, text)) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text


def _as_tuple(given: object) -> object:
    return (given,) if isinstance(given, str) else given


Options = Annotated[dict[str, bool | int | float | str], BeforeValidator(_as_values)]
"""Of an architecture: `--arch.width 4` on a command line."""


LARGEST, LARGEST_SEED = 10**9, 2**63 - 1
"""Of every setting that is a number."""


def numbers(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number in nested settings, with its dotted name."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}.")
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, Mapping):
                yield from numbers(item, f"{prefix}{key}.")
            elif isinstance(item, int | float) and not isinstance(item, bool):
                yield f"{prefix}{key}", item


READING = ("test_data", *(choice.name for choice in fields(Reading)))
"""The settings of a source that `load` takes."""


class Source(Record):
    """Which images, and where and how the work runs."""

    data: str = Field("digits", description="Data set by name or path; docs/how-to/your-data.md has all kinds.")
    size: int | None = Field(None, ge=1, description="Resize images to this height and width.")
    channels: int | None = Field(
        None, ge=1, le=3, description="3 gives grey images three equal channels, 1 takes the luminance of colour."
    )
    groups: dict[str, str] = Field({}, description="Classes made of several, as --groups.pet 'cat, dog1..dog9'.")
    test_data: str | None = Field(None, description="Another data set, whose test images are measured on.")
    classes: tuple[str, ...] = Field((), description="Class names in the order of their labels, or a file with them.")
    splits: dict[str, str] = Field({}, description="Which folder, file or split is which, as --splits.train NAME.")
    image_column: str | None = Field(None, description="Of a table: the images, or the names of their files.")
    label_column: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] | None = Field(
        None, description="Of a table: the labels; several columns of 0 and 1 are several labels, or one-hot."
    )
    group_column: str | None = Field(None, description="Of a table: the patient, say, who is on one side of a split.")
    group_pattern: str | None = Field(
        None, max_length=200, description="Of paths of images: {group} is what a group shares, * anything: '{group}_*'."
    )
    label_offset: int = Field(0, description="The number of the first class, where labels are numbers.")
    white_level: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="The value of white, as 4095 for 12 bits in files of 16."
    )
    severity: int | None = Field(None, ge=1, le=5, description="Of a file of CIFAR-10-C, which has five.")
    uncertain: int | None = Field(None, ge=0, le=1, description="What -1 counts as in columns of 0 and 1.")
    blank: int | None = Field(None, ge=0, le=1, description="What an empty cell counts as in columns of 0 and 1.")
    jpeg: data_room.JPEG | None = Field(None, description="Compress all images by JPEG, and read them back, first.")
    skip_broken: bool = Field(False, description="Leave out images that cannot be read, and list them.")
    follow_links: bool = Field(False, description="Follow links that lead out of a folder of images.")
    label: str | None = Field(None, description="One of several labels that an image has: it, against its absence.")
    train_images: int | None = Field(None, ge=1, description="Training images, drawn at random; all if not given.")
    test_images: int | None = Field(None, ge=1, description="Test images, drawn at random; all if not given.")
    heldout: float = Field(
        0.0, ge=0, lt=1, description="Share of the training images to measure on in place of the test images."
    )
    seed: int = Field(0, ge=0, description="All randomness follows from it.")
    device: str = Field("auto", description="A torch device, or auto.")
    precision: Precision = Field("auto", description="What the networks compute in: fp32, bf16 or auto.")
    compile: bool = Field(False, description="Compile (torch.compile) standard training, and the search if faster.")

    @model_validator(mode="after")
    def _check_sizes(self) -> Source:
        """No number may be so large that work with it would never end, or that a computer cannot hold it."""
        for name, value in numbers(self.model_dump()):
            if abs(value) > (LARGEST_SEED if name == "seed" else LARGEST):
                raise ValueError(f"{name} must be at most {LARGEST:,} (a seed {LARGEST_SEED:,})")
        return self

    def read(self, progress: Progress = silent) -> Data:
        """The images."""
        if self.heldout and (self.test_data is not None or "test" in self.splits):
            rule = "be left out where test images are named: it measures on training images in their place"
            raise must("heldout", rule, self.heldout, "Give 0, or leave out test_data and splits.test.")
        reading = {name: getattr(self, name) for name in READING}
        data = data_room.load(self.data, **reading, progress=progress)
        if self.heldout:
            data = data.hold_out(self.heldout, self.seed)
        data = data.take(self.train_images, self.test_images, self.seed)
        return data if self.label is None else data.label(self.label)


class Architecture(Record):
    """Which network."""

    name: str = Field("cnn", description="Architecture by name; docs/how-to/your-model.md has all of them.")
    width: int | None = Field(None, ge=1, description="Channels of the first convolution, where the name takes it.")
    features: int | None = Field(None, ge=1, description="Penultimate features, of cnn.")
    stride: int | None = Field(None, ge=1, description="Of the first convolution, of cnn.")
    options: Options = Field({}, description="Any others that it takes, as --arch.growth 12.")

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """One written as its name and options: `cnn width=8 stride=2`.

        Raises
        ------
        InputError
            If it is not written so.
        """
        name, *options = text.split() or [""]
        if not name or not all(re.fullmatch(r"\w+=\S+", option) for option in options):
            raise must("architecture", "be a name and options, as 'cnn width=8 stride=2'", text)
        return cls(name=name, options=dict(option.split("=", 1) for option in options))  # pyrefly: ignore

    def but(self, other: Architecture) -> Architecture:
        """This one with what `other` sets; its options are added."""
        said = other.model_dump(exclude_unset=True)
        options = self.options | said.pop("options", {})
        return Architecture(**self.model_dump(exclude_unset=True) | said | {"name": self.name, "options": options})

    def check(self) -> Architecture:
        """Refuse a name or an option that one of our own architectures does not have, before there are images."""
        if ":" not in self.name:
            sized(self.name, 3, 2, (224, 224), **self.given)
        return self

    def __str__(self) -> str:
        """As `parse` reads it."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.given.items())])

    @property
    def given(self) -> dict[str, Any]:
        """Every option that is not left to the architecture."""
        return self.model_dump(include={"width", "features", "stride"}, exclude_none=True) | self.options

    def blueprint(self, data: Data) -> Blueprint:
        """What a network for these images is built from."""
        return Blueprint(architecture=self.name, shape=data.train.shape, classes=data.classes, options=self.given)

    def new(self, data: Data, seed: int, source: Source) -> Classifier:
        """An untrained classifier for these images."""
        options = self.blueprint(data).options
        device = find_device(source.device)
        classifier = new_classifier(data, self.name, seed=seed, precision=source.precision, device=device, **options)
        classifier.try_compiled = source.compile
        return classifier


class Model(Record):
    """What a file of weights does not say itself; a file that notbugs wrote says everything."""

    architecture: str | None = Field(None, description="Of weights from elsewhere: by name, or my_module:function.")
    mean: tuple[float, ...] | None = Field(None, description="Of the normalisation, per channel, pixels in [0, 1].")
    std: tuple[float, ...] | None = Field(None, description="Of the normalisation, per channel.")
    head: str | None = Field(None, description="The module whose inputs are the features; the last linear layer.")
    output: str = Field("auto", description="Which of the network's outputs are the logits: a name or a number.")
    outputs_are: OutputsAre = Field(
        "auto", description="What they are: logits, or probabilities (of a softmax or sigmoid); auto recognises them."
    )
    channel_order: ChannelOrder = Field("auto", description="That the network takes: rgb, or bgr as OpenCV has it.")
    weights: str | None = Field(None, description="Which set of weights of several in the file, as state_dict_ema.")
    outputs: tuple[str, ...] | None = Field(
        None, description="Which outputs are the classes: a file with all names, or for each class a number or name."
    )
    options: Options = Field({}, description="Of the architecture, as --arch.width 8.")

    def check(self, *files: Path | None) -> None:
        """Refuse what can be refused of models before there are images."""
        settings = self.model_dump(include={*Model.model_fields} - {"options"})
        for file in files:
            if file is not None:
                check_classifier(file, **settings, **self.options)  # pyrefly: ignore

    def needed_by(self, file: Path) -> Model:
        """What is said of one file among several: nothing of one that says everything itself."""
        return Model() if says_itself(file) else self

    def load(self, file: Path, data: Data, source: Source) -> Classifier:
        """The classifier in `file`; of one for several labels, the view of the one that the data are of."""
        if not data.several:
            return self._loaded(file, data, data.classes, source)
        try:
            return self._loaded(file, data, data.several, source).label(data.several.index(data.classes[1]))
        except InputError as error:
            try:
                return self._loaded(file, data, data.classes, source)  # trained on this label alone
            except InputError:
                raise error from None

    def _loaded(self, file: Path, data: Data, classes: Sequence[str], source: Source) -> Classifier:
        loaded = load_classifier(
            file,
            architecture=self.architecture,
            shape=data.train.shape,
            classes=classes,
            mean=self.mean,
            std=self.std,
            head=self.head,
            output=int(self.output) if self.output.isdigit() else self.output,
            outputs_are=self.outputs_are,
            channel_order=self.channel_order,
            weights=self.weights,
            outputs=self.outputs,
            precision=None if source.precision == "auto" else source.precision,
            device=find_device(source.device),
            **self.options,  # pyrefly: ignore
        )
        loaded.try_compiled = source.compile
        return loaded


class Storage(Record):
    """How a constructed set is stored."""

    dtype: Dtype = Field("float32", description="Of the stored images; uint8 rounds.")
    batch: int | None = Field(None, ge=1, description="Images searched at once; 250 if not given, fewer of large ones.")


def step_at(step: float | None, eps: float, new: float) -> float | None:
    """A step given for a ball of radius `eps`, for one of radius `new`: it grows with it. None if none was given."""
    return step * new / eps or None if step and eps else None


class Matching(Record):
    """The search of feature matching, for D_R and D_NR. The paper's: gradient, 1000 steps of 0.1."""

    method: Literal["quasi-newton", "gradient"] = Field("quasi-newton", description="How the search moves.")
    steps: int = Field(60, ge=1, description="Gradients.")
    step_size: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="First step, or trust radius, l2; 0.035 times the root of the number of pixel values if not given.",
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="Heavy-ball momentum, of the gradient method.")
    decay: Decay = Field("constant", description="How the step falls to 0, of the gradient method.")
    fake_relu: bool | str = Field(
        False,
        description="Gradients pass the last ReLU unchanged, or the one of this name, as in the authors' library.",
    )

    @model_validator(mode="after")
    def _check_method(self) -> Matching:
        if self.method == "quasi-newton" and (self.momentum or self.decay != "constant"):
            raise ValueError("momentum and decay are of the method 'gradient'; give it, or leave them out")
        return self

    def schedule(self, shape: Sequence[int]) -> Steps:
        """As the search takes it, for images of `shape`."""
        length = self.step_size or fast_matching(shape).reach
        if self.method == "quasi-newton":
            return LBFGS(self.steps, length)
        return PGDSteps(self.steps, length, self.momentum, self.decay)


class Relabelling(Record):
    """The search for relabelled sets; D_rand_min takes its norm. The paper's: 100 steps of 0.1, constant, eps 0.5."""

    method: Literal["gradient", "minimum-norm"] = Field(
        "gradient", description="As near to the class as the ball allows, or the smallest change that reaches it."
    )
    norm: Norm = Field("l2", description="Norm of the ball.")
    eps: float = Field(
        0.5, ge=0, allow_inf_nan=False, description="Radius, pixel units; the largest change of minimum-norm."
    )
    steps: int = Field(20, ge=1, description="Gradients.")
    step_size: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Length of the first step. If not given: 2 eps where it decays, 2.5 eps / steps where not, "
        "1 for minimum-norm.",
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="Heavy-ball momentum, of the gradient method.")
    decay: Decay = Field("linear", description="How the step falls to 0, of the gradient method.")

    @model_validator(mode="after")
    def _check_method(self) -> Relabelling:
        if self.method == "minimum-norm" and (self.momentum or self.decay != "linear"):
            raise ValueError("momentum and decay are of the method 'gradient'; give it, or momentum 0 and decay linear")
        return self

    @property
    def schedule(self) -> Steps:
        """As the search takes it."""
        if self.method == "minimum-norm":
            return FMN(self.steps, self.step_size or FMN.step_size)
        usual = PGDSteps(self.steps, decay=self.decay).first_length(self.threat)
        return PGDSteps(self.steps, self.step_size or usual or None, self.momentum, self.decay)

    @property
    def threat(self) -> Threat:
        """The ball."""
        return threat(self.norm, self.eps)


class Further(Record):
    """What only sets beyond those of every study need: see `sets`."""

    others: int = Field(
        4,
        ge=1,
        le=MOST_OTHERS,
        description="Standard classifiers that the searches of D_bugs, D_bugs_other and D_bugs_held keep as they are; "
        "each is trained.",
    )
    cutoff: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Where D_rand_low and the like are cut, cycles per image; half of the highest if not given.",
    )


class Turning(Record):
    """Rotations and shifts that accuracy is measured under."""

    degrees: float = Field(30.0, ge=0, le=180, allow_inf_nan=False, description="Largest rotation, either way.")
    pixels: float = Field(3.0, ge=0, allow_inf_nan=False, description="Largest shift, either way along each axis.")

    @property
    def threat(self) -> Spatial:
        """The threat model."""
        return Spatial(self.degrees, self.pixels)


class Evaluation(Record):
    """How every classifier is measured."""

    norm: Norm = Field("l2", description="Norm of the threat model.")
    radii: tuple[float, ...] = Field((0.25, 0.5), max_length=100, description="Radii of robust accuracy, pixel units.")
    attack: Attack = Field(Attack(), description="Whose robust accuracy counts.")

    @property
    def threats(self) -> tuple[Threat, ...]:
        """The threat models, in rising order."""
        return tuple(threat(self.norm, eps) for eps in sorted(set(self.radii)))


class StudyEvaluation(Evaluation):
    """How every classifier of a study is measured: by an attack that counts, and by the paper's protocol beside it."""

    pgd: Attack = Field(PGD, description="The paper's attack, whose number stands beside and counts nowhere.")

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, given: object) -> object:
        """Older recipes said at this place how PGD goes, which stands beside now."""
        if not isinstance(given, dict) or not {"steps", "decay", "restarts"} & given.keys():
            return given
        if "pgd" in given:
            raise ValueError("steps, decay and restarts are those of evaluation.pgd: give them there alone")
        pgd = {name: given[name] for name in ("steps", "decay", "restarts") if name in given}
        rest = {name: value for name, value in given.items() if name not in pgd}
        return {"pgd": {"decay": "linear"} | pgd} | rest

    @field_validator("pgd", mode="before")
    @classmethod
    def _name(cls, given: object) -> object:
        return {"name": PGD.name} | given if isinstance(given, dict) else given

    @field_validator("pgd")
    @classmethod
    def _check_name(cls, given: Attack) -> Attack:
        if given.name != PGD.name:
            raise ValueError(
                f"the attack beside must be {PGD.name}, the paper's; evaluation.attack is the one that counts"
            )
        return given
