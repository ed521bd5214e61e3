"""What relabelled sets teach beyond their leakage controls, against the radius of their perturbations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from notbugs.classifier import Classifier
from notbugs.content import Cell, PrintedFigure, Section, Table
from notbugs.formats import Interval, Span, between, number, percent, spanned
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed, TestSet
from notbugs.measure import Difference, Proportion
from notbugs.measure.statistics import Score, score_of
from notbugs.seeds import derive
from notbugs.study.instruments.controls import built_controls, in_pairs, is_judged, weak_classifiers
from notbugs.study.learned import LearnedSet, is_unlearned, not_learned, success_of
from notbugs.study.sections import Relabelling, step_at
from notbugs.study.sets import BY_NAME
from notbugs.threat import DEFAULT_EPS, check_radii, threat

if TYPE_CHECKING:
    from notbugs.study.runner import Runner

Set = Literal["D_rand", "D_rand_other", "D_det"]


class SetRadiusSettings(InstrumentSettings):
    """Relabelled sets of several radii and their leakage controls. Every one costs two sets and two trainings.

    Which images may leak, classifiers of `instruments.controls.weak_epochs` decide; of several controls that which
    teaches most counts.
    """

    radii: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        (), description="Radii of the perturbations, pixel units; half, once and twice the recipe's if none given."
    )
    sets: tuple[Set, ...] = Field(("D_rand", "D_rand_other", "D_det"), min_length=1, description="Which sets.")
    repeats: int = Field(
        1, ge=1, le=20, description="Times, with other seeds: a new source, new targets and classifiers for each."
    )


class SetRadiusRow(LearnedSet):
    """One set, the classifier trained on it, and that trained on its control."""

    of: Set = Field(description="which set it is, but for its radius")
    eps: float = Field(ge=0, description="radius of its perturbations, pixel units")
    repeat: int = Field(ge=1, description="number of the repetition, each with seeds of its own")
    n: int = Field(ge=1, description="training images")
    success: Proportion = Field(description="images that the source gives their label")
    clean: Proportion = Field(description="accuracy on the test images after training on the set")
    leakage: Proportion = Field(description="the same after training on its leakage control, which has no features")
    balanced: Proportion | None = Field(
        None, description="balanced accuracy after training on the set; null where classes differ little in size"
    )
    leakage_balanced: Proportion | None = Field(None, description="the same of its leakage control")
    beyond: Difference = Field(description="the first accuracy less the second; of balanced ones where they are")
    leakage_fits: Proportion | None = Field(None, description="the same of its leakage control")
    weak_epochs: int | None = Field(
        None,
        description="of the weak classifier behind the control, of several the one that teaches most; null where there "
        "is none, and in studies of older versions",
    )


class SetRadiusResult(InstrumentResult):
    """What sets teach beyond their controls."""

    norm: str = Field(description="of the perturbations")
    seed: Seed
    test_set: TestSet
    rows: list[SetRadiusRow] = Field(description="one for each classifier, set or pair")


def _radii(runner: Runner) -> list[float]:
    given = runner.recipe.relabelling
    eps = given.eps or DEFAULT_EPS[given.norm]
    return sorted(set(runner.recipe.instruments.set_radius.radii or (eps / 2, eps, 2 * eps)))


def _relabelling(given: Relabelling, eps: float) -> Relabelling:
    """The search at another radius; a given step grows with it. What looks for the smallest change has no radius."""
    if given.method != "gradient":
        return Relabelling(norm=given.norm, eps=eps, steps=given.steps)
    return given.model_copy(update={"eps": eps, "step_size": step_at(given.step_size, given.eps, eps)})


def _source(runner: Runner, repeat: int) -> Classifier:
    if repeat == 1:
        return runner.classifier("standard")
    title = f"train standard classifier {repeat}"
    return runner.train(f"standard_{repeat}", runner.data.train, "standard", title=title)


def _one(
    runner: Runner, source: Classifier, weak: Mapping[int, Classifier], repeat: int, eps: float, of: Set
) -> SetRadiusRow:
    """The study's own set is taken where it is one of these."""
    search = _relabelling(runner.recipe.relabelling, eps)
    is_own = repeat == 1 and search == runner.recipe.relabelling
    name, again = (of, ()) if is_own else (f"{of}_{eps:g}_{repeat}", (repeat,) if repeat > 1 else ())
    if is_own:
        built = runner.set(of)
    else:
        seed = derive(runner.seed, "set", of, *again)
        built = runner.construct(name, BY_NAME[of], source=source, relabelling=search, seed=seed)
        runner.train(name, built.images, of)
    clean, found = runner.clean(name, "set_radius"), []
    for epochs, hidden in built_controls(runner, name, "leakage", weak, of=of, source=source, again=again).items():
        control = hidden.folder.name
        runner.train(control, hidden.images, of)
        leakage = runner.clean(control, "set_radius")
        found.append((runner.less(name, control, (clean, leakage)), epochs, control, leakage))
    beyond, epochs, control, leakage = min(found, key=lambda each: each[0].value)  # the strongest of them
    return SetRadiusRow(
        of=of,
        eps=eps,
        repeat=repeat,
        n=len(built),
        success=success_of(built),
        clean=clean.share,
        leakage=leakage.share,
        balanced=clean.balanced,
        leakage_balanced=leakage.balanced,
        beyond=beyond,
        weak_epochs=epochs,
        fits=runner.fits.get(name),
        leakage_fits=runner.fits.get(control),
    )


