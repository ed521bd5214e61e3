"""Where a D_R classifier loses its robustness: on D_R itself, on new images of D_R's kind, on images as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from notbugs.construct import ConstructedSet
from notbugs.content import Cell, Section, Table
from notbugs.data import Images
from notbugs.formats import ball
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Accuracy, AttackUsed, Difference
from notbugs.seeds import derive
from notbugs.study.sets import BY_NAME
from notbugs.threat import check_radii, threat

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class GeneralizationGapSettings(InstrumentSettings):
    """How much of what a D_R classifier lacks in robustness it lacks on D_R itself, and how much beyond."""

    images: int = Field(1000, ge=1, description="Images of each of the three kinds; fewer where there are fewer.")
    radii: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(
        (0.25,), min_length=1, description="Radii, pixel units; the paper's is 0.25."
    )


Where = Literal["D_R training", "D_R test", "test"]


class GapPlace(InstrumentResult):
    """The D_R classifier on one kind of images."""

    images: Where = Field(
        description="D_R's training images; test images built as D_R was, starts from the test images; test images"
    )
    accuracies: list[Accuracy] = Field(description="clean, then robust at every radius")


class GapPart(InstrumentResult):
    """What is lost from one place to the next, clean (attack null) or under one attack."""

    attack: AttackUsed | None = Field(description="of the robust accuracies that are compared; null: clean accuracies")
    generalisation: Difference = Field(description="accuracy on D_R's training images less that on D_R's test images")
    shift: Difference = Field(description="accuracy on D_R's test images less that on the test images")


class GeneralizationGapResult(InstrumentResult):
    """The gap of D_R taken apart (the paper, table 8)."""

    places: list[GapPlace] = Field(description="the three kinds of images on which the classifier of D_R is attacked")
    parts: list[GapPart] = Field(description="what is lost from one kind of images to the next")
    source: str = Field(description="the classifier that D_R and D_R's test images were built with")
    seed: Seed
    test_set: TestSet


def _part(training: Accuracy, new: Accuracy, test: Accuracy) -> GapPart:
    return GapPart(
        attack=test.attack,
        generalisation=Difference.of(training.share, new.share),
        shift=Difference.of(new.share, test.share),
    )


def _transformed(runner: Runner, test: Images) -> ConstructedSet:
    """Test images pushed through the construction of D_R: each matched from another test image."""
    data = replace(runner.data, name=f"{runner.data.name}, test images", train=test, test=test)

    return runner.construct("D_R_test", BY_NAME["D_R"], data=data, seed=derive(runner.seed, "set", "D_R_test"))


def _accuracies(runner: Runner, where: Where, images: Images) -> list[Accuracy]:
    norm, radii = runner.recipe.evaluation.norm, runner.recipe.instruments.generalization_gap.radii
    name, title = f"generalization_gap-{where.replace(' ', '-')}", f"measure D_R on {where} images"
    return runner.accuracies(name, title, runner.classifier("D_R"), images, [threat(norm, eps) for eps in radii])


GAP_TEXT = (
    "The classifier of D_R under the same attack on three kinds of images: those of D_R it was trained on, test images "
    "that went through the construction of D_R, and test images as they are. What it loses first is generalisation, "
    "what it loses then is a shift of distribution. The paper, at l2 0.25 on CIFAR-10: 77.33, 62.49 and 48.27 %."
)


def generalization_gap_section(measured: GeneralizationGapResult) -> Section:
    """Accuracies on the three kinds of images, and the two differences between them."""
    columns = ("attack", *(place.images for place in measured.places), "generalisation", "shift")
    accuracies = zip(*(place.accuracies for place in measured.places), strict=True)
    rows: list[list[Cell]] = [
        [_attack(part.attack), *(item.share for item in by_place), str(part.generalisation), str(part.shift)]
        for part, by_place in zip(measured.parts, accuracies, strict=True)
    ]
    n = ", ".join(f"{place.accuracies[0].share.n:,}" for place in measured.places)
    caption = f"Accuracy in per cent of the classifier of D_R on {n} images of the three kinds; differences in points."
    return Section(
        name="generalization_gap",
        title="Where D_R loses its robustness",
        short="The gap of D_R",
        text=GAP_TEXT,
        reading=[_lost(part) for part in measured.parts if part.attack],
        tables=[Table(caption, columns, rows)],
    )


def _lost(part: GapPart) -> str:
    first = f"{_change(part.generalisation)} from D_R's training images to new ones of its kind"
    return f"At {_attack(part.attack)}, {first}, and {_change(part.shift)} from these to test images as they are."


def _change(lost: Difference) -> str:
    """What is lost, if anything."""
    if lost.side == "unclear":
        return f"no difference is told apart ({lost} points)"
    return f"{lost.size} points are {'lost' if lost.side == 'more' else 'gained'}"


def _attack(attack: AttackUsed | None) -> str:
    return ball(attack.norm, attack.eps) if attack else "clean"


class GeneralizationGapInstrument(Instrument[GeneralizationGapSettings, GeneralizationGapResult]):
    """Where D_R loses its robustness."""

    name, former = "generalization_gap", "gap"
    Settings = GeneralizationGapSettings
    Result = GeneralizationGapResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        norm, radii = runner.recipe.evaluation.norm, runner.recipe.instruments.generalization_gap.radii
        check_radii([threat(norm, eps) for eps in radii], runner.data.train.shape)

    def run(self, runner: Runner) -> GeneralizationGapResult:
        """Measure the classifier of D_R on D_R's training images, D_R's test images and the test images."""
        count, test = runner.recipe.instruments.generalization_gap.images, runner.data.test
        test = test.sample(count, runner.seed, "gap test")
        places: dict[Where, Images] = {
            "D_R training": runner.set("D_R").images.sample(count, runner.seed, "gap training"),
            "D_R test": _transformed(runner, test).images,
            "test": test,
        }
        accuracies = {where: _accuracies(runner, where, images) for where, images in places.items()}
        return GeneralizationGapResult(
            places=[GapPlace(images=where, accuracies=of_one) for where, of_one in accuracies.items()],
            parts=[_part(*of_one_attack) for of_one_attack in zip(*accuracies.values(), strict=True)],
            source="robust",
            seed=runner.seed,
            test_set=runner.data.test_name,
        )

    def section(self, result: GeneralizationGapResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return generalization_gap_section(result)
