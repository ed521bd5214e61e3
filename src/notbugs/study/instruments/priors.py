"""A classifier trained with people's priors: does it use fewer non-robust features, and what does its gradient show?"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from markupsafe import Markup
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from notbugs.construct.exporters import png
from notbugs.content import Cell, Figure, Section, Table
from notbugs.formats import percent, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, InStudy, Seed, TestSet
from notbugs.measure import Accuracy, Difference, Proportion, alignment, class_means, input_gradients
from notbugs.measure.set_properties import Mean
from notbugs.measure.spectrum import KindCounts
from notbugs.progress import Progress
from notbugs.seeds import derive
from notbugs.study.instruments.usefulness import check_features, sorted_features
from notbugs.study.learned import LearnedSet, first_unlearned, not_learned, success_of
from notbugs.study.sets import BY_NAME
from notbugs.training import AppearanceTraining, SpatialTraining

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class PriorsSettings(InstrumentSettings):
    """A classifier that small rotations, shifts and changes of appearance do not change, beside standard and robust."""

    spatial: SpatialTraining = Field(
        SpatialTraining(degrees=10.0, pixels=1.0, tries=2), description="Rotations and shifts."
    )
    appearance: AppearanceTraining = Field(
        AppearanceTraining(), description="Brightness, contrast, hue, blur and JPEG."
    )
    images: int = Field(1000, ge=2, description="Test images whose gradients are looked at, at most.")


BASE64 = r"^[A-Za-z0-9+/=]+$"
SHOWN = 8
"""Gradients in the pictures."""


class PriorsRow(LearnedSet):
    """One classifier."""

    classifier: InStudy
    accuracies: list[Accuracy] = Field(description="on the test images: clean, then robust")
    kinds: KindCounts | None = Field(description="of its features; null for the robust one, which is not sorted")
    taught: Proportion | None = Field(
        description="clean accuracy after standard training on D_NR built with it; null for the robust one"
    )
    taught_balanced: Proportion | None = Field(
        None, description="the same in balanced accuracy; null where classes differ little in size"
    )
    beyond: Difference | None = Field(
        None,
        description="what D_NR by priors teaches, less what that by standard does; of balanced accuracies where they "
        "are; null for the others, and in studies of older versions",
    )
    aligned: Mean = Field(description="cosine between its input gradient and the difference of class means, mean")
    picture: str = Field(pattern=BASE64, description="gradients of some test images, side by side: a PNG in base64")


class PriorsResult(InstrumentResult):
    """Standard, with priors, and robust."""

    seed: Seed
    test_set: TestSet
    n: int = Field(description="test images of the gradients")
    images: str = Field(pattern=BASE64, description="the test images of the pictures, side by side: a PNG in base64")
    side: int = Field(description="of one picture, pixels")
    rows: list[PriorsRow] = Field(description="one for each classifier, set or pair")


class Taught(TypedDict):
    """What a D_NR teaches."""

    taught: Proportion
    taught_balanced: Proportion | None
    success: Proportion
    fits: Proportion | None
    beyond: Difference | None


def _taught(runner: Runner) -> dict[str, Taught]:
    """After training on D_NR, by the name of the classifier that it was built with."""
    names = {"standard": "D_NR", "priors": _d_nr(runner)}
    clean = {source: runner.clean(name, "priors") for source, name in names.items()}
    beyond = runner.less(names["priors"], names["standard"], (clean["priors"], clean["standard"]))
    return {
        source: {
            "taught": clean[source].share,
            "taught_balanced": clean[source].balanced,
            "success": success_of(runner.set(name)),
            "fits": runner.fits.get(name),
            "beyond": beyond if source == "priors" else None,
        }
        for source, name in names.items()
    }


def _d_nr(runner: Runner) -> str:
    """The name of D_NR built with the classifier that has the priors, and of the classifier trained on it."""
    source, seed = runner.classifier("priors"), derive(runner.seed, "set", "D_NR")
    built = runner.construct("D_NR_priors", BY_NAME["D_NR"], source=source, seed=seed)
    runner.train("D_NR_priors", built.images, "D_NR")
    return built.folder.name


class Gradients(TypedDict):
    """How a classifier's gradients are aligned, and the picture of some."""

    aligned: Mean
    picture: str


def _gradients(runner: Runner, name: str) -> Gradients:
    test = runner.data.test.sample(runner.recipe.instruments.priors.images, runner.seed, "priors")

    def work(progress: Progress) -> Gradients:
        gradients, others = input_gradients(runner.classifier(name), test)
        means = class_means(runner.data.train, len(runner.data.classes))
        cosines = alignment(gradients, others, test.labels, means)
        shown = gradients[:SHOWN]
        largest = shown.abs().flatten(1).quantile(0.99, dim=1).clamp_min(1e-30)[:, None, None, None]
        picture = _side_by_side((0.5 + 0.5 * shown / largest).clamp(0, 1))
        return {"aligned": Mean.of(cosines), "picture": picture}

    return runner.stage(f"priors-gradients-{name}", f"look at the gradients of {name}", work, kind=Gradients)


