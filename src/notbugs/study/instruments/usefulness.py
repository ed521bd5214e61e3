"""Usefulness and robust usefulness of the features of a study's classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.content import Cell, Figure, PrintedFigure, Section, Table
from notbugs.formats import ball, class_name, number
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, TestSet
from notbugs.measure import (
    AttackUsed,
    FeatureMap,
    Usefulness,
    UsefulnessSummary,
    layer,
    logits,
    penultimate,
    usefulness,
)
from notbugs.measure.spectrum import SpectrumRow
from notbugs.progress import Progress
from notbugs.records import Record
from notbugs.threat import DEFAULT_EPS, Norm, Threat, check_radii, threat

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class UsefulnessSettings(InstrumentSettings):
    """Usefulness and robust usefulness of every feature."""

    classifiers: tuple[Literal["standard", "independent", "robust"], ...] = Field(
        ("standard", "robust"), min_length=1, description="Whose features are measured."
    )
    features: str = Field("penultimate", description="penultimate, logits, or the name of a layer (its spatial mean).")
    norm: Norm = Field("l2", description="Norm of the ball.")
    eps: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Radius, pixel units; if not given, the middle one of the evaluation where the norm is the same, "
        "else 0.5 for l2 and 8/255 for linf.",
    )
    steps: int = Field(5, ge=1, description="Gradients of each search.")
    images: int = Field(60, ge=2, description="Test images searched, twice a feature; rho takes all test images.")
    min_rho: float = Field(0.0, ge=0, lt=1, description="How useful a useful feature is at least.")


class KeptUsefulness(InstrumentResult):
    """A `Usefulness` as a stage keeps it: its tensors as lists, without what the recipe says."""

    rho: list[list[float]]
    rho_low: list[list[float]]
    rho_high: list[list[float]]
    gamma: list[list[float]]
    gamma_low: list[list[float]]
    gamma_high: list[list[float]]
    mean: list[float]
    std: list[float]
    flat: list[float]
    kind: list[list[int]]
    features: str
    n: int
    n_searched: int
    z: float
    attack: AttackUsed | None

    @classmethod
    def of(cls, measured: Usefulness) -> KeptUsefulness:
        """To keep."""
        values = {name: getattr(measured, name) for name in cls.model_fields}
        lists = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}
        return cls.model_validate(lists)

    def usefulness(self, threat: Threat, min_rho: float, seed: int) -> Usefulness:
        """As it was measured, but for the names of features."""
        tensors = {
            name: torch.tensor(values, dtype=torch.int64 if name == "kind" else torch.float64)
            for name, values in self
            if isinstance(values, list)
        }
        return Usefulness(
            **tensors,
            features=self.features,
            names=(),
            threat=threat,
            attack=self.attack,
            n=self.n,
            n_searched=self.n_searched,
            min_rho=min_rho,
            z=self.z,
            seed=seed,
        )


class UsefulnessResult(Record):
    """The features of some classifiers, sorted by usefulness and robust usefulness."""

    classifiers: dict[str, UsefulnessSummary] = Field(description="by the classifier's name")
    test_set: TestSet


def check_features(runner: Runner) -> None:
    """Refuse a layer that the recipe's architecture does not have, and a radius of any image, before any training.

    Raises
    ------
    InputError
        If there is no such layer, its output is not a tensor, or the radius reaches from black to white.
    """
    check_radii([searched_ball(runner)], runner.data.train.shape)
    images, _ = runner.data.train.batch(torch.arange(1))
    untrained = runner.recipe.architecture.new(runner.data, 0, runner.recipe).eval()
    with torch.no_grad():
        _features(untrained, runner.recipe.instruments.usefulness.features)(images.to(runner.device))


def sorted_features(runner: Runner, name: str) -> Usefulness:
    """The usefulness of one classifier's features: measured once, for every instrument that asks."""
    settings, threat = runner.recipe.instruments.usefulness, searched_ball(runner)

    def work(progress: Progress) -> KeptUsefulness:
        measured = usefulness(
            features_of(runner, name),
            runner.data.train,
            runner.data.test,
            threat,
            classes=len(runner.data.classes),
            steps=settings.steps,
            images=min(settings.images, len(runner.data.test)),
            min_rho=settings.min_rho,
            seed=runner.seed,
            progress=progress,
        )
        return KeptUsefulness.of(measured)

    kept = runner.stage(f"usefulness-{name}", f"sort the features of {name}", work, kind=KeptUsefulness)
    return kept.usefulness(threat, settings.min_rho, runner.seed)


def features_of(runner: Runner, name: str) -> FeatureMap:
    """Those features of a classifier that the recipe asks for."""
    return _features(runner.classifier(name), runner.recipe.instruments.usefulness.features)


def _features(classifier: Classifier, which: str) -> FeatureMap:
    by_name = {"penultimate": penultimate, "logits": logits}
    return by_name[which](classifier) if which in by_name else layer(classifier, which)


