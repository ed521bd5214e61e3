"""Robust-feature leakage of the relabelled sets: what robust features alone explain of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from notbugs.content import Cell, Section, Table
from notbugs.data import Images
from notbugs.formats import ball, between, percent, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Certificate, Leak, certified_linear, certify, leakage
from notbugs.measure.features import FeatureSource
from notbugs.progress import Progress, part
from notbugs.study.sets import RELABELLED, TrainSet
from notbugs.threat import L2

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class LeakageSettings(InstrumentSettings):
    """What robust features alone explain of relabelled sets."""

    eps: float = Field(
        0.25, gt=0, allow_inf_nan=False, description="l2 radius of the certificate, pixel units; Goh's is 0.25."
    )
    images: int = Field(15_000, ge=2, description="Images of each set, at most, drawn at random.")


Kind = Literal["robust linear", "robust network"]
SETS = ("D", *RELABELLED)
"""The first is what untouched training images would give: the most that a set could leak."""


class LeakRow(InstrumentResult):
    """A linear head on some robust features, trained on one set."""

    train_set: TrainSet = Field(description="what it was trained on")
    features: Kind = Field(
        description="outputs of the certified linear model; penultimate features of the robust classifier"
    )
    leak: Leak = Field(description="what heads on robust features learn from the set")
    finding: Literal["leakage", "none", "below chance"] = Field(description="whether that is above chance")


class LeakageResult(InstrumentResult):
    """Goh's lower bound of robust-feature leakage, and a stronger probe beside it."""

    seed: Seed
    test_set: TestSet
    trained_eps: float = Field(description="l2 radius at which the linear model was trained, chosen on training images")
    certificate: Certificate = Field(description="of the linear model; the robust classifier's features have none")
    rows: list[LeakRow] = Field(description="one for each classifier, set or pair")


def _measured(runner: Runner, progress: Progress) -> LeakageResult:
    settings, classes = runner.recipe.instruments.leakage, len(runner.data.classes)
    ball, train, test = L2(settings.eps), _images(runner, "D"), runner.data.test
    parts = 1 + 2 * len(SETS)
    first = part(progress, 0, parts)
    model, trained = certified_linear(train, ball, classes=classes, device=runner.device, progress=first)
    probes: dict[Kind, FeatureSource] = {"robust linear": model, "robust network": runner.classifier("robust")}
    rows: list[LeakRow] = []
    for name in SETS:
        for kind, features in probes.items():
            told = part(progress, 1 + len(rows), parts)
            leak = leakage(features, _images(runner, name), test, classes=classes, seed=runner.seed, progress=told)
            rows.append(LeakRow(train_set=name, features=kind, leak=leak, finding=leak.finding))
    return LeakageResult(
        seed=runner.seed,
        test_set=runner.data.test_name,
        trained_eps=trained,
        certificate=certify(model, train, test, ball),
        rows=rows,
    )


def _images(runner: Runner, name: str) -> Images:
    """Of a set, as many as were asked for."""
    images = runner.data.train if name == "D" else runner.set(name).images
    return images.sample(runner.recipe.instruments.leakage.images, runner.seed, "leakage")


LEAKAGE_TEXT = (
    "The paper's claim needs relabelled images whose robust features say nothing of the new label. Here a linear head "
    "sees robust features alone and is trained on each set: what it then knows about untouched test images has leaked "
    "through robust features. The outputs of the linear model are certified: where they are robust by one of Goh's two "
    "specifications, below, its accuracy is a lower bound of leakage (Goh, 2019, who found at least 23.5 % for D_rand "
    "on CIFAR-10, and none for D_det). The features of the robust network are not certified, and see more. A head that "
    "learned nothing is not right by chance alone, so heads trained on shuffled labels stand beside it."
)


def leakage_section(result: LeakageResult) -> Section:
    """The certificate, and both probes on every set."""
    held = result.certificate
    within = ball(held.norm, held.eps)
    certificate = (
        f"The linear model, trained at l2 {result.trained_eps:g}, is right on {said(held.accuracy)} of {held.n} test "
        f"images, and provably so within {within} on {said(held.certified)}; {said(held.kept)} keep their "
        f"prediction there. Goh's first specification, gamma at least 0 for every feature, "
        f"{_says(held.gamma_at_least_0)}; the second, that 80 % keep their prediction, {_says(held.keeps_predictions)}."
    )
    if "holds" not in (held.gamma_at_least_0, held.keeps_predictions):
        certificate += " So they are not shown to be robust by either, and what they know of a set bounds nothing."
    score = next((row.leak.score for row in result.rows), "accuracy")
    columns = ("trained on", "features", score, "chance", "shuffled labels", "fits its set", "leakage")
    rows = [
        [row.train_set, row.features, *_leak(row.leak, "reference" if row.train_set == "D" else row.finding)]
        for row in result.rows
    ]
    caption = f"Linear heads on robust features, {score} on the test images in per cent; seed {result.seed}"
    return Section(
        "leakage",
        "Robust-feature leakage",
        "Leakage",
        LEAKAGE_TEXT,
        [certificate],
        tables=[Table(caption, columns, rows)],
    )


def _says(verdict: str) -> str:
    return {"holds": "holds", "fails": "fails", "unclear": "cannot be told"}[verdict]


def _leak(leak: Leak, finding: str) -> list[Cell]:
    low, high = leak.shuffled
    return [leak.accuracy, percent(leak.chance), between(low, high), leak.fitted, finding]


class LeakageInstrument(Instrument[LeakageSettings, LeakageResult]):
    """What robust features alone explain of relabelled sets."""

    name = "leakage"
    Settings = LeakageSettings
    Result = LeakageResult

    def run(self, runner: Runner) -> LeakageResult:
        """The linear model with its certificate, then both probes on every relabelled set and on D."""
        title = "look for robust features in the relabelled sets"
        return runner.stage("leakage", title, partial(_measured, runner), kind=LeakageResult)

    def section(self, result: LeakageResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return leakage_section(result)
