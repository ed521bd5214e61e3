"""The figures of the shares: what each set carries of both classes, and the images behind the means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
from markupsafe import Markup

from notbugs.formats import percent
from notbugs.measure.set_properties import BINS, Carried, GroupCarried
from notbugs.report.charts import INK, MUTED, Look, to_svg
from notbugs.study.instruments.shares import GROUPS, SharesRow

CLASSES = {"new": ("new class", "#0072b2", "circle"), "original": ("original class", "#d55e00", "diamond")}
SOURCES = {"start": "images they started from", "built": "images of the set", "target": "images of the new class"}
STYLES = (([2, 3], "#d55e00"), ([1, 0], INK), ([7, 3], "#0072b2"))
"""Dashes and colour of each source."""
HEIGHT = 34
"""Of a line of the figure of means, in CSS pixels."""


def means(rows: Sequence[SharesRow], *, group: str, width: float, look: Look = "page") -> Markup | None:
    """How much of the new and of the original class `group`'s features see, a line a set.

    `width` is in CSS pixels at scale one. None where nothing can be told.
    """
    values = [value for row in rows if (found := getattr(row.found, group)) for value in _means(row.name, found)]
    if not values:
        return None
    lines = list(dict.fromkeys(value["set"] for value in values))
    at = alt.Y("set:N", sort=lines, title=None).axis(ticks=False, domain=False, labelLimit=0)
    side = alt.YOffset("class:N", sort=_labels(), scale=alt.Scale(paddingOuter=1))
    base = alt.Chart(alt.Data(values=values)).encode(y=at, yOffset=side, color=_scaled(alt.Color, 1))
    x = alt.X("value:Q", title="carried (%)").axis(tickCount=5, grid=False)
    whiskers = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q"), x2="high:Q")
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, shape=_scaled(alt.Shape, 2))
    ends = alt.Chart(alt.Data(values=[{"value": 0}, {"value": 100}]))
    bounds = ends.mark_rule(color=MUTED, strokeWidth=1, strokeDash=[3, 3]).encode(x="value:Q")
    chart = alt.layer(bounds, whiskers, points).properties(width=width, height=HEIGHT * len(lines))
    said = (f"{value['set']}: {value['class']} {_said(value)}" for value in values)
    text = f"Marks of how much {GROUPS[group]} features see of each class, in per cent. {'; '.join(said)}."
    return to_svg(chart, text, room=width + 110, look=look)


def histograms(
    rows: Sequence[SharesRow], *, group: str, columns: int, width: float, look: Look = "page"
) -> Markup | None:
    """For each set, its images by the share of `group`'s features that point to the new class, with untouched ones.

    `columns` panels stand in a line, each `width` CSS pixels wide. None where no set has the group.
    """
    panels = [(row, found) for row in rows if (found := getattr(row.found, group))]
    if not panels:
        return None
    labels = list(SOURCES.values())
    values = {row.name: list(_bins(found)) for row, found in panels}
    most = max(value["count"] for bins in values.values() for value in bins)
    legend = alt.Legend(orient="top", title=None, direction="vertical", labelLimit=0, symbolSize=400)
    dashes, colours = (alt.Scale(domain=labels, range=[style[at] for style in STYLES]) for at in (0, 1))
    x = alt.X("share:Q", title=None, scale=alt.Scale(domain=[0, 100])).axis(values=[0, 50, 100], grid=False)
    y = alt.Y("count:Q", title=None, scale=alt.Scale(domain=[0, most])).axis(tickCount=3, ticks=False)
    how = {
        "x": x,
        "y": y,
        "strokeDash": alt.StrokeDash("images:N", scale=dashes, legend=legend),
        "color": alt.Color("images:N", scale=colours, legend=legend),
    }
    # Not a facet: that draws axes below empty places, too.
    head: dict[str, Any] = {"fontSize": 12, "fontWeight": "normal", "color": INK, "anchor": "start"}
    drawn = (
        alt.Chart(alt.Data(values=bins), title=alt.Title(name, **head))
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(**how)
        .properties(width=width, height=100)
        for name, bins in values.items()
    )
    chart = alt.concat(*drawn, columns=columns)
    said = (f"{row.name}: {_middle(found.new)}" for row, found in panels)
    text = f"Histograms of images by the share of features that point to the new class, in per cent. {'; '.join(said)}."
    return to_svg(chart, text, look=look)


def _labels() -> list[str]:
    return [label for label, _, _ in CLASSES.values()]


def _scaled(channel: Any, place: int) -> Any:
    """Colour or shape of the two classes, which stand in `CLASSES` at `place`."""
    legend = alt.Legend(orient="top", title=None, direction="vertical", labelLimit=0, symbolSize=70)
    scale = alt.Scale(domain=_labels(), range=[style[place] for style in CLASSES.values()])
    return channel("class:N", scale=scale, legend=legend)


def _means(name: str, found: GroupCarried) -> Iterator[dict[str, Any]]:
    for key, (label, _, _) in CLASSES.items():
        carried = getattr(found, key).carried
        if carried:
            ends = {end: 100 * getattr(carried, end) for end in ("value", "low", "high")}
            yield {"set": name, "class": label, **ends}


def _said(value: dict[str, Any]) -> str:
    return f"{value['value']:.1f} ({value['low']:.1f} to {value['high']:.1f})"


def _bins(found: GroupCarried) -> Iterator[dict[str, Any]]:
    """The left end of every bin, and the right end of the last, which a line of steps wants."""
    for kind, label in SOURCES.items():
        counts = getattr(found.new, kind).histogram
        for place, count in enumerate([*counts, counts[-1]]):
            yield {"images": label, "share": 100 * place / BINS, "count": count}


def _middle(seen: Carried) -> str:
    parts = [f"{label} {percent(getattr(seen, kind).share.value)}" for kind, label in SOURCES.items()]
    return f"mean of {', '.join(parts)}"
