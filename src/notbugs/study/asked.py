"""What a recipe asks of each instrument: the sections `[instruments.NAME]`."""

from __future__ import annotations

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
