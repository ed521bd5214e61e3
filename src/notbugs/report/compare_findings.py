"""What a comparison found: in sentences, and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import altair as alt
from markupsafe import Markup

from notbugs import formats
from notbugs.formats import percent, signed
from notbugs.measure import OverSeeds
from notbugs.report.charts import INK, PAGE, SERIES, to_svg

if TYPE_CHECKING:
    from notbugs.study.jobs.compare import Comparison, Contrast, Of, SeedGroup, StudyPair

ALPHA = 0.05
EQUAL = "no interval: all seeds equal"
NAMED = 4
"""Differences, or settings, that a sentence names."""
MOST_PAIRS = 10
"""Pairs of studies that are listed; of more, only those with the first study."""


def label(of: Of) -> str:
    """What a classifier is called: by the set it was trained on, and how."""
    if of.classifier == "independent":
        return "D, independent"
    return f"D, {of.training}" if of.train_set == "D" else of.train_set


def numbered(comparison: Comparison, places: Sequence[int]) -> str:
    """Studies by their numbers, one of them with its name: `1 (seed-0)`, `1, 2, 4`, `1 to 3`."""
    if len(places) == 1:
        return f"{places[0] + 1}\u00a0({comparison.studies[places[0]].label})"
    return numbers(places)


def numbers(places: Sequence[int]) -> str:
    """Places as numbers from 1: `1, 2, 4`, and three or more in a row as `1 to 3`."""
    if len(places) > 2 and list(places) == list(range(places[0], places[-1] + 1)):
        return f"{places[0] + 1} to {places[-1] + 1}"
    return ", ".join(str(place + 1) for place in places)


def unders(rows: Iterable[Of]) -> list[str]:
    """What the rows were measured under: clean first, then by norm and radius."""
    return [under for _, _, under in sorted({(row.norm or "", row.eps, row.under) for row in rows})]


def middle(rows: Iterable[Of]) -> str | None:
    """The middle one of the radii; None where there is none."""
    radii = unders(row for row in rows if row.norm)
    return radii[(len(radii) - 1) // 2] if radii else None


def listed_pairs(comparison: Comparison) -> list[StudyPair]:
    """The pairs that the page has room for."""
    return (
        comparison.pairs
        if len(comparison.pairs) <= MOST_PAIRS
        else [pair for pair in comparison.pairs if pair.first == 0]
    )


def findings(comparison: Comparison) -> Iterator[str]:
    """What differs; a sentence or two for every group of seeds, for every two groups, and for the pairs of studies."""
    yield _differ([setting.name for setting in comparison.settings if setting.part == "recipe"])
    for group in comparison.groups:
        yield _over_seeds(comparison, group)
    for contrast in comparison.contrasts:
        yield _contrast(comparison, contrast)
    yield from _pairs(comparison, listed_pairs(comparison))


def between(over: OverSeeds) -> str:
    """The interval of a mean over two seeds or more, in per cent: `88.5 to 91.5`."""
    return EQUAL if over.low is None or over.high is None else formats.between(over.low, over.high)


def _differ(names: list[str]) -> str:
    if len(names) <= 1:
        return f"The recipes differ in {names[0]} alone." if names else "The recipes are the same."
    more = f" and {len(names) - NAMED} more settings" if len(names) > NAMED else ""
    return f"The recipes differ in {', '.join(names[:NAMED])}{more}."


def _over_seeds(comparison: Comparison, group: SeedGroup) -> str:
    """The numbers that the paper's claims are about, and the largest spread."""
    rows = {(row.classifier, row.under): row for row in group.rows}
    said = []
    for name in ("standard", "robust", "D_R", "D_NR", "D_det"):
        measured = [row for under in ("clean", middle(group.rows) or "") if (row := rows.get((name, under)))]
        means = [f"{percent(row.over.mean)} ({between(row.over)}) {_at(row)}" for row in measured]
        said += [f"{label(measured[0])}: {' and '.join(means)}"] if means else []
    largest = max(group.rows, key=lambda row: row.over.deviation or 0)
    return (
        f"Studies {numbered(comparison, group.studies)}, one recipe with {len(group.seeds)} seeds; mean accuracy in "
        f"per cent, with its 95\u00a0% t interval. {'; '.join(said)}. The largest standard deviation over seeds is "
        f"{100 * (largest.over.deviation or 0):.1f} points, of {label(largest)}, {largest.under}."
    )


def _at(row: Of) -> str:
    return f"at {row.under}" if row.norm else row.under


def _contrast(comparison: Comparison, contrast: Contrast) -> str:
    first, second = (
        numbered(comparison, comparison.groups[place].studies) for place in (contrast.first, contrast.second)
    )
    apart = [
        (abs(row.difference.difference), f"{label(row)}, {row.under} ({signed(row.difference.difference)} points)")
        for row in contrast.rows
        if (row.difference.low or 0) > 0 or (row.difference.high or 0) < 0
    ]
    equal = sum(row.difference.low is None for row in contrast.rows)
    counted = f"{len(apart)} of {len(contrast.rows)} means over seeds differ by an interval that leaves out 0"
    counted += ", not adjusted for their number" if len(contrast.rows) > 1 else ""
    without = f" There is no interval for {equal}, whose seeds are all equal." if equal else ""
    return f"Studies {first} against {second}: {counted}{_named(apart)}.{without}"


