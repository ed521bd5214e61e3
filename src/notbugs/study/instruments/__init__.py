"""What a study measures beyond accuracies, if its recipe asks for it: a module an instrument, and their one list."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from notbugs.errors import InputError
from notbugs.instrument import Instrument
from notbugs.records import Record
from notbugs.study.instruments.controls import ControlsInstrument
from notbugs.study.instruments.corruptions import CorruptionsInstrument
from notbugs.study.instruments.frequencies import FrequenciesInstrument
from notbugs.study.instruments.generalization_gap import GeneralizationGapInstrument
from notbugs.study.instruments.leakage import LeakageInstrument
from notbugs.study.instruments.matching import MatchingInstrument
from notbugs.study.instruments.priors import PriorsInstrument
from notbugs.study.instruments.set_radius import SetRadiusInstrument
from notbugs.study.instruments.set_size import SetSizeInstrument
from notbugs.study.instruments.shares import SharesInstrument
from notbugs.study.instruments.source_radius import SourceRadiusInstrument
from notbugs.study.instruments.spatial import SpatialInstrument
from notbugs.study.instruments.strong_attacks import StrongAttacksInstrument
from notbugs.study.instruments.transfer import TransferInstrument
from notbugs.study.instruments.usefulness import UsefulnessInstrument

if TYPE_CHECKING:
    from notbugs.study.runner import Runner

GROUP = "notbugs.instruments"
"""The entry points by which another package adds instruments: each names a class, or an instance, of `Instrument`."""


def _installed(taken: set[str]) -> list[Instrument[Any, Any]]:
    """The instruments of other packages, by their names."""
    instruments: dict[str, Instrument[Any, Any]] = {}
    for point in entry_points(group=GROUP):
        loaded = point.load()
        own = loaded() if isinstance(loaded, type) else loaded
        if not isinstance(own, Instrument):
            raise InputError(
                f"The entry point {point.value!r} of {GROUP} must be an Instrument. Got {loaded!r} instead."
            )
        if not own.name.isidentifier() or own.name in {"all", *taken, *instruments}:
            raise InputError(
                f"The instrument of {point.value!r} must have a name of its own, an identifier. Got {own.name!r} "
                "instead. Uninstall one of the two packages, or rename it."
            )
        instruments[own.name] = own
    return [instruments[name] for name in sorted(instruments)]


_OURS: tuple[Instrument[Any, Any], ...] = (
    UsefulnessInstrument(),
    SharesInstrument(),
    LeakageInstrument(),
    ControlsInstrument(),
    SetRadiusInstrument(),
    GeneralizationGapInstrument(),
    SourceRadiusInstrument(),
    MatchingInstrument(),
    FrequenciesInstrument(),
    SetSizeInstrument(),
    PriorsInstrument(),
    TransferInstrument(),
    StrongAttacksInstrument(),
    SpatialInstrument(),
    CorruptionsInstrument(),
)
INSTRUMENTS = (*_OURS, *_installed({name for each in _OURS for name in (each.name, each.former)}))
"""In the order in which a study has them and a page shows them."""
FORMER = {each.former: each.name for each in INSTRUMENTS if each.former}
"""The names that instruments had, and those that they have."""


def renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe or `results.json` has of instruments, under their names of today.

    Raises
    ------
    ValueError
        If one stands there under both of its names.
    """
    for former, name in FORMER.items():
        if former in given and name in given:
            raise ValueError(f"{former} is now {name}: give one of the two")
    return {FORMER.get(name, name): value for name, value in given.items()}


class _Asked(Record):
    """All of them, in the order in which a study has them."""

    all: bool = Field(False, description="Whether the study has every one of them.")

    @model_validator(mode="before")
    @classmethod
    def _take_former_names(cls, given: object) -> object:
        return renamed(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_libraries(self) -> _Asked:
        for instrument in INSTRUMENTS:
            if self.wanted(instrument.name):
                instrument.require(getattr(self, instrument.name))
        return self

    def wanted(self, name: str) -> bool:
        """Whether the study has the instrument of this name."""
        return self.all or getattr(self, name).on

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class _Measured(Record):
    """What the instruments of `study/instruments` measured; null where the recipe did not ask."""

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        named = renamed(given)
        if unknown := sorted(set(named) - set(cls.model_fields)):
            raise ValueError(f"no instrument {unknown[0]!r} is installed; install the package that it is of")
        return named

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


if TYPE_CHECKING:
    Instruments, Measured = _Asked, _Measured
else:
    Instruments = create_model(
        "Instruments",
        __base__=_Asked,
        __doc__=_Asked.__doc__,
        **{each.name: (each.Settings, each.Settings()) for each in INSTRUMENTS},
    )
    Measured = create_model(
        "Measured",
        __base__=_Measured,
        __doc__=_Measured.__doc__,
        **{each.name: (each.Result | None, Field(None, description=each.about)) for each in INSTRUMENTS},
    )


def check(runner: Runner) -> None:
    """Refuse what an instrument could not do, before a study does anything.

    Raises
    ------
    InputError
        As `Instrument.check`, of those that the recipe asks for.
    """
    for instrument in INSTRUMENTS:
        if runner.recipe.instruments.wanted(instrument.name):
            instrument.check(runner)
