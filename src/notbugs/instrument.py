"""What an instrument is: something that a study measures beyond accuracies, if its recipe asks for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, TypeVar

from pydantic import BaseModel, Field

from notbugs.errors import renamed
from notbugs.progress import Progress
from notbugs.records import Record

if TYPE_CHECKING:
    from notbugs.content import PrintedFigure, Section
    from notbugs.study.runner import Runner


class InstrumentSettings(Record):
    """What a recipe asks of an instrument in `[instruments.NAME]`; switched off unless it says otherwise.

    Examples
    --------
    >>> from notbugs.instrument import InstrumentSettings
    >>> InstrumentSettings(on=True).on
    True
    """

    on: bool = Field(False, description="Whether the study has it.")


class InstrumentResult(Record):
    """A part of what an instrument measured."""


InStudy = Annotated[str, Field(description="its name in the study")]
Seed = Annotated[int, Field(description="of all that is random here")]
TestSet = Annotated[
    str, Field(description="the images measured: `test`, or `heldout`, taken out of the training images")
]

T = TypeVar("T")


@dataclass(frozen=True)
class Step(Generic[T]):
    """A stage to be done: its file's name, its title, what makes its value, and what a console says of that.

    Attributes
    ----------
    work : callable
        Makes the value.
    tell : callable, optional
        From the value to the line that a console says of it: its beginning, and items.
    leaves : Path, optional
        A safetensors file of the stage: where that is damaged, the stage is done again.
    kind : type, optional
        Of the value: a model, a `TypedDict`, or lists, tuples and dicts of them. The stage's file is written from it,
        and what is read there is checked against it. Without one, the value is plain JSON.
    images : callable, optional
        From the value to the number of images that the work went through: all epochs of a training, a set's, those
        measured. `status` tells images a second from it.
    """

    name: str
    title: str
    work: Callable[[Progress], T]
    tell: Callable[[T], Sequence[str]] | None = None
    leaves: Path | None = None
    kind: type[T] | None = None
    images: Callable[[T], int] | None = None


S = TypeVar("S", bound=InstrumentSettings)
R = TypeVar("R", bound=BaseModel)


class Instrument(ABC, Generic[S, R]):
    """One instrument: its settings, what it measures and how, and what a page shows of that.

    The recipe's model and that of `results.json` are made from the instruments that there are. Those of other packages
    are found by the entry point group `notbugs.instruments`.

    Attributes
    ----------
    name : str
        Its section in a recipe, its field in `results.json`, its anchor on the page, and how the names of its stages
        begin.
    former : str
        A name that it had before, which recipes, flags, results and finished stages may still have; empty if it had
        none.
    grows : tuple of str
        Settings that are lists of which a finished study may be given more: every entry has stages of its own.
    uses : tuple of str
        Other instruments whose settings it works with, whether they are on or not: they may not change behind it.
    Settings : type
        What a recipe may ask of it.
    Result : type
        What `results.json` has of it.
    """

    name: ClassVar[str]
    former: ClassVar[str] = ""
    grows: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    Settings: type[S]
    Result: type[R]

    @property
    def about(self) -> str:
        """What it measures: the first sentence of its class's own docstring, if it has one."""
        return (type(self).__doc__ or "").partition(".")[0]

    def require(self, settings: S) -> None:
        """Refuse, as a recipe is read, what is not installed.

        Raises
        ------
        InputError
            If a library is missing.
        """

    def check(self, runner: Runner) -> None:
        """Refuse what cannot be done, before a study does anything.

        Raises
        ------
        InputError
            If the recipe asks for what its data or its architecture does not have.
        """

    @abstractmethod
    def run(self, runner: Runner) -> R:
        """Measure, in stages of the runner: a killed study goes on from the last that it finished."""

    @abstractmethod
    def section(self, result: R, classes: Sequence[str]) -> Section:
        """What a page shows, from the result alone; what draws is imported here, and not by the module."""

    def figures(self, result: R, seed: int) -> Iterable[PrintedFigure]:
        """The figures for a paper, of a study of this seed; its tables follow from `section`."""
        return ()


if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Found": "InstrumentResult"})
