"""What a study measures beyond accuracies, when its recipe asks for it: one file an instrument.

Each file has a function `measure(lab)` that does its work in stages of the lab, so that a killed study goes on from
the last of them, and returns a model that stands in `results.json` under the instrument's name. What a recipe asks of
it is its class in `study/asked.py`: `lab.recipe.instruments.NAME`.
"""

from collections.abc import Callable

from pydantic import BaseModel

from notbugs.study.instruments import (
    controls,
    corruptions,
    gap,
    leakage,
    shares,
    spatial,
    transfer,
    trust,
    usefulness,
)
from notbugs.study.lab import Lab

INSTRUMENTS: dict[str, Callable[[Lab], BaseModel]] = {
    "usefulness": usefulness.measure,
    "shares": shares.measure,
    "leakage": leakage.measure,
    "controls": controls.measure,
    "gap": gap.measure,
    "transfer": transfer.measure,
    "trust": trust.measure,
    "spatial": spatial.measure,
    "corruptions": corruptions.measure,
}
"""By the names of `asked.Instruments`, in its order."""


def check(lab: Lab) -> None:
    """Refuse what an instrument could not do, before a study does anything.

    Raises
    ------
    InputError
        If a recipe asks for the features of a layer that its architecture does not have.
    """
    asked = lab.recipe.instruments
    if asked.wanted("usefulness") or asked.wanted("shares"):
        usefulness.check(lab)
