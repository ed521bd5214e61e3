"""The figure of a comparison: a dot for every study and classifier, and the means over seeds."""

from __future__ import annotations

from typing import Any

import altair as alt
from markupsafe import Markup

from notbugs.report.charts import INK, PAGE, SERIES, to_svg
from notbugs.report.compare import label, numbers
from notbugs.study.jobs.compare import Comparison

COLOURS = [style[1] for style in SERIES.values()][1:]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross"]
"""Five, of six colours: thirty studies look different."""
STEP = 13
"""Pixels from one dot to the next of the same classifier."""


def dots(found: Comparison, under: str, *, width: int) -> Markup | None:
    """Accuracy of every classifier in every study, with 95 % intervals; hollow: means over seeds, with theirs.

    Studies are numbered. None where nothing was measured under `under`.
    """
    rows = [*_of_studies(found, under), *_of_groups(found, under)]
    if not rows:
        return None
    classifiers, looks = list(dict.fromkeys(row["classifier"] for row in rows)), _looks(found)
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


def _looks(found: Comparison) -> list[tuple[str, str, str, str]]:
    """Name, stroke, fill and shape: of the studies, and after the last study of a group those of its mean."""
    means = {group.studies[-1]: _mean_name(group.studies) for group in found.groups}
    looks = []
    for place in range(len(found.studies)):
        colour = COLOURS[place % len(COLOURS)]
        looks.append((_name(place), colour, colour, SHAPES[place % len(SHAPES)]))
        if place in means:
            looks.append((means[place], INK, PAGE, "diamond"))
    return looks


def _of_studies(found: Comparison, under: str) -> list[dict[str, Any]]:
    return [
        {"series": _name(place), **_row(label(measure), share.value, share.low, share.high)}
        for measure in found.measures
        if measure.under == under
        for place, share in enumerate(measure.shares)
        if share
    ]


def _of_groups(found: Comparison, under: str) -> list[dict[str, Any]]:
    return [
        {"series": _mean_name(group.studies), **_row(label(row), row.over.mean, row.over.low, row.over.high)}
        for group in found.groups
        for row in group.rows
        if row.under == under
    ]


def _row(classifier: str, value: float, low: float | None, high: float | None) -> dict[str, Any]:
    """In per cent; a t interval is drawn no further than accuracies go."""
    low, high = (value if end is None else min(max(end, 0.0), 1.0) for end in (low, high))
    return {"classifier": classifier, "accuracy": 100 * value, "low": 100 * low, "high": 100 * high}


def _name(place: int) -> str:
    return f"study {place + 1}"


def _mean_name(places: list[int]) -> str:
    return f"mean of {numbers(places)}"


def _legend(width: int) -> alt.Legend:
    return alt.Legend(orient="top", title=None, columns=width // 100, labelLimit=0, symbolStrokeWidth=1.5)


def _text(rows: list[dict[str, Any]], under: str) -> str:
    parts = (f"{row['classifier']}, {row['series']}: {row['accuracy']:.1f}" for row in rows)
    return f"Dots of accuracy, {under}, by classifier and study. {'; '.join(parts)}."
