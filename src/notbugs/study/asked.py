"""What a recipe asks of each instrument: the sections `[instruments.NAME]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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
    """Robust accuracy that can be trusted."""


class Controls(_Instrument):
    """Relabelled sets beside their controls."""


class Gap(_Instrument):
    """Why a D_R classifier is less robust than its source."""


class Leakage(_Instrument):
    """What robust features alone explain of relabelled sets."""


class Shares(_Instrument):
    """How much of each class a constructed image carries."""


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