SET_RADIUS_TEXT = (
    "What a relabelled set teaches is evidence for non-robust features where it is more than what a control without "
    "any teaches. In the leakage control every image has its label, and in place of its perturbation a synthetic "
    "pattern as long, unless it agrees with the label as it is. Here are sets and controls of several radii. Every "
    "repetition has a source, targets and trainings of its own. Beyond: points between the two accuracies."
)
TITLE = "radius of the perturbations"


def _lines(result: SetRadiusResult) -> dict[str, list[tuple[float, Interval]]]:
    """For each set and its control the accuracy against the radius: with its interval, or over seeds."""
    shares: dict[tuple[str, float], list[Proportion]] = {}
    for row in result.rows:
        shares.setdefault((row.of, row.eps), []).append(row.balanced or row.clean)
        shares.setdefault((f"{row.of}, control", row.eps), []).append(row.leakage_balanced or row.leakage)
    lines: dict[str, list[tuple[float, Interval]]] = {}
    for (name, eps), some in shares.items():
        lines.setdefault(name, []).append((eps, Span.of(some)))
    return lines


def _score(result: SetRadiusResult) -> Score:
    """What is drawn, and what beyond is of."""
    return score_of(row.balanced for row in result.rows)


def _reading(result: SetRadiusResult) -> Iterator[str]:
    """For each set and radius, the points beyond the control, where all repetitions agree on the side."""
    for of, eps in dict.fromkeys((row.of, row.eps) for row in result.rows):
        rows = [row for row in result.rows if (row.of, row.eps) == (of, eps)]
        if left := [one for row in rows for one in _left(row)]:
            what, fits = left[0]
            yield not_learned(f"{what} at {result.norm} {number(eps)}", fits)
            continue
        beyond = [row.beyond for row in rows]
        more, less = (all(one.side == side for one in beyond) for side in ("more", "less"))
        sign = -1 if less else 1
        values = [sign * one.value for one in beyond]
        ends = values if len(beyond) > 1 else [sign * beyond[0].low, sign * beyond[0].high]
        over = f" over {len(beyond)} seeds" if len(beyond) > 1 else ""
        amount = f"{percent(mean(values))} points ({between(min(ends), max(ends))}{over})"
        at = f"{of} at {result.norm} {number(eps)}"
        if more or less:
            yield f"{at} teaches {amount} {'more' if more else 'less'} than its control."
        else:
            yield f"{at} is not told apart from its control: a difference of {amount}."


def _left(row: SetRadiusRow) -> Iterator[tuple[str, Proportion]]:
    """The set, and its control, whose patterns are there for all to see, where its classifier did not learn it."""
    control = f"The leakage control of {row.of}"
    for what, fits, reached in ((row.of, row.fits, row.success.value), (control, row.leakage_fits, 1.0)):
        if fits and is_unlearned(fits, reached):
            yield what, fits


class SetRadiusInstrument(Instrument[SetRadiusSettings, SetRadiusResult]):
    """What relabelled sets teach beyond their leakage controls, by radius."""

    name = "set_radius"
    grows = ("sets",)
    uses = ("controls",)
    Settings = SetRadiusSettings
    Result = SetRadiusResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        norm = runner.recipe.relabelling.norm
        check_radii([threat(norm, eps) for eps in _radii(runner)], runner.data.train.shape)

    def run(self, runner: Runner) -> SetRadiusResult:
        """Build, train on and measure every set and its control."""
        settings, rows = runner.recipe.instruments.set_radius, []
        sets: list[Set] = list(dict.fromkeys(settings.sets))
        weak = weak_classifiers(runner) if any(map(is_judged, sets)) else {}
        for repeat in range(1, settings.repeats + 1):
            source = _source(runner, repeat)
            rows += [_one(runner, source, weak, repeat, eps, of) for eps in _radii(runner) for of in sets]
        rows.sort(key=lambda row: (sets.index(row.of), row.eps, row.repeat))
        norm = runner.recipe.relabelling.norm
        return SetRadiusResult(norm=norm, seed=runner.seed, test_set=runner.data.test_name, rows=rows)

    def section(self, result: SetRadiusResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_figure

        score, is_uneven = _score(result), _score(result) == "balanced accuracy"
        columns = (
            *("set", "radius", "seed", "training images", "source gives the label", "accuracy", "control"),
            *(("balanced accuracy", "control, balanced") if is_uneven else ()),
            "beyond",
        )
        cells: list[list[Cell]] = [
            [
                *(row.of, f"{row.eps:g}", str(row.repeat), row.n, row.success, row.clean, row.leakage),
                *((row.balanced, row.leakage_balanced) if is_uneven else ()),
                str(row.beyond),
            ]
            for row in result.rows
        ]
        caption = (
            f"Accuracy in per cent on the test images; beyond in points{' of balanced accuracy' if is_uneven else ''}"
            f"{in_pairs(row.beyond for row in result.rows)}; norm {result.norm}, seed {result.seed}"
        )
        shown = (
            f"{score.capitalize()} taught by sets and by their leakage controls: "
            f"{spanned(row.repeat for row in result.rows)}."
        )
        return Section(
            "set_radius",
            "What relabelled sets teach beyond their controls, by radius",
            "Radius of sets",
            SET_RADIUS_TEXT,
            list(_reading(result)),
            [against_figure(shown, _lines(result), TITLE, score=score)],
            [Table(caption, columns, cells)],
        )

    def figures(self, result: SetRadiusResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        from notbugs.report.section_charts import against_printed

        caption = (
            f"{_score(result).capitalize()} on the test images after training on relabelled sets and on their leakage "
            "controls, against the radius of the perturbations: "
            f"{spanned(row.repeat for row in result.rows)}; seed {seed}."
        )
        yield against_printed("set-radius", caption, _lines(result), TITLE, score=_score(result))
