"""What robust features alone explain of relabelled sets, and what constructed images carry of both classes."""

from __future__ import annotations

from collections.abc import Iterator

from notbugs import formats
from notbugs.formats import ball, between, percent
from notbugs.measure.leakage import Leak
from notbugs.measure.shares import GroupCarried
from notbugs.report.sections import Cell, Figure, Section, Table
from notbugs.report.shares_charts import GROUPS, histograms, means
from notbugs.report.wording import quoted
from notbugs.study.instruments.leakage import LeakageFound
from notbugs.study.instruments.shares import SharesFound, SharesRow

LEAKAGE_TEXT = (
    "The paper's claim needs relabelled images whose robust features say nothing of the new label. Here a linear head "
    "sees robust features alone and is trained on each set: what it then knows about untouched test images has leaked "
    "through robust features. The outputs of the linear model are certified, so its accuracy is a lower bound of "
    "leakage (Goh, 2019, who found at least 23.5 % for D_rand on CIFAR-10, and none for D_det); the features of the "
    "robust network are not, and see more. A head that learned nothing is not right by chance alone, so heads trained "
    "on shuffled labels stand beside it."
)
SHARES_TEXT = (
    "A feature points to a class if its value is on the side of its mean on which that class is. For each set: how "
    "many of the features that are useful for the new class point to it, and of those useful for the original class, "
    "to that one, seen by a classifier that the set was not built with where there is one. Carried is 0 where an image "
    "points to the class no more than images of the other class do, and 100 where it does as untouched images of it. "
    "For D_R and D_NR the new class is that of the target image, the original one that of the start image."
)


def leakage_section(found: LeakageFound) -> Section:
    """The certificate, and both probes on every set."""
    held = found.certificate
    within = ball(held.norm, held.eps)
    certificate = (
        f"The linear model, trained at l2 {found.trained_eps:g}, is right on {quoted(held.accuracy)} of {held.n} test "
        f"images, and provably so within {within} on {quoted(held.certified)}; {quoted(held.kept)} keep their "
        f"prediction there. Goh's first specification, gamma at least 0 for every feature, "
        f"{_says(held.gamma_at_least_0)}; the second, that 80 % keep their prediction, {_says(held.keeps_predictions)}."
    )
    columns = ("trained on", "features", "accuracy", "chance", "shuffled labels", "fits its set", "leakage")
    rows = [
        [row.train_set, row.features, *_leak(row.leak, "reference" if row.train_set == "D" else row.finding)]
        for row in found.rows
    ]
    caption = f"Linear heads on robust features, test accuracy in per cent; seed {found.seed}"
    return Section(
        "leakage",
        "Robust-feature leakage",
        "Leakage",
        LEAKAGE_TEXT,
        [certificate],
        tables=[Table(caption, columns, rows)],
    )


def shares_section(found: SharesFound) -> Section:
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
    rows = [line for row in found.rows for line in _lines(row)]
    caption = (
        "Carried (empty where it cannot be told), and images whose evidence of all classes is largest for the new and "
        f"for the original class, in per cent; features sorted at {ball(found.norm, found.eps)}; seed {found.seed}"
    )
    return Section(
        "shares",
        "How much of each class an image carries",
        "Shares",
        SHARES_TEXT,
        list(_reading(found)),
        list(_figures(found)),
        tables=[Table(caption, columns, rows)],
    )


def _says(verdict: str) -> str:
    return {"holds": "holds", "fails": "fails", "unclear": "cannot be told"}[verdict]


def _leak(leak: Leak, finding: str) -> list[Cell]:
    low, high = leak.shuffled
    return [leak.accuracy, percent(leak.chance), between(low, high), leak.fitted, finding]


def _lines(row: SharesRow) -> Iterator[list[Cell]]:
    seen_by = f"{row.classifier}, the source" if row.is_source else row.classifier
    for name, label in GROUPS.items():
        group: GroupCarried | None = getattr(row.found, name)
        if group is None:
            yield [row.name, seen_by, f"{label}: none", None, None, None, None]
        else:
            yield [
                row.name, seen_by, f"{label}, {group.features:.3g} a class", group.new.carried,
                group.original.carried, group.new_wins, group.original_wins,
            ]  # fmt: skip


def _figures(found: SharesFound) -> Iterator[Figure]:
    """Of every set by the first classifier that is not its source: the means, then the images behind them."""
    rows = list(independent(found).values())
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


def independent(found: SharesFound) -> dict[str, SharesRow]:
    """By the name of each set, what the first classifier that is not its source sees."""
    rows: dict[str, SharesRow] = {}
    for row in found.rows:
        if not row.is_source:
            rows.setdefault(row.name, row)
    return rows


def _reading(found: SharesFound) -> Iterator[str]:
    """For every set, by the first classifier that is not its source: what its two groups of features carry."""
    for name, row in independent(found).items():
        parts = [
            f"{label} features carry {formats.quoted(new)} of the new class and {formats.quoted(original)} of the "
            "original one"
            for key, label in GROUPS.items()
            if (group := getattr(row.found, key))
            and (new := group.new.carried)
            and (original := group.original.carried)
        ]
        if parts:
            yield f"{name}, seen by the {row.classifier} classifier: {'; '.join(parts)}."
