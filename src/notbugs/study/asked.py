"""What a recipe asks of each instrument: the sections `[instruments.NAME]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Instrument(_Asked):
    """An instrument, switched off unless a recipe says otherwise."""

    on: bool = Field(False, description="Whether the study has it.")


class Usefulness(_Instrument):
    """Usefulness and robust usefulness of every feature."""


class Trust(_Instrument):
    """Robust accuracy that can be trusted."""


class Controls(_Instrument):
    """Relabelled sets beside their controls."""


class Gap(_Instrument):
    """Why a D_R classifier is less robust than its source."""


class Leakage(_Instrument):
    """What robust features alone explain of relabelled sets."""

    eps: float = Field(
        0.25, gt=0, allow_inf_nan=False, description="l2 radius of the certificate, pixel units; Goh's is 0.25."
    )
    images: int = Field(15_000, ge=2, description="Images of each set, at most, drawn at random.")


class Shares(_Instrument):
    """How much of each class a constructed image carries."""

    classifiers: tuple[Literal["independent", "robust", "standard"], ...] = Field(
        ("independent", "robust"), description="Whose features look at the images."
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
