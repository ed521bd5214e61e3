"""What an audit found: its types, as `audit.json` holds them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from notbugs.measure.accuracy import Accuracy, Score
from notbugs.measure.drivers import Driver
from notbugs.measure.spectrum import SpectrumRow, UsefulnessSummary
from notbugs.measure.verdict import Verdict
from notbugs.shown import Tabular
from notbugs.threat import Norm

GroupName = Literal["all", "robust", "nonrobust"]
TITLES: dict[GroupName, str] = {
    "all": "all features",
    "robust": "robustly useful features",
    "nonrobust": "useful non-robust features",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Group(_Model):
    """A linear head refitted on some features, on training images."""

    name: GroupName
    features: int = Field(description="how many may speak")
    strength: float = Field(description="weight of the l2 penalty, on features of unit variance")
    accuracies: list[Accuracy] = Field(description="clean, then under PGD at every radius")


class Sizes(_Model):
    """How many images decided what; no image is in two of them."""

    fitted: int = Field(description="training images that features are standardised and heads fitted on")
    sorted: int = Field(description="test images that sorted the features")
    measured: int = Field(description="test images that measured accuracies")


class Audit(Tabular, _Model):
    """The whole audit: `verdict.sentences` say what the rest shows."""

    norm: Norm
    eps: float = Field(description="radius of the threat, pixel units, pixels in [0, 1]")
    seed: int
    classes: int
    sizes: Sizes
    score: Score = Field(
        "accuracy", description="what the verdict is of: balanced where a class has over half of the measured images"
    )
    guessing: float = Field(description="its value for naming one class everywhere, the most frequent one")
    model: list[Accuracy] = Field(description="of the model as it is: clean, then under PGD at every radius")
    groups: list[Group]
    usefulness: UsefulnessSummary
    drivers: list[Driver] = Field(description="what drives the most robust and the least robust useful features")
    verdict: Verdict

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


def by_robustness(found: UsefulnessSummary) -> list[SpectrumRow]:
    """Every feature for its best class, the largest gamma first."""
    return sorted(found.spectrum, key=lambda row: -row.gamma)
