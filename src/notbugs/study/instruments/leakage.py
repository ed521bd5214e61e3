"""Robust-feature leakage of the relabelled sets: what robust features alone explain of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from notbugs.data import Images
from notbugs.measure import Certificate, Leak, certified_linear, certify, leakage
from notbugs.progress import Progress
from notbugs.study.lab import Lab
from notbugs.study.sets import RELABELLED, TrainSet
from notbugs.threat import L2

Kind = Literal["robust linear", "robust network"]
SETS = ("D", *RELABELLED)
"""The first is what untouched training images would give: the most that a set could leak."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeakRow(_Model):
    """A linear head on some robust features, trained on one set."""

    train_set: TrainSet
    features: Kind = Field(
        description="outputs of the certified linear model; penultimate features of the robust classifier"
    )
    leak: Leak
    finding: Literal["leakage", "none", "below chance"]


class LeakageFound(_Model):
    """Goh's lower bound of robust-feature leakage, and a stronger probe beside it."""

    seed: int
    test_set: str
    trained_eps: float = Field(description="l2 radius at which the linear model was trained, chosen on training images")
    certificate: Certificate = Field(description="of the linear model; the robust classifier's features have none")
    rows: list[LeakRow]


def measure(lab: Lab) -> LeakageFound:
    """The linear model with its certificate, then both probes on every relabelled set and on D."""

    def work(progress: Progress) -> dict[str, Any]:
        return _found(lab, progress).model_dump(mode="json", by_alias=True)

    return LeakageFound(**lab.stage("leakage", "look for robust features in the relabelled sets", work))


def _found(lab: Lab, progress: Progress) -> LeakageFound:
    asked, classes = lab.recipe.instruments.leakage, len(lab.data.classes)
    ball, train, test = L2(asked.eps), _images(lab, "D"), lab.data.test
    model, trained = certified_linear(train, ball, classes=classes, device=lab.device)
    probes: dict[Kind, Any] = {"robust linear": model, "robust network": lab.classifier("robust")}
    rows: list[LeakRow] = []
    for name in SETS:
        for kind, features in probes.items():
            leak = leakage(features, _images(lab, name), test, classes=classes, seed=lab.seed)
            rows.append(LeakRow(train_set=name, features=kind, leak=leak, finding=leak.finding))
            progress(len(rows), len(SETS) * len(probes))
    return LeakageFound(
        seed=lab.seed,
        test_set=lab.data.test_name,
        trained_eps=trained,
        certificate=certify(model, train, test, ball),
        rows=rows,
    )


def _images(lab: Lab, name: str) -> Images:
    """Of a set, as many as were asked for."""
    images = lab.data.train if name == "D" else lab.set(name).images
    return images.sample(lab.recipe.instruments.leakage.images, lab.seed, "leakage")
