"""The figures: Altair specifications, rendered to static SVG that follows the page's light or dark theme.

The colours are those of Okabe and Ito, told apart without colour vision; every series also has its own shape. Text in
a figure is ours or a number, never a user's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import altair as alt
import vl_convert
from markupsafe import Markup

from notbugs.formats import NORMS
from notbugs.report import wording
from notbugs.study.sets import EVERY_SET

Style = tuple[str, str, str, list[int]]
"""Of a series: label, colour, shape, dashes."""
Look = Literal["page", "print"]
"""For a page that has light and dark themes, or to stand alone in a paper."""

INK, MUTED, GRID, PAGE = "#1b1b1a", "#5f5e5a", "#deddd8", "#fffffe"
CLEAN, ROBUST = "#7fbde3", "#c64b00"
SERIES: dict[tuple[str, str], Style] = {
    ("D", "standard"): ("D, standard", "#3a3a38", "circle", []),
    ("D", "adversarial"): ("D, adversarial", "#0072b2", "square", []),
    **{(declared.name, "standard"): (declared.name, declared.colour, declared.mark, []) for declared in EVERY_SET},
}
INDEPENDENT = ("D, independent", "#8a8984", "cross", [4, 3])

_COLOURS = [INK, MUTED, GRID, PAGE, CLEAN, ROBUST, INDEPENDENT[1], *(colour for _, colour, _, _ in SERIES.values())]
_CONFIG: dict[str, Any] = {
    "aria": False,
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8,
    },
    "legend": {
        "labelColor": INK, "labelFontSize": 12, "columnPadding": 24,
        "layout": {"top": {"direction": "vertical", "anchor": "start", "margin": 4}},
    },
}  # fmt: skip
SERIF = "Liberation Serif, Times New Roman, Times, serif"
"""The font that is shipped, which letters are set in everywhere, and for who opens an SVG without it, those as wide."""
vl_convert.register_font_directory(str(Path(__file__).parent / "fonts"))
_PRINT: dict[str, Any] = {
    **_CONFIG,
    "background": "white",
    "font": SERIF,
    "axis": _CONFIG["axis"] | {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "titlePadding": 5},
}


def curves(
    series: list[tuple[Style, list[dict[str, float]]]],
    norm: str,
    radii: Sequence[float],
    text: str,
    *,
    width: float = 236,
    height: int = 240,
    look: Look = "page",
) -> Markup:
    """Lines of accuracy against radius, with bands and names at their ends.

    `series` are styles with points of `radius`, and `accuracy`, `low` and `high` in per cent; `text` begins what those
    read who do not see it.
    """
    rows = [{"series": style[0], **point} for style, points in series for point in points]
    labels = [style[0] for style, _ in series]
    colour = alt.Color("series:N", scale=alt.Scale(domain=labels, range=[style[1] for style, _ in series]), legend=None)
    last = radii[-1]
    scale = alt.Scale(domain=[-0.04 * last, 1.1 * last], nice=False, zero=False)
    x = alt.X("radius:Q", title=f"{NORMS[norm]} radius, pixels in [0, 1]", scale=scale).axis(
        values=[0, *radii], labelExpr="toString(datum.value)", grid=False, labelOverlap="greedy"
    )
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.16).encode(y=percent_axis("accuracy (%)", field="low", top=101), y2="high:Q")
    dashes = alt.StrokeDash(
        "series:N", scale=alt.Scale(domain=labels, range=[style[3] or [1, 0] for style, _ in series]), legend=None
    )
    line = base.mark_line(strokeWidth=2).encode(y="accuracy:Q", strokeDash=dashes)
    shapes = alt.Shape("series:N", scale=alt.Scale(domain=labels, range=[style[2] for style, _ in series]), legend=None)
    points = base.mark_point(filled=True, size=55, opacity=1).encode(y="accuracy:Q", shape=shapes)
    chart = alt.layer(band, line, points, *_end_labels(series, last, height, shapes))
    parts = (
        f"{style[0]}: " + ", ".join(f"{p['accuracy']:.1f} at {p['radius']:g}" for p in points) + "."
        for style, points in series
    )
    chart = chart.properties(width=width, height=height)
    return to_svg(chart, " ".join([text, *parts]), room=width + 150, look=look)


@dataclass(frozen=True)
class Axis:
    """What one axis of a chart shows, from where to where, and whether in decades."""

    title: str
    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies on the axis, from 0 to 1."""
        low, high, at = (math.log(one) if self.is_log else one for one in (self.low, self.high, value))
        return (at - low) / (high - low)

    def value(self, share: float) -> float:
        """The value that lies there."""
        low, high = (math.log(one) if self.is_log else one for one in (self.low, self.high))
        at = low + share * (high - low)
        return math.exp(at) if self.is_log else at

    def channel(self, channel: Any, field: str) -> Any:
        """The axis as Altair's `X` or `Y`."""
        kind = "log" if self.is_log else "linear"
        scale = alt.Scale(type=kind, domain=[self.low, self.high], nice=False, zero=False)
        ticks = {"values": list(self._decades())} if self.is_log else {"tickCount": 6}
        return channel(f"{field}:Q", title=self.title, scale=scale).axis(labelExpr="toString(datum.value)", **ticks)

    def _decades(self) -> Iterator[float]:
        """Round numbers, more of them the fewer decades there are: Vega's own crowd an axis of many."""
        span = math.log10(self.high / self.low)
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            for digit in (1,) if span > 3 else (1, 3) if span > 2 else (1, 2, 5):
                if self.low <= (value := float(f"{digit}e{power}")) <= self.high:
                    yield value


