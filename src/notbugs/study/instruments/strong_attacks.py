"""Robust accuracy that can be trusted: stronger attacks on the same images, signs of masked gradients, exact tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from pydantic import Field, model_validator
from typing_extensions import TypedDict

from notbugs.content import Cell, Section, Table
from notbugs.data import Images
from notbugs.errors import must
from notbugs.files import LOG
from notbugs.formats import ball, points, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, InStudy, Seed
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
from notbugs.measure._autoattack import AttackName, possible, require_autoattack
from notbugs.progress import Progress, part
from notbugs.seeds import derive
from notbugs.study.sets import EVERY, Trained
from notbugs.threat import Threat, check_radii, threat

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class StrongAttacksSettings(InstrumentSettings):
    """Robust accuracy that can be trusted: stronger attacks on the same images, signs of masked gradients."""

    classifiers: tuple[Trained, ...] = Field(
        tuple(name for name in EVERY if name != "independent"),
        description="Which ones; each is tested against the standard one, image by image.",
    )
    images: int = Field(150, ge=1, description="Test images, drawn at random; the same for every attack.")
    radius: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Pixel units; norm, and radius if not given, are robust training's.",
    )
    autoattack: bool = Field(True, description="Whether to run AutoAttack; it needs notbugs[autoattack].")
    attacks: tuple[AttackName, ...] = Field(
        ("apgd-ce", "apgd-t"),
        min_length=1,
        description="Of AutoAttack, those that so many classes allow; all four: apgd-ce, apgd-t, fab-t, square.",
    )
    masking_images: int = Field(100, ge=1, description="Of those images, how many to look for masked gradients in.")

    @model_validator(mode="before")
    @classmethod
    def _leave_old_names(cls, given: object) -> object:
        """Older recipes said here how a stronger PGD goes; the evaluation's attack is that now."""
        old = ("restarts", "targeted")
        for name in old:
            if isinstance(given, dict) and name in given:
                LOG.warning(
                    "instruments.strong_attacks.%s has no effect any more: evaluation.attack.%s is of the attack that "
                    "counts, for all that is measured.",
                    name,
                    name,
                )
        return {name: value for name, value in given.items() if name not in old} if isinstance(given, dict) else given


REFERENCE = "standard"


class StrongAttacksRow(InstrumentResult):
    """One classifier under several attacks on the same images."""

    classifier: InStudy
    clean: Accuracy = Field(description="accuracy on the images as they are")
    pgd: Accuracy = Field(description="the paper's protocol")
    strong: Accuracy = Field(description="by the attack that counts everywhere in the study")
    autoattack: Accuracy | None = Field(description="null: not asked for")
    union: Proportion = Field(description="robust to all of them: the worst for every image")
    marked: bool = Field(description="whether strong PGD and AutoAttack differ by more than a point")
    signs: list[Sign] = Field(description="of masked gradients, shown or not")


class Paired(InstrumentResult):
    """A classifier against the standard one, image by image."""

    classifier: InStudy
    clean: PairedTest = Field(description="this classifier's clean accuracy minus the standard one's")
    robust: PairedTest = Field(description="the same of robust accuracy, the worst of all attacks")


class StrongAttacksResult(InstrumentResult):
    """What `results.json` has of this instrument."""

    seed: Seed
    n: int = Field(description="test images, the same for every attack and classifier")
    masking_n: int = Field(description="of these, those in which signs of masked gradients were looked for")
    rows: list[StrongAttacksRow] = Field(description="one for each classifier, set or pair")
    paired: list[Paired] = Field(description="exact tests of each classifier against the standard one")


class Attacked(TypedDict):
    """One classifier's row, and which images it gets right, clean and under the worst of all attacks."""

    row: StrongAttacksRow
    clean: list[bool]
    robust: list[bool]


def _paired(attacked: Attacked, reference: Attacked) -> Paired:
    return Paired(
        classifier=attacked["row"].classifier,
        clean=paired(torch.tensor(attacked["clean"]), torch.tensor(reference["clean"])),
        robust=paired(torch.tensor(attacked["robust"]), torch.tensor(reference["robust"])),
    )


def _work(runner: Runner, images: Images, name: str, progress: Progress) -> Attacked:
    settings, classifier = runner.recipe.instruments.strong_attacks, runner.classifier(name)
    ball, parts = _ball(runner), 2 + settings.autoattack

    clean, plain, strong = _by_pgd(runner, name, images, ball, part(progress, 0, parts))
    survived, other, is_marked = plain.survived & strong.survived, None, False
    if settings.autoattack:
        attacks = possible(settings.attacks, len(runner.data.classes), ball.norm, runner.data.test.shape)
        keep = runner.folder.path / "outcomes" / "autoattack"
        outcome = autoattack(
            classifier, images, ball, attacks=attacks, seed=runner.seed, keep=keep, progress=part(progress, 1, parts)
        )
        agreement = Agreement.of(strong, outcome)
        survived, other, is_marked = survived & outcome.survived, agreement.autoattack, agreement.marked
    row = StrongAttacksRow(
        classifier=name,
        clean=clean.accuracy,
        pgd=plain.accuracy,
        strong=strong.accuracy,
        autoattack=other,
        union=Proportion.of(survived),
        marked=is_marked,
        signs=_signs(runner, name, images, ball, part(progress, parts - 1, parts)),
    )
    return {"row": row, "clean": clean.survived.tolist(), "robust": survived.tolist()}