def _side_by_side(images: Tensor) -> str:
    """Images in [0, 1] in a row, as a PNG in base64; the first channel of those that are neither grey nor RGB."""
    images = images if images.shape[1] in (1, 3) else images[:, :1]
    row = torch.cat(list(images), 2).mul(255).round().byte().permute(1, 2, 0).numpy()
    return b64encode(png(np.ascontiguousarray(row[..., 0] if row.shape[-1] == 1 else row))).decode()


PRIORS_TEXT = (
    "People take an image for the same when it is turned, shifted, lit or blurred a little. A classifier trained as "
    "the standard one, but on the worst of some such changes of every image, has these priors, too. Does it use fewer "
    "non-robust features? Its features are sorted as robust or not; D_NR is built with it, and trained on; and the "
    "gradient of its log-odds is held against the difference of the means of the two classes, with which that of a "
    "robust classifier is aligned (the paper, theorem 3). One training each."
)


def priors_section(result: PriorsResult) -> Section:
    """A row a classifier, and gradients side by side."""
    at = [one.attack for one in result.rows[0].accuracies if one.attack]
    is_uneven = any(row.taught_balanced for row in result.rows)
    columns = (
        *("classifier", "accuracy", *(f"at {one.norm} {one.eps:g}" for one in at)),
        *("robust features", "non-robust", "accuracy from its D_NR"),
        *(("the same, balanced",) if is_uneven else ()),
        "gradient along the class means",
    )
    rows: list[list[Cell]] = [
        [
            row.classifier,
            *(one.share for one in row.accuracies),
            row.kinds.robust if row.kinds else None,
            row.kinds.nonrobust if row.kinds else None,
            row.taught,
            *((row.taught_balanced,) if is_uneven else ()),
            row.aligned,
        ]
        for row in result.rows
    ]
    caption = (
        f"In per cent: accuracy on the {result.test_set} images; the cosine is the mean over {result.n} of them, times "
        f"100; seed {result.seed}"
    )
    figures = [Figure("Test images", [_shown(result.images, "Test images", result.side)])]
    figures += [
        Figure(f"Gradients of {row.classifier}", [_shown(row.picture, f"Gradients of {row.classifier}", result.side)])
        for row in result.rows
    ]
    text = [*_reading(result)]
    return Section("priors", "Human priors", "Priors", PRIORS_TEXT, text, figures, [Table(caption, columns, rows)])


def _shown(picture: str, alt: str, side: int) -> Markup:
    times = max(1, round(72 / side))
    return Markup(
        '<img src="data:image/png;base64,{}" alt="{}" width="{}" style="image-rendering: pixelated; max-width: 100%">'
    ).format(picture, alt, SHOWN * side * times)


def _reading(result: PriorsResult) -> Iterator[str]:
    of = {row.classifier: row for row in result.rows}
    standard, priors = of["standard"], of["priors"]
    if standard.taught and priors.taught:
        ours, own = (
            Accuracy(attack=None, share=row.taught, balanced=row.taught_balanced)
            for row in (priors, standard)
            if row.taught
        )
        if left := first_unlearned((priors, standard)):
            yield not_learned(f"D_NR by {left.classifier}", left.fits)
        else:
            is_unclear = (priors.beyond or ours.less(own)).side == "unclear"
            more = "The two are not told apart." if is_unclear else "The two differ."
            yield f"D_NR by priors teaches {said(ours.held)}, by standard {said(own.held)}. {more}"
    told = ", ".join(f"{percent(row.aligned.value)} for {row.classifier}" for row in result.rows)
    yield f"Cosine of the gradient with the difference of class means, times 100: {told}."


class PriorsInstrument(Instrument[PriorsSettings, PriorsResult]):
    """What training with human priors changes."""

    name = "priors"
    uses = ("usefulness",)
    Settings = PriorsSettings
    Result = PriorsResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        check_features(runner)

    def run(self, runner: Runner) -> PriorsResult:
        """Train with priors, build and train on its D_NR, sort features, and look at gradients."""
        settings = runner.recipe.instruments.priors
        changed = {"spatial": settings.spatial, "appearance": settings.appearance}
        training = runner.recipe.standard.model_copy(update=changed)
        runner.train("priors", runner.data.train, "standard", settings=training, title="train with human priors")
        taught = _taught(runner)
        rows = []
        for name in ("standard", "priors", "robust"):
            gradients = _gradients(runner, name)
            kinds = sorted_features(runner, name).summary().of_features if name in taught else None
            accuracies = runner.accuracies(
                f"priors-accuracy-{name}", f"measure {name}, for priors", runner.classifier(name), runner.data.test
            )
            learned = taught.get(name) or {"taught": None}
            row = PriorsRow(classifier=name, accuracies=accuracies, kinds=kinds, **learned, **gradients)
            rows.append(row)
        test = runner.data.test.sample(settings.images, runner.seed, "priors")
        return PriorsResult(
            seed=runner.seed,
            test_set=runner.data.test_name,
            n=len(test),
            images=_side_by_side(test.batch(slice(0, min(SHOWN, len(test))))[0]),
            side=runner.data.train.shape[2],
            rows=rows,
        )

    def section(self, result: PriorsResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return priors_section(result)
