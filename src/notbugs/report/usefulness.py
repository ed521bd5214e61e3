"""Features sorted by usefulness: how many of each kind, and the most useful and most robust ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from notbugs.formats import ball
from notbugs.measure.spectrum import SpectrumRow, UsefulnessSummary
from notbugs.report.sections import Cell, Figure, Section, Table
from notbugs.report.spectrum import spectrum
from notbugs.report.wording import class_name
from notbugs.study.instruments.usefulness import UsefulnessMeasured

SHOWN = 10
"""Features of each classifier in its table."""


def usefulness_section(found: UsefulnessMeasured, classes: Sequence[str] = ()) -> Section:
    """The section of the page; `classes` are names, in place of which numbers stand where there are none."""
    columns = ("classifier", "features", "robust", "undecided", "non-robust", "useless")
    rows = [_counts(name, summary) for name, summary in found.classifiers.items()]
    summaries = list(found.classifiers.values())
    return Section(
        name="usefulness",
        title="Which features are useful, and which robustly",
        short="Usefulness",
        text=_text(summaries[0], found.test_set),
        reading=[_reading(name, summary) for name, summary in found.classifiers.items()],
        figures=[_figure(name, summary, classes) for name, summary in found.classifiers.items()],
        tables=[
            Table("Features of each kind, each as a whole.", columns, rows),
            *(table for name, summary in found.classifiers.items() for table in _features(name, summary, classes)),
        ],
    )


def _figure(name: str, of: UsefulnessSummary, classes: Sequence[str]) -> Figure:
    caption = (
        f"Every feature of the {name} classifier, each for its best class: usefulness to the right, robust usefulness "
        "upwards, with 95\u00a0% intervals. Below the line, what the feature says is turned round. A mark "
        "under the pointer tells its numbers; the tables below have them all."
    )
    return Figure(caption, [spectrum(of.spectrum, ball(of.norm, of.eps), classes=classes)])


def _text(of: UsefulnessSummary, test_set: str) -> str:
    found = f"a search of {of.attack.steps} steps, an upper bound" if of.attack else "a formula, a lower bound"
    return (
        f"Usefulness rho = E[y f(x)] and robust usefulness gamma = E[min y f(x + d)], {ball(of.norm, of.eps)}, of "
        f"standardised features ({of.features}), one class against all others: rho on {of.n} {test_set} images, gamma "
        f"by {found}, on {of.n_searched} of them; seed {of.seed}. A feature is robust if, for some class, gamma is "
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


def _features(name: str, of: UsefulnessSummary, classes: Sequence[str]) -> Iterator[Table]:
    """The most useful ones; and all of them, folded, where there are more."""
    columns = ("feature", "class", "kind", "rho", "gamma")
    rows = [_row(row, classes) for row in sorted(of.spectrum, key=lambda row: -abs(row.rho))]
    how = f"features of the {name} classifier, each for its best class; 95\u00a0% intervals."
    yield Table(f"The most useful {how}", columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        said = f"All {len(rows)} features of the {name} classifier, as in its figure"
        yield Table(f"All {how}", columns, rows, folded=said)


def _row(row: SpectrumRow, classes: Sequence[str]) -> list[Cell]:
    rho = f"{row.rho:.2f} [{row.rho_low:.2f}, {row.rho_high:.2f}]"
    gamma = f"{row.gamma:.2f} [{row.gamma_low:.2f}, {row.gamma_high:.2f}]"
    return [
        str(row.feature),
        class_name(classes, row.best_class),
        row.kind.replace("nonrobust", "non-robust"),
        rho,
        gamma,
    ]