def _pairs(comparison: Comparison, pairs: Sequence[StudyPair]) -> Iterator[str]:
    """One sentence for each pair that differs, one for all that do not, one for each reason against a test."""
    tests = sum(len(pair.rows) for pair in comparison.pairs)
    adjusted = f"p below {ALPHA:g}, adjusted for all {tests} tests"
    same, untested = [], dict[tuple[str, str], list[str]]()
    for pair in pairs:
        names = f"{numbered(comparison, [pair.first])} and {numbered(comparison, [pair.second])}"
        apart = [
            (abs(row.test.difference), f"{label(row)}, {row.under} ({signed(row.test.difference)} points)")
            for row in pair.rows
            if row.adjusted < ALPHA
        ]
        if apart:
            yield f"Studies {names}: {len(apart)} of {len(pair.rows)} accuracies differ, {adjusted}{_named(apart)}."
        elif pair.rows:
            same.append(names)
        for why in pair.untested:
            untested.setdefault(("Some accuracies" if pair.rows else "The accuracies", why), []).append(names)
    if same:
        yield f"No difference can be claimed between studies {'; '.join(same)}: no test has {adjusted}."
    for (which, why), names in untested.items():
        yield f"{which} of studies {'; '.join(names)} cannot be tested in pairs: {why}."


def _named(apart: list[tuple[float, str]]) -> str:
    """The largest of them."""
    if not apart:
        return ""
    named = [text for _, text in sorted(apart, key=lambda item: -item[0])[:NAMED]]
    return f"{': ' if len(apart) <= NAMED else '; the largest: '}{', '.join(named)}"


COLOURS = [style[1] for style in SERIES.values()][1:]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross"]
"""Five, of six colours: thirty studies look different."""
STEP = 13
"""Pixels from one dot to the next of the same classifier."""


def dots(comparison: Comparison, under: str, *, width: int) -> Markup | None:
    """Accuracy of every classifier in every study, with 95 % intervals; hollow: means over seeds, with theirs.

    Studies are numbered. None where nothing was measured under `under`.
    """
    rows = [*_of_studies(comparison, under), *_of_groups(comparison, under)]
    if not rows:
        return None
    classifiers, looks = list(dict.fromkeys(row["classifier"] for row in rows)), _looks(comparison)
    names = [look[0] for look in looks]

    def scale(place: int) -> alt.Scale:
        return alt.Scale(domain=names, range=[look[place] for look in looks])

    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("classifier:N", sort=classifiers, title=None, scale=alt.Scale(paddingInner=0.25)).axis(
            ticks=False, domain=False, labelPadding=8, labelColor=INK
        ),
        yOffset=alt.YOffset("series:N", sort=names),
    )
    ends, title = alt.Scale(zero=False, nice=True), "accuracy (%)"
    whiskers = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("low:Q", title=title, scale=ends),
        x2="high:Q",
        stroke=alt.Stroke("series:N", scale=scale(1)),
    )
    points = base.mark_point(size=50, opacity=1, strokeWidth=1.5).encode(
        x=alt.X("accuracy:Q", title=title, scale=ends).axis(tickCount=width // 60),
        stroke=alt.Stroke("series:N", scale=scale(1), legend=_legend(width)),
        fill=alt.Fill("series:N", scale=scale(2), legend=_legend(width)),
        shape=alt.Shape("series:N", scale=scale(3), legend=_legend(width)),
    )
    height = len(classifiers) * (STEP * len(looks) + 10)
    chart = alt.layer(whiskers, points)
    return to_svg(chart.properties(width=width, height=height), _text(rows, under))


def _looks(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Name, stroke, fill and shape: of the studies, and after the last study of a group those of its mean."""
    means = {group.studies[-1]: _mean_name(group.studies) for group in comparison.groups}
    looks = []
    for place in range(len(comparison.studies)):
        colour = COLOURS[place % len(COLOURS)]
        looks.append((_name(place), colour, colour, SHAPES[place % len(SHAPES)]))
        if place in means:
            looks.append((means[place], INK, PAGE, "diamond"))
    return looks


class _Dot(TypedDict):
    """One accuracy, in per cent, with its interval."""

    series: str
    classifier: str
    accuracy: float
    low: float
    high: float


def _of_studies(comparison: Comparison, under: str) -> list[_Dot]:
    return [
        _dot(_name(place), label(measure), share.value, share.low, share.high)
        for measure in comparison.measures
        if measure.under == under
        for place, share in enumerate(measure.shares)
        if share
    ]


def _of_groups(comparison: Comparison, under: str) -> list[_Dot]:
    return [
        _dot(_mean_name(group.studies), label(row), row.over.mean, row.over.low, row.over.high)
        for group in comparison.groups
        for row in group.rows
        if row.under == under
    ]


def _dot(series: str, classifier: str, value: float, low: float | None, high: float | None) -> _Dot:
    """In per cent; a t interval is drawn no further than accuracies go."""
    ends = [100 * (value if end is None else min(max(end, 0.0), 1.0)) for end in (low, high)]
    return {"series": series, "classifier": classifier, "accuracy": 100 * value, "low": ends[0], "high": ends[1]}


def _name(place: int) -> str:
    return f"study {place + 1}"


def _mean_name(places: list[int]) -> str:
    return f"mean of {numbers(places)}"


def _legend(width: int) -> alt.Legend:
    return alt.Legend(orient="top", title=None, columns=width // 100, labelLimit=0, symbolStrokeWidth=1.5)


def _text(rows: list[_Dot], under: str) -> str:
    parts = (f"{row['classifier']}, {row['series']}: {row['accuracy']:.1f}" for row in rows)
    return f"Dots of accuracy, {under}, by classifier and study. {'; '.join(parts)}."
