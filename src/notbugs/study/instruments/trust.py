"""Robust accuracy that can be trusted: stronger attacks on the same images, signs of masked gradients, exact tests."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from notbugs.data import Images
from notbugs.measure import (
    Accuracy,
    Agreement,
    Outcome,
    PairedTest,
    Proportion,
    Sign,
    autoattack,
    masking_signs,
    outcomes,
    paired,
)
from notbugs.measure.autoattack import possible
from notbugs.progress import Progress
from notbugs.seeds import derive
from notbugs.study.folder import Step
from notbugs.study.lab import Lab
from notbugs.threat import Threat, threat

REFERENCE = "standard"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrustedRow(_Model):
    """One classifier under several attacks on the same images."""

    classifier: str
    clean: Accuracy
    pgd: Accuracy = Field(description="the paper's protocol")
    strong: Accuracy = Field(description="by the attack that counts everywhere in the study")
    autoattack: Accuracy | None = Field(description="null: not asked for")
    union: Proportion = Field(description="robust to all of them: the worst for every image")
    marked: bool = Field(description="whether strong PGD and AutoAttack differ by more than a point")
    signs: list[Sign] = Field(description="of masked gradients, shown or not")


class Paired(_Model):
    """A classifier against the standard one, image by image."""

    classifier: str
    clean: PairedTest = Field(description="this classifier's clean accuracy minus the standard one's")
    robust: PairedTest = Field(description="the same of robust accuracy, the worst of all attacks")


class TrustMeasured(_Model):
    """What `results.json` has of this instrument."""

    seed: int
    n: int = Field(description="test images, the same for every attack and classifier")
    masking_n: int = Field(description="of these, those in which signs of masked gradients were looked for")
    rows: list[TrustedRow]
    paired: list[Paired]


def measure(lab: Lab) -> TrustMeasured:
    """Every classifier asked for, one stage each; then tests of each against the standard one."""
    asked = lab.recipe.instruments.trust
    images = lab.data.test.sample(asked.images, lab.seed, "trust")
    names = list(dict.fromkeys((REFERENCE, *asked.classifiers)))
    steps = [Step(f"trust-{name}", f"attack {name}", partial(_work, lab, name, images)) for name in names]
    found = dict(zip(names, lab.stages(steps), strict=True))
    right = {name: _right(stage) for name, stage in found.items()}
    return TrustMeasured(
        seed=lab.seed,
        n=len(images),
        masking_n=min(len(images), asked.masking_images),
        rows=[TrustedRow(**stage["row"]) for stage in found.values()],
        paired=[_paired(name, right[name], right[REFERENCE]) for name in names if name != REFERENCE],
    )


def _right(stage: dict[str, Any]) -> dict[str, Tensor]:
    return {which: torch.tensor(stage[which], dtype=torch.bool) for which in ("clean", "robust")}


def _paired(name: str, right: dict[str, Tensor], reference: dict[str, Tensor]) -> Paired:
    return Paired(classifier=name, **{which: paired(right[which], reference[which]) for which in right})


def _work(lab: Lab, name: str, images: Images, progress: Progress) -> dict[str, Any]:
    """One classifier's row, and which images it gets right, clean and under the worst of all attacks."""
    asked, classifier = lab.recipe.instruments.trust, lab.classifier(name)
    ball, parts = _ball(lab), 2 + asked.autoattack

    def part(number: int) -> Progress:
        return lambda done, total, note="": progress(number * total + done, parts * total, note)

    clean, plain, strong = _by_pgd(lab, name, images, ball, part(0))
    survived, other, is_marked = plain.survived & strong.survived, None, False
    if asked.autoattack:
        attacks = possible(asked.attacks, len(lab.data.classes))
        keep = lab.folder.path / "outcomes" / "autoattack"
        found = autoattack(classifier, images, ball, attacks=attacks, seed=lab.seed, keep=keep, progress=part(1))
        agreement = Agreement.of(strong, found)
        survived, other, is_marked = survived & found.survived, agreement.autoattack, agreement.marked
    row = TrustedRow(
        classifier=name,
        clean=clean.accuracy,
        pgd=plain.accuracy,
        strong=strong.accuracy,
        autoattack=other,
        union=Proportion.of(survived),
        marked=is_marked,
        signs=_signs(lab, name, images, ball, part(parts - 1)),
    )
    return {"row": row.model_dump(mode="json"), "clean": clean.survived.tolist(), "robust": survived.tolist()}


def _by_pgd(lab: Lab, name: str, images: Images, ball: Threat, progress: Progress) -> tuple[Outcome, Outcome, Outcome]:
    """Clean; the paper's PGD; and the attack that counts everywhere in the study."""
    usual, classifier = lab.recipe.evaluation, lab.classifier(name)
    how: dict[str, Any] = {"attack": usual.attack, "beside": usual.pgd, "seed": lab.seed}
    clean, strong, plain = outcomes(classifier, images, [ball], **how, progress=progress)
    return clean, plain, strong


def _signs(lab: Lab, name: str, images: Images, ball: Threat, progress: Progress) -> list[Sign]:
    few = images.sample(lab.recipe.instruments.trust.masking_images, lab.seed, "masking")
    other = lab.classifier("independent")
    return masking_signs(
        lab.classifier(name), few, ball, other=other, steps=lab.recipe.evaluation.pgd.steps,
        seed=derive(lab.seed, "masking"), progress=progress,
    )  # fmt: skip


def _ball(lab: Lab) -> Threat:
    adversary = lab.recipe.robust.adversary
    assert adversary is not None  # a recipe without one is refused
    return threat(adversary.norm, lab.recipe.instruments.trust.radius or adversary.eps)
