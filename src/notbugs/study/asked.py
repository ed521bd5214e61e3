"""What a recipe asks of each instrument: the sections `[instruments.NAME]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from notbugs.threat import Norm

Relabelled = Literal["D_rand", "D_rand_other", "D_det"]
Matched = Literal["D_R", "D_NR"]


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
    """Robust accuracy that can be trusted."""


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
    noise: tuple[Relabelled | Matched, ...] = Field((), description="Sets built again, from images of noise.")
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


class Transfer(_Instrument):
    """Whether what transfers is what generalises."""


class Spatial(_Instrument):
    """Rotations and shifts."""


class Corruptions(_Instrument):
    """Common corruptions, and high- and low-pass filters."""


class Instruments(_Asked):
    """All of them, in the order in which a study has them."""

    usefulness: Usefulness = Usefulness()
    shares: Shares = Shares()
    leakage: Leakage = Leakage()
    controls: Controls = Controls()
    gap: Gap = Gap()
    transfer: Transfer = Transfer()
    trust: Trust = Trust()
    spatial: Spatial = Spatial()
    corruptions: Corruptions = Corruptions()
