"""What a recipe asks of each instrument: the sections `[instruments.NAME]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from notbugs.data import CORRUPTIONS
from notbugs.errors import check_choice

EVERY = ("standard", "independent", "robust", "D_R", "D_NR", "D_rand", "D_rand_other", "D_det")
"""The classifiers of every study."""


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
    """Accuracy under rotations and shifts, and of a classifier that is trained with them."""

    classifiers: tuple[str, ...] = Field(EVERY, description="Which ones.")
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

    classifiers: tuple[str, ...] = Field(EVERY, description="Which ones.")
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

    usefulness: Usefulness = Usefulness()
    shares: Shares = Shares()
    leakage: Leakage = Leakage()
    controls: Controls = Controls()
    gap: Gap = Gap()
    transfer: Transfer = Transfer()
    trust: Trust = Trust()
    spatial: Spatial = Spatial()
    corruptions: Corruptions = Corruptions()