@dataclass(frozen=True)
class Line:
    """A formula's curve, with a name at its end."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Measured:
    """Points, each (x, value, low, high), that belong to the line at `line`; hollow ones are of another kind."""

    line: int
    at: Sequence[tuple[float, float, float, float]]
    is_hollow: bool = False


FORMULA: tuple[tuple[str, str, list[int]], ...] = (
    ("#0072b2", "square", [1, 0]),
    (ROBUST, "circle", [9, 4]),
    ("#3a3a38", "triangle-up", [2, 3]),
)
"""Colour, shape and dashes of the lines of one chart, and of the points that belong to them."""


def against_formula(
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    points: Iterable[Measured],
    text: str,
    *,
    width: int = 320,
    height: int = 240,
) -> Markup:
    """A formula's lines with names at their ends, and what was measured beside them, with intervals.

    `text` is what those read who do not see it.
    """
    names = [line.name for line in lines]
    colour, shape, dashes = ([style[place] for style in FORMULA[: len(lines)]] for place in range(3))
    base = {"color": alt.Color("name:N", scale=alt.Scale(domain=names, range=colour), legend=None)}
    drawn = [
        {"name": line.name, "x": a, "y": b} for line in lines for a, b in zip(line.x, line.y, strict=True)
        if y.low <= b <= y.high
    ]  # fmt: skip
    marks = [
        {"name": names[group.line], "hollow": group.is_hollow, "x": a, "y": value, "low": max(low, y.low), "high": high}
        for group in points for a, value, low, high in group.at
    ]  # fmt: skip
    ends = sorted((y.share([row for row in drawn if row["name"] == name][-1]["y"]), name) for name in names)
    places = [y.value(place) for place in apart([share for share, _ in ends], 16 / height, 1)]
    words = [{"name": name, "y": place} for (_, name), place in zip(ends, places, strict=True)]
    across, up = x.channel(alt.X, "x"), y.channel(alt.Y, "y")
    dash = alt.StrokeDash("name:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    shapes = alt.Shape("name:N", scale=alt.Scale(domain=names, range=shape), legend=None)
    curve = alt.Chart(alt.Data(values=drawn)).mark_line(strokeWidth=2).encode(x=across, y=up, strokeDash=dash, **base)
    at = alt.Chart(alt.Data(values=marks)).encode(x="x:Q", **base)
    layers = [curve, at.mark_rule(strokeWidth=1.2).encode(y="low:Q", y2="high:Q")]
    for is_hollow in (False, True):
        fill = PAGE if is_hollow else alt.Undefined
        chosen = at.transform_filter(f"datum.hollow === {str(is_hollow).lower()}")
        layers.append(
            chosen.mark_point(size=45, opacity=1, filled=not is_hollow, fill=fill).encode(y="y:Q", shape=shapes)
        )
    named = alt.Chart(alt.Data(values=words)).mark_text(align="left", fontSize=12)
    layers.append(named.encode(x=alt.value(width + 8), y="y:Q", text="name:N", **base))
    return to_svg(alt.layer(*layers).properties(width=width, height=height), text, room=width + 130)


def apart(values: Sequence[float], step: float, top: float) -> list[float]:
    """Rising places, pushed up until each is `step` above the one before, and all down where the last passes `top`."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + step if places else 0))
    return [place - max(0, places[-1] - top) for place in places]


