"""What an audit found, as `audit.json` holds it, and its verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from notbugs.formats import percent, quoted
from notbugs.measure.accuracy import Accuracy, Score
from notbugs.measure.feature_visualization import Driver
from notbugs.measure.spectrum import SpectrumRow, UsefulnessSummary
from notbugs.measure.statistics import Proportion, against_chance, compare
from notbugs.records import Record
from notbugs.shown import Tabular
from notbugs.threat import Norm

LEVELS = ((0.9, "nearly all"), (0.5, "most"), (0.1, "a part"), (-1e9, "next to nothing"))
"""From which share on a word is used."""
BALANCED = "Every class counts the same here, in balanced accuracies. "
HALF = 0.5
"""The share above which a group carries the model, and robust accuracy counts as held."""

Basis = Literal["robust", "unused", "nonrobust", "open"]


class Kept(Record):
    """How much of one accuracy is left in another.

    The interval is that of the accuracy in the numerator: both are measured on the same images, and are right on much
    the same ones. In simulations of accuracies 0.5 and 0.3 of 1,000 images, with guessing at 0.1, it held the true
    share in 99 % of the cases where one is right only where the other is, in 91 % where the two have nothing to do with
    each other, and in 83 % where they are never right on the same image.
    """

    value: float = Field(description="share of the one accuracy that is left in the other")
    low: float = Field(description="lower end of its interval")
    high: float = Field(description="upper end of its interval")

    @classmethod
    def of(cls, part: Proportion, whole: Proportion, guessing: float) -> Kept | None:
        """(part - guessing) / (whole - guessing); None where `whole` cannot be told from guessing."""
        if against_chance(whole, guessing) != "higher":
            return None
        share = [(value - guessing) / (whole.value - guessing) for value in (part.value, part.low, part.high)]
        return cls(value=share[0], low=share[1], high=share[2])

    @property
    def words(self) -> str:
        """The share in words: those of both ends of the interval where they differ."""
        least, most = _word(self.low), _word(self.high)
        return least if least == most else f"{least} or {most}"


class Verdict(Record):
    """Three sentences, and what they were made from.

    All shares are of accuracy over guessing, that is over naming the most frequent class. `basis` is "robust" where
    robustly useful features keep more than half of what all features have, and the attack leaves the model more than
    half of what it has; "unused" where they keep more than half but the attack leaves less; "nonrobust" where they keep
    less than half, the useful non-robust ones more, and the attack leaves less; "open" otherwise. "More" and "less" are
    claimed only where the whole interval is on that side.
    """

    basis: Basis = Field(description="what the accuracy rests on, in one word")
    robust: Kept | None = Field(description="kept by robustly useful features, of what all features have over guessing")
    nonrobust: Kept | None = Field(description="the same of useful non-robust features")
    held: Kept | None = Field(description="of what the model has over guessing, what the attack leaves")
    sentences: tuple[str, str, str] = Field(description="the verdict in words")


class Measured(BaseModel):
    """An accuracy clean and under the threat, and the number of features behind it."""

    model_config = ConfigDict(frozen=True)

    features: int
    clean: Proportion
    attacked: Proportion


def verdict(
    model: Measured,
    every: Measured,
    robust: Measured,
    nonrobust: Measured,
    *,
    guessing: float,
    threat: str,
    score: Score = "accuracy",
) -> Verdict:
    """Judge an audit.

    Parameters
    ----------
    model : Measured
        The classifier as it is.
    every, robust, nonrobust : Measured
        Linear heads refitted on all of its features, on the robustly useful, on the useful non-robust ones.
    guessing : float
        Accuracy of naming the most frequent class.
    threat : str
        Its name, for the sentences: `l2 0.5`.
    score : {"accuracy", "balanced accuracy"}
        What was measured.
    """
    kept = Kept.of(robust.clean, every.clean, guessing)
    other = Kept.of(nonrobust.clean, every.clean, guessing)
    held = Kept.of(model.attacked, model.clean, guessing)
    basis = _basis(kept, other, held)
    return Verdict(
        basis=basis,
        robust=kept,
        nonrobust=other,
        held=held,
        sentences=(
            f"{BALANCED if score == 'balanced accuracy' else ''}{_first(every, robust, kept, guessing, score)}",
            _second(nonrobust, other, threat),
            _third(model, robust, basis),
        ),
    )


def _basis(robust: Kept | None, nonrobust: Kept | None, held: Kept | None) -> Basis:
    if not (robust and nonrobust and held):
        return "open"
    if robust.low > HALF and held.low > HALF:
        return "robust"
    if held.high >= HALF:
        return "open"
    if robust.low > HALF:
        return "unused"
    return "nonrobust" if robust.high < HALF < nonrobust.low else "open"


def _first(every: Measured, robust: Measured, kept: Kept | None, guessing: float, score: Score) -> str:
    whole = quoted(every.clean)
    reference = f"a head on all {every.features} features reaches {whole} and guessing {percent(guessing)}%"
    if kept is None:
        return f"This model's features cannot be told from guessing: {reference}."
    if not robust.features:
        return (
            f"None of its {every.features} features is robustly useful, so none can be tested alone, where {reference}."
        )
    reaches = quoted(robust.clean)
    reaches = f"is right on {reaches} of the images" if score == "accuracy" else f"reaches {reaches}"
    return (
        f"{_counted(robust.features, 'robustly useful feature')} alone {_keep(robust.features)} {kept.words} of what "
        f"its features know: a head refitted on them {reaches}, where {reference}."
    )


def _second(nonrobust: Measured, kept: Kept | None, threat: str) -> str:
    if not nonrobust.features:
        return "It has no useful non-robust feature."
    counted = _counted(nonrobust.features, "useful non-robust feature")
    share = f" {_keep(nonrobust.features)} {kept.words} of it and" if kept else ""
    return (
        f"{counted} alone{share} {'reach' if nonrobust.features > 1 else 'reaches'} {quoted(nonrobust.clean)}, of "
        f"which an attack at {threat} leaves {quoted(nonrobust.attacked)}."
    )


def _third(model: Measured, robust: Measured, basis: Basis) -> str:
    fall = f"The same attack takes the model itself from {quoted(model.clean)} to {quoted(model.attacked)}"
    return f"{fall}: {_conclusion(model, robust, basis)}."


def _conclusion(model: Measured, robust: Measured, basis: Basis) -> str:
    if basis == "robust":
        return "its accuracy rests on features that survive such a change"
    if basis == "nonrobust":
        return "its accuracy rests on features whose sign such a change flips"
    if basis == "unused":
        gain = compare(robust.attacked, model.attacked) == "higher"
        more = f", which alone would leave {quoted(robust.attacked)}" if gain else ""
        return f"it has robust features{more}, but others decide what it says"
    return "on what its accuracy rests these numbers do not decide"


def _counted(count: int, what: str) -> str:
    return f"Its one {what}" if count == 1 else f"Its {count} {what}s"


def _keep(count: int) -> str:
    return "keeps" if count == 1 else "keep"


def _word(share: float) -> str:
    return next(word for least, word in LEVELS if share >= least)


GroupName = Literal["all", "robust", "nonrobust"]
NAMES: dict[GroupName, str] = {"all": "all features", "robust": "robust alone", "nonrobust": "non-robust alone"}
"""Of the groups, in tables."""
TITLES: dict[GroupName, str] = {
    "all": "all features",
    "robust": "robustly useful features",
    "nonrobust": "useful non-robust features",
}


class Group(Record):
    """A linear head refitted on some features, on training images."""

    name: GroupName = Field(description="which features: all, the robustly useful, or the useful non-robust")
    features: int = Field(description="how many are used")
    strength: float = Field(description="weight of the l2 penalty, on features of unit variance")
    accuracies: list[Accuracy] = Field(description="clean, then under the attack at every radius")


class Sizes(Record):
    """How many images decided what; no image is in two of them."""

    fitted: int = Field(description="training images that features are standardised and heads fitted on")
    sorted: int = Field(description="test images that sorted the features")
    measured: int = Field(description="test images that measured accuracies")


class Audit(Tabular, Record):
    """The whole audit: `verdict.sentences` say what the rest shows.

    Examples
    --------
    >>> found = nb.audit(classifier, data, nb.L2(0.5), images=4, measured=20, fit_images=100, attack='pgd')
    >>> table = found.to_pandas()
    """

    norm: Norm = Field(description="of the threat")
    eps: float = Field(description="radius of the threat, pixel units, pixels in [0, 1]")
    seed: int = Field(description="of all that is random")
    classes: int = Field(description="how many the data has")
    sizes: Sizes = Field(description="of the perturbations that the attack found")
    score: Score = Field(
        "accuracy", description="what the verdict is of: balanced where a class has over half of the measured images"
    )
    guessing: float = Field(description="its value for naming one class everywhere, the most frequent one")
    model: list[Accuracy] = Field(description="of the model as it is: clean, then under the attack at every radius")
    groups: list[Group] = Field(
        description="accuracy with some of the features alone: useful, robustly useful and others"
    )
    usefulness: UsefulnessSummary = Field(description="of the features")
    drivers: list[Driver] = Field(description="what drives the most robust and the least robust useful features")
    verdict: Verdict = Field(description="what the accuracy rests on")

    @property
    def heading(self) -> str:
        """The verdict."""
        return "\n".join(self.verdict.sentences)

    def table_rows(self) -> list[dict[str, object]]:
        """Accuracies of the model, and of a linear head on each group of its features."""
        rows: list[dict[str, object]] = [
            {"features": "the model itself", "count": None, **one.row()} for one in self.model
        ]
        return rows + [
            {"features": group.name, "count": group.features, **one.row()}
            for group in self.groups
            for one in group.accuracies
        ]

    @property
    def threat_name(self) -> str:
        """As sentences have it: `l2 0.5`."""
        return f"{self.norm} {self.eps:g}"

    def group(self, name: GroupName) -> Group:
        """The group of this name."""
        return next(group for group in self.groups if group.name == name)

    @property
    def spectrum(self) -> list[SpectrumRow]:
        """Every feature, the most robust first."""
        return by_robustness(self.usefulness)


def by_robustness(summary: UsefulnessSummary) -> list[SpectrumRow]:
    """Every feature for its best class, the largest gamma first."""
    return sorted(summary.spectrum, key=lambda row: -row.gamma)
