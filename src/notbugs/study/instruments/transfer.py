"""Whether the architectures that learn most from D_det are those that the source's adversarial examples fool most.

The paper, section 3.3, Figures 3 and 13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from notbugs.classifier import Classifier
from notbugs.content import INTERVAL, Cell, Figure, PrintedFigure, Section, Table
from notbugs.data import Images
from notbugs.formats import NORMS, number
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings
from notbugs.measure import Correlation, Proportion, Transfer, correlation, predictions, transfer
from notbugs.measure._transfer import FIGURES, Kind
from notbugs.progress import Progress, Stage
from notbugs.records import Record, WholeFile
from notbugs.search import Attack
from notbugs.search.compatibility import check_fits
from notbugs.study.sections import Architecture
from notbugs.threat import DEFAULT_EPS, Norm, Threat, check_radii, threat

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class TransferSettings(Record):
    """What it takes, for a study and for `notbugs transfer` alike."""

    architectures: tuple[str, ...] = Field(
        ("cnn width=8 stride=2", "cnn width=16 stride=2", "cnn width=32 stride=2", "resnet9 width=4"),
        description="Each is trained on D_det and on D; a name and options, as 'cnn width=8 stride=2'.",
    )
    images: int = Field(1000, ge=1, description="Test images to attack, drawn at random.")
    norm: Norm | None = Field(None, description="Of the attack; that of the relabelling if not given.")
    eps: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Radius, pixel units; by default the relabelling's, or in another norm 0.5 (l2), 8/255 (linf).",
    )
    steps: int = Field(20, ge=1, description="Gradients of an example for transfer, each to the end of them.")
    attack: Attack = Field(Attack(), description="Whose robust accuracy of each classifier stands beside.")
    targets: Literal["next", "other"] = Field("next", description="Of the targeted attack: as D_det, or at random.")

    @field_validator("architectures")
    @classmethod
    def _check_architectures(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(given)) < len(given):
            raise ValueError("name each of them once")
        for text in given:  # a wrong one must not end a study after an hour
            Architecture.parse(text).check()
        return given


class TransferInstrumentSettings(TransferSettings, InstrumentSettings):
    """Whether what transfers is what generalises."""


class Learner(InstrumentResult):
    """One architecture: what it learns from D_det, and what fools it when it learns from D."""

    architecture: str = Field(description="its name and options")
    classifier: str = Field(description="the one trained on D, by its name in the matrix")
    parameters: int = Field(description="weights of the network")
    learned: Proportion = Field(description="test accuracy of the one trained on D_det, true labels")
    untargeted: Proportion = Field(description="misclassified by the one trained on D, of the source's examples")
    targeted: Proportion = Field(description="taken for the target by the one trained on D")


class TransferResult(WholeFile, InstrumentResult):
    """Learning from D_det against transfer, over architectures; and every classifier against every other."""

    source: str = Field(description="D_det was built with it, and its adversarial examples are those of `learners`")
    learners: list[Learner] = Field(description="the architectures that were trained on D_det")
    untargeted: Correlation | None = Field(description="of learned and untargeted; null for fewer than 3 architectures")
    targeted: Correlation | None = Field(description="of learned and targeted")
    matrix: Transfer = Field(description="every source with every classifier")

    def lines(self) -> list[str]:
        """For a terminal: the architectures and their correlations; without architectures, the matrix."""
        robust = [f"{source} itself: {accuracy}" for source, accuracy in self.matrix.robust.items()]
        if not self.learners:
            return [*map(str, self.matrix.pairs), *robust]
        lines = [
            f"{at.architecture}: learned {at.learned} from D_det; fooled {at.untargeted}, into the target {at.targeted}"
            for at in self.learners
        ]
        lines += [f"{kind}: {what}" for kind in ("untargeted", "targeted") if (what := getattr(self, kind))]
        return lines + robust


@dataclass(frozen=True)
class Pair:
    """An architecture, and its classifiers: the one trained on D, with its name in the matrix, and that on D_det."""

    architecture: str
    name: str
    on_d: Classifier
    on_ddet: Classifier


def architectures(runner: Runner) -> dict[str, Architecture]:
    """Those that the recipe names, as they are written there, checked on the images."""
    settings = {text: Architecture.parse(text) for text in runner.recipe.instruments.transfer.architectures}
    for architecture in settings.values():
        check_fits(architecture.new(runner.data, 0, runner.recipe), runner.data.train, len(runner.data.classes))
    return settings


def trained_pairs(runner: Runner, relabelled: Images) -> list[Pair]:
    """Every architecture that the recipe names, trained on D and on `relabelled`."""
    pairs = []
    for text, architecture in architectures(runner).items():
        name = file_name(text)
        on_d = runner.train(
            f"{name}-D", runner.data.train, "standard", architecture=architecture, title=f"train {text} on D"
        )
        on_ddet = runner.train(
            f"{name}-D_det", relabelled, "D_det", architecture=architecture, title=f"train {text} on D_det"
        )
        pairs.append(Pair(text, text, on_d, on_ddet))
    return pairs


def measured(
    runner: Runner, source: str, pairs: Sequence[Pair], others: Mapping[str, Classifier], stage: Stage
) -> TransferResult:
    """Attack every classifier, and hold how the source's examples transfer against what is learned from D_det.

    Parameters
    ----------
    runner : Runner
        Its recipe says how the attack goes; its test images are attacked.
    source : str
        The name, in `others`, of the classifier that D_det was built with.
    pairs : sequence of Pair
        The architectures.
    others : mapping of str to Classifier
        More classifiers for the matrix, by names that no pair has.
    stage : callable
        Does a stage, as `runner.stage`.
    """
    matrix = _matrix(runner, {**others, **{pair.name: pair.on_d for pair in pairs}}, stage)
    learned = _learned(runner, pairs, stage)
    learners = []
    for pair in pairs:
        fooled = matrix.between(source, pair.name)
        learner = Learner(
            architecture=pair.architecture,
            classifier=pair.name,
            parameters=sum(parameter.numel() for parameter in pair.on_d.network.parameters()),
            learned=learned[pair.name],
            untargeted=fooled.untargeted,
            targeted=fooled.targeted,
        )
        learners.append(learner)
    return TransferResult(
        source=source,
        learners=learners,
        untargeted=_correlation(learners, "untargeted", runner.seed),
        targeted=_correlation(learners, "targeted", runner.seed),
        matrix=matrix,
    )


def _ball(runner: Runner) -> Threat:
    """That of the recipe; else that of the relabelling, whose radius says nothing of another norm."""
    settings, built = runner.recipe.instruments.transfer, runner.recipe.relabelling
    norm = settings.norm or built.norm
    if settings.eps is not None:
        return threat(norm, settings.eps)
    return threat(norm, built.eps if norm == built.norm else DEFAULT_EPS[norm])


def _matrix(runner: Runner, classifiers: Mapping[str, Classifier], stage: Stage) -> Transfer:
    settings, ball = runner.recipe.instruments.transfer, _ball(runner)
    images = runner.data.test.sample(settings.images, runner.seed, "attacked for transfer")
    rows = []
    for source in classifiers:

        def work(progress: Progress, source: str = source) -> Transfer:
            return transfer(
                classifiers,
                images,
                ball,
                sources=[source],
                targets=settings.targets,
                steps=settings.steps,
                attack=settings.attack,
                seed=runner.seed,
                progress=progress,
            )

        title = f"show what fools {source} to the others"
        rows.append(stage(f"transfer-{file_name(source)}", title, work, kind=Transfer))
    robust = {source: accuracy for row in rows for source, accuracy in row.robust.items()}
    return Transfer(attack=rows[0].attack, pairs=tuple(pair for row in rows for pair in row.pairs), robust=robust)


def _learned(runner: Runner, pairs: Sequence[Pair], stage: Stage) -> dict[str, Proportion]:
    """Test accuracy of those trained on D_det, by the name of the pair."""

    def work(progress: Progress) -> dict[str, Proportion]:
        learned = {}
        for done, pair in enumerate(pairs, 1):
            hits = predictions(pair.on_ddet, runner.data.test) == runner.data.test.labels
            learned[pair.name] = Proportion.of(hits)
            progress(done, len(pairs))
        return learned

    title = "measure what was learned from D_det"
    return stage("transfer-learned", title, work, kind=dict[str, Proportion]) if pairs else {}


def _correlation(learners: Sequence[Learner], kind: Kind, seed: int) -> Correlation | None:
    if len(learners) < 3:
        return None
    learned = [learner.learned.value for learner in learners]
    return correlation(learned, [getattr(learner, kind).value for learner in learners], seed=seed)


def file_name(text: str) -> str:
    """`text` as part of the name of a file."""
    return re.sub(r"[^\w.-]+", "-", text)


WIDTHS = (420, 210)


TARGETS = {"next": "the next class", "other": "a wrong class, drawn at random"}


def says(of: Correlation | None) -> str:
    """A correlation in a sentence."""
    if of is None:
        return "Fewer than three architectures have no correlation."
    if of.pearson is None:
        return f"One of the two is the same for all {of.n} architectures: there is no correlation."
    fisher = f"Fisher: {_between(of.low, of.high)}; " if of.low is not None else ""
    return (
        f"Pearson’s correlation over {of.n} architectures is {of.pearson:.2f} ({fisher}bootstrap: "
        f"{_between(of.bootstrap_low, of.bootstrap_high)}), of ranks {of.spearman:.2f} (bootstrap: "
        f"{_between(of.spearman_low, of.spearman_high)}); intervals of 95\u00a0%, of few points rough ones."
    )


def _between(low: float | None, high: float | None) -> str:
    return f"{low:.2f} to {high:.2f}"


def transfer_section(result: TransferResult) -> Section:
    """What a page shows of it."""
    from notbugs.report.section_charts import scatter

    attack, images = result.matrix.attack, result.matrix.pairs[0].accuracy.n
    figures = [
        Figure(
            f"{kind.capitalize()} transfer against what is learned from D_det; 95\u00a0% Wilson intervals over images. "
            f"{says(getattr(result, kind))} The paper’s points ({figure}) are of other data and networks, no yardstick "
            "for these; it does not state radius and steps of the attack.",
            drawings,
        )
        for kind, (figure, _) in FIGURES.items()
        if (drawings := [drawn for width in WIDTHS if (drawn := scatter(result, kind, width=width))])
    ]
    return Section(
        name="transfer",
        title="Transfer of adversarial examples",
        short="Transfer",
        text=f"Adversarial examples of one classifier, shown to the others: PGD with {attack.steps} steps, "
        f"{NORMS[attack.norm]} radius {attack.eps:g}, {images} test images; the targeted attack moves to "
        f"{TARGETS[attack.targets]}. These examples go on to the end of their steps, as such transfer best. How robust "
        f"a classifier is itself, they do not say: that is the last row of the first matrix, by {_attack(result)}. "
        f"{_experiment(result) if figures else ''}",
        figures=figures,
        tables=[
            *([_architecture_table(result)] if figures else []),
            *(_matrix_table(result, kind) for kind in FIGURES),
        ],
    )


def _attack(result: TransferResult) -> str:
    """By which the sources' robust accuracy was measured."""
    names = {one.attack.name for one in result.matrix.robust.values() if one.attack}
    return "the strong attack" if names <= {"strong"} else " and ".join(sorted(names))