def _end_labels(series: list[Any], last: float, height: int, shapes: alt.Shape) -> list[alt.Chart]:
    """A symbol and a name at the end of every line, pushed apart where ends lie together, with a lead to the line."""
    step = 100 * 16 / height
    ends = sorted(((points[-1]["accuracy"], style[0]) for style, points in series), key=lambda end: end[0])
    places = apart([value for value, _ in ends], step, 100)
    rows = [
        {"series": label, "label": label, "accuracy": place, "radius": 1.11 * last, "name": 1.15 * last}
        for (_, label), place in zip(ends, places, strict=True)
    ]
    leads = [
        {"series": label, "radius": across * last, "accuracy": y}
        for (value, label), place in zip(ends, places, strict=True)
        for across, y in ((1.03, value), (1.08, place))
    ]
    labels = alt.Chart(alt.Data(values=rows)).encode(y="accuracy:Q")
    wording = labels.mark_point(filled=True, size=55, opacity=1).encode(x="radius:Q", color="series:N", shape=shapes)
    names = labels.mark_text(align="left", fontSize=12, color=INK).encode(x="name:Q", text="label:N")
    lead = alt.Chart(alt.Data(values=leads)).mark_line(strokeWidth=0.8, color=MUTED)
    return [lead.encode(x="radius:Q", y="accuracy:Q", detail="series:N"), wording, names]


def percent_axis(title: str, *, field: str = "accuracy", top: float = 100) -> alt.Y:
    """From 0 to 100 %."""
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, top], nice=False)).axis(
        values=[0, 20, 40, 60, 80, 100], tickCount=6, ticks=False
    )


def legend(width: float, **symbol: Any) -> alt.Legend:
    """Above the figure, in a column where that is narrow."""
    columns = 1 if width < 500 else 2
    return alt.Legend(orient="top", title=None, columns=columns, labelLimit=0, symbolSize=90, offset=10, **symbol)


def to_svg(chart: alt.TopLevelMixin, text: str, *, room: float = 0, look: Look = "page") -> Markup:
    """Render `chart`, on a page at least `room` wide, with `text` for those who do not see it."""
    config = _CONFIG if look == "page" else _PRINT
    drawn = vl_convert.vegalite_to_svg(chart.to_dict() | {"config": config}, allowed_base_urls=[])
    if look == "print":
        return Markup(
            wording.svg(drawn, wording.NAMES_AND_NORMS).replace(">", Markup("><title>{}</title>").format(text), 1)
        )
    for colour in dict.fromkeys(_COLOURS):
        drawn = re.sub(f'"{colour}"', f'"var(--c{colour[1:]}, {colour})"', drawn, flags=re.IGNORECASE)
    drawn = wording.svg(drawn)
    drawn = re.sub(r'\s(?:font-family|role|aria-[a-z]+)="[^"]*"', "", drawn)
    head = re.compile(r'<svg[^>]*?width="([\d.]+)"[^>]*?height="([\d.]+)"[^>]*>')
    match = head.search(drawn)
    if not match:
        raise RuntimeError("vl-convert returned an SVG without a size")
    width = max(room, float(match[1]))
    opening = Markup(
        '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" style="--drawn: {}">'
    ).format(text, width, match[2], width, width)
    return Markup(opening + Markup(head.sub("", drawn, count=1)))
