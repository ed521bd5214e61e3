"""What a recipe asks of each instrument: the sections `[instruments.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from notbugs.data import CORRUPTIONS
from notbugs.errors import check_choice
from notbugs.measure.autoattack import AttackName, require_autoattack
from notbugs.study.sections import Architecture
from notbugs.study.sets import EVERY, Constructed, Relabelled, Trained
from notbugs.threat import Norm


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Instrument(_Asked):
    """An instrument, switched off unless a recipe says otherwise."""

    on: bool = Field(False, description="Whether the study has it.")


class Usefulness(_Instrument):
    """Usefulness and robust usefulness of every feature."""

    classifiers: tuple[Literal["standard", "independent", "robust"], ...] = Field(
        ("standard", "robust"), min_length=1, description="Whose features are measured."
    )
    features: str = Field("penultimate", description="penultimate, logits, or the name of a layer (its spatial mean).")
    norm: Norm = Field("l2", description="Norm of the ball.")
    eps: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Radius, pixel units; if not given, the middle one of the evaluation where the norm is the same, "
        "else 0.5 for l2 and 8/255 for linf.",
    )
    steps: int = Field(5, ge=1, description="Gradients of each search.")
    images: int = Field(60, ge=2, description="Test images searched, twice a feature; rho takes all test images.")
    min_rho: float = Field(0.0, ge=0, lt=1, description="How useful a useful feature is at least.")


class Trust(_Instrument):
    """Robust accuracy that can be trusted: stronger attacks on the same images, signs of masked gradients."""

    classifiers: tuple[Trained, ...] = Field(
        tuple(name for name in EVERY if name != "independent"),
        description="Which ones; each is tested against the standard one, image by image.",
    )
    images: int = Field(150, ge=1, description="Test images, drawn at random; the same for every attack.")
    radius: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Pixel units; norm, and radius if not given, are robust training's.",
    )
    autoattack: bool = Field(True, description="Whether to run AutoAttack; it needs notbugs[autoattack].")
    attacks: tuple[AttackName, ...] = Field(
        ("apgd-ce", "apgd-t"),
        min_length=1,
        description="Of AutoAttack, those that so many classes allow; all four: apgd-ce, apgd-t, fab-t, square.",
    )
    masking_images: int = Field(100, ge=1, description="Of those images, how many to look for masked gradients in.")

    @model_validator(mode="before")
    @classmethod
    def _leave_old_names(cls, given: object) -> object:
        """Older recipes said here how a stronger PGD goes; the evaluation's attack is that now."""
        old = ("restarts", "targeted")
        return {name: value for name, value in given.items() if name not in old} if isinstance(given, dict) else given


class Controls(_Instrument):
    """Relabelled sets beside their controls. Every set named below costs a training, and its own build."""

    leakage: tuple[Relabelled, ...] = Field(
        ("D_rand", "D_det"), description="Sets whose leakage control is trained on: synthetic patterns, no features."
    )
    random: tuple[Relabelled, ...] = Field(
        ("D_rand",), description="Sets whose random control is trained on: as far, in random directions."
    )
    labels: tuple[Relabelled, ...] = Field((), description="Sets whose labels are trained on, on untouched images.")
    robust_source: tuple[Relabelled, ...] = Field(("D_det",), description="Sets built again, by the robust classifier.")
    noise: tuple[Constructed, ...] = Field((), description="Sets built again, from images of noise.")
    linf: tuple[Relabelled, ...] = Field((), description="Sets built again, in an l-inf ball.")
    mislabelled: bool = Field(True, description="Whether images that a weak classifier gets wrong are trained on.")
    noise_kind: Literal["gaussian", "uniform"] = Field("uniform", description="The noise that `noise` starts from.")
    linf_eps: float = Field(8 / 255, gt=0, allow_inf_nan=False, description="Radius of `linf`, pixel units.")
    weak_epochs: int = Field(1, ge=1, description="Passes over the data of the weak classifier.")


class Gap(_Instrument):
    """How much of what a D_R classifier lacks in robustness it lacks on D_R itself, and how much beyond."""

    images: int = Field(1000, ge=1, description="Images of each of the three kinds; fewer where there are fewer.")
    radii: tuple[float, ...] = Field((0.25,), min_length=1, description="Radii, pixel units; the paper's is 0.25.")


class Leakage(_Instrument):
    """What robust features alone explain of relabelled sets."""

    eps: float = Field(
        0.25, gt=0, allow_inf_nan=False, description="l2 radius of the certificate, pixel units; Goh's is 0.25."
    )
    images: int = Field(15_000, ge=2, description="Images of each set, at most, drawn at random.")


class Shares(_Instrument):
    """How much of each class a constructed image carries."""

    classifiers: tuple[Literal["independent", "robust", "standard"], ...] = Field(
        ("independent", "robust"),
        min_length=1,
        description="Whose features look at the images; sorted as the section 'usefulness' says, which may be off.",
    )
    images: int = Field(3000, ge=2, description="Images of each set, at most, drawn at random.")


class TransferSettings(_Asked):
    """Whether what transfers is what generalises: what it takes."""

    architectures: tuple[str, ...] = Field(
        ("cnn width=8 stride=2", "cnn width=16 stride=2", "cnn width=32 stride=2", "resnet9 width=4"),
        description="Each is trained on D_det and on D; a name and options, as 'cnn width=8 stride=2'.",
    )
    images: int = Field(1000, ge=1, description="Test images to attack, drawn at random.")
    norm: Norm | None = Field(None, description="Of the attack; that of the relabelling if not given.")
    eps: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Radius, pixel units; that of the relabelling if not given."
    )
    steps: int = Field(20, ge=1, description="Gradients.")
    targets: Literal["next", "other"] = Field("next", description="Of the targeted attack: as D_det, or at random.")

    @field_validator("architectures")
    @classmethod
    def _check_architectures(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(given)) < len(given):
            raise ValueError("name each of them once")
        for text in given:  # a wrong one must not end a study after an hour
            Architecture.parse(text).check()
        return given


class Transfer(TransferSettings, _Instrument):
    """Whether what transfers is what generalises."""


class Spatial(_Instrument):
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


class Corruptions(_Instrument):
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


class Instruments(_Asked):
    """All of them, in the order in which a study has them."""

    all: bool = Field(False, description="Whether the study has every one of them.")
    usefulness: Usefulness = Usefulness()
    shares: Shares = Shares()
    leakage: Leakage = Leakage()
    controls: Controls = Controls()
    gap: Gap = Gap()
    transfer: Transfer = Transfer()
    trust: Trust = Trust()
    spatial: Spatial = Spatial()
    corruptions: Corruptions = Corruptions()

    @model_validator(mode="after")
    def _check_libraries(self) -> Instruments:
        if self.wanted("trust") and self.trust.autoattack:
            require_autoattack()
        return self

    def wanted(self, name: str) -> bool:
        """Whether the study has the instrument of this name."""
        return self.all or getattr(self, name).on