def _by_pgd(
    runner: Runner, name: str, images: Images, ball: Threat, progress: Progress
) -> tuple[Outcome, Outcome, Outcome]:
    """Clean; the paper's PGD; and the attack that counts everywhere in the study."""
    usual, classifier = runner.recipe.evaluation, runner.classifier(name)
    clean, strong, plain = outcomes(
        classifier,
        images,
        [ball],
        attack=usual.attack,
        beside=usual.pgd,
        seed=runner.seed,
        progress=progress,
    )
    return clean, plain, strong


def _signs(runner: Runner, name: str, images: Images, ball: Threat, progress: Progress) -> list[Sign]:
    few = images.sample(runner.recipe.instruments.strong_attacks.masking_images, runner.seed, "masking")
    other = runner.classifier("independent")
    return masking_signs(
        runner.classifier(name), few, ball, other=other, steps=runner.recipe.evaluation.pgd.steps,
        seed=derive(runner.seed, "masking"), progress=progress,
    )  # fmt: skip


def _ball(runner: Runner) -> Threat:
    adversary = runner.recipe.robust.adversary
    assert adversary is not None  # a recipe without one is refused
    return threat(adversary.norm, runner.recipe.instruments.strong_attacks.radius or adversary.eps)


TEXT = (
    "An attack gives an upper bound of robust accuracy, so several were run on the same images, and an image counts as "
    "robust only if none of them broke it: the last column. Where the stronger PGD and AutoAttack differ by more than "
    "a point, one of them was too weak. Signs of masked gradients say where attacks by gradients may be misled; that "
    "none is shown proves nothing."
)


def strong_attacks_section(measured: StrongAttacksResult) -> Section:
    """The attacks side by side, the paired tests, and every sign that is shown."""
    attack = measured.rows[0].pgd.attack
    where = ball(attack.norm, attack.eps) if attack else ""
    columns = ("classifier", "clean", "PGD", "stronger PGD", "AutoAttack", "all of them")
    attacks = Table(f"At {where}, {measured.n} test images.", columns, [_cells(row) for row in measured.rows])
    tests = Table(
        "Against the standard classifier on the same images: difference in points, with its interval, and p of "
        "McNemar's exact test, neither adjusted for their number.",
        ("classifier", "clean", "p", "robust", "p"),
        [[row.classifier, *_test(row.clean), *_test(row.robust)] for row in measured.paired],
    )
    return Section(
        name="strong_attacks",
        title="Robust accuracy, by stronger attacks",
        short="Attacks compared",
        text=TEXT,
        reading=list(_reading(measured)),
        tables=[attacks, *([tests] if tests.rows else [])],
    )


def _cells(row: StrongAttacksRow) -> list[Cell]:
    other = row.autoattack.share if row.autoattack else None
    return [row.classifier, row.clean.share, row.pgd.share, row.strong.share, other, row.union]


def _test(test: PairedTest) -> list[Cell]:
    return [points(test.difference, test.low, test.high), f"{test.p_value:.2g}"]


def _reading(measured: StrongAttacksResult) -> Iterator[str]:
    """A sentence for every mark, and one for every classifier with signs, or one that there are none."""
    for row in measured.rows:
        if row.marked and row.autoattack:
            yield (
                f"{row.classifier}: the stronger PGD leaves {said(row.strong.share)} and AutoAttack "
                f"{said(row.autoattack.share)}, more than a point apart."
            )
    shown = {row.classifier: [sign for sign in row.signs if sign.shown] for row in measured.rows}
    for name, signs in shown.items():
        if signs:
            yield f"{name} shows signs of masked gradients: {', '.join(_named(sign) for sign in signs)}."
    if not any(shown.values()):
        yield f"No classifier shows a sign of masked gradients ({measured.masking_n} images, eight signs)."


def _named(sign: Sign) -> str:
    return f"{sign.name} ({sign.rule})"


class StrongAttacksInstrument(Instrument[StrongAttacksSettings, StrongAttacksResult]):
    """Robust accuracy that can be trusted."""

    name, former = "strong_attacks", "trust"
    Settings = StrongAttacksSettings
    Result = StrongAttacksResult

    def require(self, settings: StrongAttacksSettings) -> None:
        """See `Instrument`."""
        if settings.autoattack:
            require_autoattack()

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        settings, ball = runner.recipe.instruments.strong_attacks, _ball(runner)
        check_radii([ball], runner.data.train.shape)
        count, shape = len(runner.data.classes), runner.data.test.shape
        if settings.autoattack and not possible(settings.attacks, count, ball.norm, shape):
            rule = f"have one that {count} classes and these images allow, as apgd-ce"
            raise must("instruments.strong_attacks.attacks", rule, ", ".join(settings.attacks))

    def run(self, runner: Runner) -> StrongAttacksResult:
        """Every classifier asked for, one stage each; then tests of each against the standard one."""
        settings = runner.recipe.instruments.strong_attacks
        images = runner.data.test.sample(settings.images, runner.seed, "trust")
        names = list(dict.fromkeys((REFERENCE, *settings.classifiers)))
        work = partial(_work, runner, images)
        attacked = runner.of_each(names, "strong_attacks", "attack", work, kind=Attacked)
        return StrongAttacksResult(
            seed=runner.seed,
            n=len(images),
            masking_n=min(len(images), settings.masking_images),
            rows=[one["row"] for one in attacked.values()],
            paired=[_paired(one, attacked[REFERENCE]) for name, one in attacked.items() if name != REFERENCE],
        )

    def section(self, result: StrongAttacksResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return strong_attacks_section(result)