def _experiment(result: TransferResult) -> str:
    return (
        f"Each architecture is trained twice: on D, and on the D_det of the classifier “{result.source}”. The paper’s "
        "claim: those which learn most from D_det are those that the source’s adversarial examples fool most, as both "
        "are about the same non-robust features."
    )


def _architecture_table(result: TransferResult) -> Table:
    rows = [
        [f"{number}: {at.architecture}", at.parameters, at.learned, at.untargeted, at.targeted]
        for number, at in enumerate(result.learners, 1)
    ]
    columns = ("point", "parameters", "learned from D_det", "untargeted transfer", "targeted transfer")
    return Table("In per cent. The chance of training, which only more seeds show, comes on top", columns, rows)


def _matrix_table(result: TransferResult, kind: Kind) -> Table:
    """Rows are sources; the last is what no attack does."""
    matrix = result.matrix
    rows: list[list[Cell]] = [
        [source, *(getattr(matrix.between(source, name), kind) for name in matrix.classifiers)]
        for source in matrix.sources
    ]
    clean = [matrix.between(matrix.sources[0], name) for name in matrix.classifiers]
    plain = [at.already_target if kind == "targeted" else _complement(at.accuracy) for at in clean]
    what = FIGURES[kind][1].removesuffix(" (%)")
    caption = f"Every source (rows) against every classifier (columns): {what}, in per cent"
    rows.append(["no attack", *plain])
    if kind == "untargeted" and matrix.robust:
        own = [matrix.robust.get(name) for name in matrix.classifiers]
        rows.append([f"{_attack(result)} on it", *(_complement(result.share) if result else None for result in own)])
    return Table(caption, ["source", *matrix.classifiers], rows)


