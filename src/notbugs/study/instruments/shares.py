"""How much of the new class and of the original class the images of every set carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from notbugs.content import Cell, Figure, PrintedFigure, Section, Table
from notbugs.formats import NORMS, ball, said
from notbugs.instrument import Instrument, InstrumentResult, InstrumentSettings, Seed
from notbugs.measure import SetCarried, carried, ends
from notbugs.measure.set_properties import GROUPS, GroupCarried
from notbugs.progress import Progress
from notbugs.seeds import generator
from notbugs.study.instruments.usefulness import check_features, features_of, sorted_features
from notbugs.study.sets import SETS
from notbugs.threat import Norm

if TYPE_CHECKING:
    from notbugs.study.runner import Runner


class SharesSettings(InstrumentSettings):
    """How much of each class a constructed image carries."""

    classifiers: tuple[Literal["independent", "robust", "standard"], ...] = Field(
        ("independent", "robust"),
        min_length=1,
        description="Whose features look at the images; sorted as the section 'usefulness' says, which may be off.",
    )
    images: int = Field(3000, ge=2, description="Images of each set, at most, drawn at random.")


class SharesRow(InstrumentResult):
    """One set, as the features of one classifier see it."""

    name: str = Field(description="of the set")
    classifier: str = Field(description="whose features look")
    is_source: bool = Field(description="whether the set was built with this classifier: then it was searched to agree")
    found: SetCarried = Field(description="the shares themselves")


class SharesResult(InstrumentResult):
    """How much of both classes constructed images carry."""

    norm: Norm = Field(description="of the threat")
    eps: float = Field(description="radius at which features were sorted, pixel units")
    seed: Seed
    rows: list[SharesRow] = Field(description="one for each classifier, set or pair")


SHARES_TEXT = (
    "A feature points to a class if its value is on the side of its mean on which that class is. For each set: how "
    "many of the features that are useful for the new class point to it, and of those useful for the original class, "
    "to that one, seen by a classifier that the set was not built with where there is one. Carried is 0 where an image "
    "points to the class no more than images of the other class do, and 100 where it does as untouched images of it. "
    "For D_R and D_NR the new class is that of the target image, the original one that of the start image."
)


def shares_section(result: SharesResult) -> Section:
    """A row for each set, classifier and group of features."""
    columns = (
        "set",
        "seen by",
        "features",
        "new class carried",
        "original class carried",
        "new class wins",
        "original class wins",
    )
    rows = [line for row in result.rows for line in _lines(row)]
    caption = (
        "Carried (empty where it cannot be told), and images whose evidence of all classes is largest for the new and "
        f"for the original class, in per cent; features sorted at {ball(result.norm, result.eps)}; seed {result.seed}"
    )
    return Section(
        "shares",
        "How much of each class an image carries",
        "Shares",
        SHARES_TEXT,
        list(_reading(result)),
        list(_figures(result)),
        tables=[Table(caption, columns, rows)],
    )


def _lines(row: SharesRow) -> Iterator[list[Cell]]:
    seen_by = f"{row.classifier}, the source" if row.is_source else row.classifier
    for name, label in GROUPS.items():
        group: GroupCarried | None = getattr(row.found, name)
        if group is None:
            yield [row.name, seen_by, f"{label}: none", None, None, None, None]
        else:
            yield [
                row.name, seen_by, _seen(label, group), group.new.carried,
                group.original.carried, group.new_wins, group.original_wins,
            ]  # fmt: skip


def _seen(label: str, group: GroupCarried) -> str:
    """Which features: only images whose two classes both have some are looked at."""
    return f"{label}, {group.features:.3g} a class; {group.classes} classes, {group.new_wins.n} images"


def _figures(result: SharesResult) -> Iterator[Figure]:
    """Of every set by the first classifier that is not its source: the means, then the images behind them."""
    from notbugs.report.section_charts import histograms, means

    rows = list(independent(result).values())
    for group in GROUPS:
        of_both = [drawn for width in (480, 200) if (drawn := means(rows, group=group, width=width))]
        panels = (histograms(rows, group=group, columns=at, width=width) for at, width in ((3, 165), (2, 120)))
        of_images = [drawn for drawn in panels if drawn]
        if of_both:
            yield Figure(means_caption(group), of_both)
        if of_images:
            yield Figure(histograms_caption(group), of_images)


def means_caption(group: str) -> str:
    """What the figure of the means shows."""
    return (
        f"How much of the new and of the original class the {GROUPS[group]} features of a classifier see that the set "
        "was not built with: 0 as in untouched images of the other class, 100 as in untouched images of this "
        "one; means over images with 95\u00a0% intervals."
    )


def histograms_caption(group: str) -> str:
    """What the figure of the images shows."""
    return (
        f"The images behind the means: their number (upwards) by the share of {GROUPS[group]} features that point to "
        "the new class (per cent, to the right)."
    )


def independent(result: SharesResult) -> dict[str, SharesRow]:
    """By the name of each set, what the first classifier that is not its source sees."""
    rows: dict[str, SharesRow] = {}
    for row in result.rows:
        if not row.is_source:
            rows.setdefault(row.name, row)
    return rows


def _reading(result: SharesResult) -> Iterator[str]:
    """For every set, by the first classifier that is not its source: what its two groups of features carry."""
    for name, row in independent(result).items():
        parts = [
            f"{label} features carry {said(new)} of the new class and {said(original)} of the original one"
            for key, label in GROUPS.items()
            if (group := getattr(row.found, key))
            and (new := group.new.carried)
            and (original := group.original.carried)
        ]
        if parts:
            yield f"{name}, seen by the {row.classifier} classifier: {'; '.join(parts)}."


def _printed(result: SharesResult) -> Iterator[PrintedFigure]:
    from notbugs.report.section_charts import histograms, means

    rows = list(independent(result).values())
    seen = f"Features sorted at {NORMS[result.norm]} radius {result.eps:g} in pixel units; seed {result.seed}."
    for group in GROUPS:
        several = lambda width, height, group=group: means(rows, group=group, width=width, look="print")  # noqa: E731
        yield PrintedFigure(f"shares-{group}", f"{means_caption(group)} {seen}", several)
        panels = lambda width, height, group=group: histograms(  # noqa: E731
            rows, group=group, columns=3, width=width / 3, look="print"
        )
        yield PrintedFigure(f"shares-{group}-images", f"{histograms_caption(group)} {seen}", panels, ("full",))


class SharesInstrument(Instrument[SharesSettings, SharesResult]):
    """How much of each class a constructed image carries."""

    name = "shares"
    uses = ("usefulness",)
    Settings = SharesSettings
    Result = SharesResult

    def check(self, runner: Runner) -> None:
        """See `Instrument`."""
        check_features(runner)

    def run(self, runner: Runner) -> SharesResult:
        """Every set, by the features of every classifier that the recipe names; these are sorted first."""
        usefulness = {name: sorted_features(runner, name) for name in runner.recipe.instruments.shares.classifiers}

        def work(progress: Progress) -> list[SharesRow]:
            rows = []
            for declared in SETS:
                name, source = declared.name, declared.source
                built = runner.set(name)
                index = torch.randperm(len(built), generator=generator(runner.seed, "shares", name))
                index = index[: runner.recipe.instruments.shares.images].sort().values
                start, target = ends(built, runner.data.train, index, runner.seed)
                for looks, features in usefulness.items():
                    seen = carried(features, features_of(runner, looks), built.images.subset(index), start, target)
                    rows.append(SharesRow(name=name, classifier=looks, is_source=looks == source, found=seen))
                    progress(len(rows), len(SETS) * len(usefulness))
            return rows

        rows = runner.stage("shares", "what constructed images carry", work, kind=list[SharesRow])
        threat = next(iter(usefulness.values())).threat
        return SharesResult(norm=threat.norm, eps=threat.eps, seed=runner.seed, rows=rows)

    def section(self, result: SharesResult, classes: Sequence[str]) -> Section:
        """See `Instrument`."""
        return shares_section(result)

    def figures(self, result: SharesResult, seed: int) -> Iterator[PrintedFigure]:
        """See `Instrument`."""
        return _printed(result)