def searched_ball(runner: Runner) -> Threat:
    """The ball that the recipe asks for, or around the middle of its evaluation."""
    evaluation, settings = runner.recipe.evaluation, runner.recipe.instruments.usefulness
    eps = settings.eps
    if eps is None:
        radii = sorted(evaluation.radii) if settings.norm == evaluation.norm else []
        eps = radii[len(radii) // 2] if radii else DEFAULT_EPS[settings.norm]
    return threat(settings.norm, eps)


SHOWN = 10
"""Features of each classifier in its table."""


def usefulness_section(result: UsefulnessResult, classes: Sequence[str] = ()) -> Section:
    """The section of the page; `classes` are names, in place of which numbers stand where there are none."""
    columns = ("classifier", "features", "robust", "undecided", "non-robust", "useless")
    rows = [_counts(name, summary) for name, summary in result.classifiers.items()]
    summaries = list(result.classifiers.values())
    return Section(
        name="usefulness",
        title="Which features are useful, and which robustly",
        short="Usefulness",
        text=_text(summaries[0], result.test_set),
        reading=[_reading(name, summary) for name, summary in result.classifiers.items()],
        figures=[_figure(name, summary, classes) for name, summary in result.classifiers.items()],
        tables=[
            Table("Features of each kind, each as a whole.", columns, rows),
            *(
                table
                for name, summary in result.classifiers.items()
                for table in _feature_tables(name, summary, classes)
            ),
        ],
    )


def _figure(name: str, of: UsefulnessSummary, classes: Sequence[str]) -> Figure:
    from notbugs.report.section_charts import spectrum

    caption = (
        f"Every feature of the {name} classifier, each for its best class: usefulness to the right, robust usefulness "
        "upwards, with 95\u00a0% intervals. Below the line, the sign of the feature flips. A mark "
        "under the pointer tells its numbers; the tables below have them all."
    )
    return Figure(caption, [spectrum(of.spectrum, ball(of.norm, of.eps), classes=classes)])


def _text(of: UsefulnessSummary, test_set: str) -> str:
    bound = f"a search of {of.attack.steps} steps, an upper bound" if of.attack else "a formula, a lower bound"
    return (
        f"Usefulness rho = E[y f(x)] and robust usefulness gamma = E[min y f(x + d)], {ball(of.norm, of.eps)}, of "
        f"standardised features ({of.features}), one class against all others: rho on {of.n} {test_set} images, gamma "
        f"by {bound}, on {of.n_searched} of them; seed {of.seed}. A feature is robust if, for some class, gamma is "
        "above 0; non-robust if it is useful, and gamma is below 0 for every class for which it is. Intervals of "
        f"{of.z:.1f} standard errors sort: they hold for all features and classes together with 95\u00a0%."
    )


def _reading(name: str, of: UsefulnessSummary) -> str:
    counts = of.of_features
    return (
        f"Of the {len(of.spectrum)} features of the {name} classifier, {counts.robust} are robust and "
        f"{counts.nonrobust} useful but non-robust; {counts.undecided} are undecided, "
        f"{counts.useless} not shown to be useful."
    )


def _counts(name: str, of: UsefulnessSummary) -> list[Cell]:
    counts = of.of_features
    return [name, len(of.spectrum), counts.robust, counts.undecided, counts.nonrobust, counts.useless]


def _feature_tables(name: str, of: UsefulnessSummary, classes: Sequence[str]) -> Iterator[Table]:
    """The most useful ones; and all of them, folded, where there are more."""
    columns = ("feature", "class", "kind", "rho", "gamma")
    rows = [_feature_row(row, classes) for row in sorted(of.spectrum, key=lambda row: -abs(row.rho))]
    caption = f"features of the {name} classifier, each for its best class; 95\u00a0% intervals."
    yield Table(f"The most useful {caption}", columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        said = f"All {len(rows)} features of the {name} classifier, as in its figure"
        yield Table(f"All {caption}", columns, rows, folded=said)


def _feature_row(row: SpectrumRow, classes: Sequence[str]) -> list[Cell]:
    rho = f"{row.rho:.2f} [{row.rho_low:.2f}, {row.rho_high:.2f}]"
    gamma = f"{row.gamma:.2f} [{row.gamma_low:.2f}, {row.gamma_high:.2f}]"
    return [
        str(row.feature),
        class_name(classes, row.best_class),
        row.kind.replace("nonrobust", "non-robust"),
        rho,
        gamma,
    ]


def _printed(result: UsefulnessResult) -> Iterator[PrintedFigure]:
    from notbugs.report.section_charts import spectrum

    for name, of in result.classifiers.items():
        where = ball(of.norm, of.eps)
        form = f"a search of {of.attack.steps} steps" if of.attack else "its closed form"
        caption = (
            f"Robust usefulness against usefulness of every feature of the {name} classifier, each for its best class; "
            f"robust usefulness by {form} at {where} in pixel units, on {number(of.n_searched)} of n = {number(of.n)} "
            f"{result.test_set} images; bars are 95\u00a0% intervals; seed {of.seed}."
        )
        yield PrintedFigure(f"usefulness-{name}", caption, partial(spectrum, of.spectrum, where, look="print"))


class UsefulnessInstrument(Instrument[UsefulnessSettings, UsefulnessResult]):
    """Usefulness and robust usefulness of every feature."""

    name = "usefulness"
    Settings = UsefulnessSettings
    Result = UsefulnessResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        check_features(runner)

    def run(self, runner: Runner) -> UsefulnessResult:
        """Measure each classifier that the recipe names, standardising on training images."""
        settings = runner.recipe.instruments.usefulness
        summaries: dict[str, UsefulnessSummary] = {
            name: sorted_features(runner, name).summary() for name in settings.classifiers
        }
        return UsefulnessResult(classifiers=summaries, test_set=runner.data.test_name)

    def section(self, result: UsefulnessResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return usefulness_section(result, classes)

    def figures(self, result: UsefulnessResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        return _printed(result)