def _complement(share: Proportion) -> Proportion:
    return Proportion(value=1 - share.value, low=1 - share.high, high=1 - share.low, n=share.n)


def _printed(result: TransferResult, seed: int) -> Iterator[PrintedFigure]:
    from notbugs.report import paper
    from notbugs.report.section_charts import scatter

    attack, n = result.matrix.attack, result.matrix.pairs[0].accuracy.n
    for kind, (figure, _) in FIGURES.items():
        caption = (
            f"{kind.capitalize()} transfer of the adversarial examples of the classifier {result.source} against what "
            f"architectures learn from its D_det: PGD with {attack.steps} steps, {NORMS[attack.norm]} radius "
            f"{attack.eps:g} in pixel units, n = {number(n)} test images; {INTERVAL}; seed {seed}. "
            f"{says(getattr(result, kind))} Diamonds: {figure} of the paper ({paper.SETTING})."
        )
        yield PrintedFigure(f"transfer-{kind}", caption, partial(scatter, result, kind, look="print"))


class TransferInstrument(Instrument[TransferInstrumentSettings, TransferResult]):
    """Whether what transfers is what generalises."""

    name = "transfer"
    Settings = TransferInstrumentSettings
    Result = TransferResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        check_radii([_ball(runner)], runner.data.train.shape)
        architectures(runner)

    def run(self, runner: Runner) -> TransferResult:
        """The study's own architecture and those that the recipe names; its classifiers in the matrix.

        The point of the study's own architecture is its independent classifier: the source fools itself without
        transfer.
        """
        own, relabelled = runner.recipe.architecture, runner.set("D_det").images
        on_ddet = runner.classifier("D_det")
        if runner.recipe.network("D_det") != own:  # the study's own is not that of its D_det classifier
            title = f"train {own} on D_det"
            on_ddet = runner.train(f"{file_name(str(own))}-D_det", relabelled, "D_det", architecture=own, title=title)
        pairs = [Pair(str(own), "independent", runner.classifier("independent"), on_ddet)]
        pairs += trained_pairs(runner, relabelled)
        others = {name: runner.classifier(name) for name in ("standard", "robust")}
        return measured(runner, "standard", pairs, others, runner.stage)

    def section(self, result: TransferResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return transfer_section(result)

    def figures(self, result: TransferResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        return _printed(result, seed)
