"""What sections draw: of the instruments usefulness, shares of classes and transfer; and of tuning, learning rates."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import altair as alt
from markupsafe import Markup

from notbugs.content import Figure, PrintedFigure
from notbugs.formats import Interval, class_name, percent
from notbugs.measure._transfer import FIGURES
from notbugs.measure._transfer import Kind as TransferKind
from notbugs.measure.set_properties import BINS, GROUPS, Carried, GroupCarried
from notbugs.measure.spectrum import Kind, SpectrumRow
from notbugs.measure.statistics import Score
from notbugs.report import paper
from notbugs.report.charts import INK, MUTED, PAGE, SERIES, Look, Style, legend, percent_axis, to_svg

if TYPE_CHECKING:
    from notbugs.study.instruments.shares import SharesRow
    from notbugs.study.instruments.transfer import TransferResult
    from notbugs.study.jobs.tune import Point, Tuned

KINDS: dict[Kind, tuple[str, str, str]] = {  # label, colour, shape
    "robust": ("robustly useful", "#0072b2", "square"),
    "undecided": ("useful, undecided", "#b97a00", "triangle-up"),
    "nonrobust": ("useful, non-robust", "#d55e00", "diamond"),
    "useless": ("not shown to be useful", "#8a8984", "circle"),
}


def spectrum(
    rows: Sequence[SpectrumRow],
    ball: str,
    *,
    classes: Sequence[str] = (),
    width: float = 300,
    height: int = 240,
    look: Look = "page",
) -> Markup:
    """Robust usefulness gamma against usefulness rho without its sign, a mark a feature, with intervals of gamma.

    A mark under the pointer tells its feature and numbers, by the title that SVG has for this.
    """
    counts = Counter(row.kind for row in rows)
    names = {kind: f"{label}: {counts[kind]}" for kind, (label, _, _) in KINDS.items()}
    legend = alt.Legend(orient="top", title=None, direction="vertical", labelLimit=0, symbolSize=70, symbolOpacity=1)
    colours, shapes = ([KINDS[kind][place] for kind in names] for place in (1, 2))
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(names.values()), range=colours), legend=legend)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(names.values()), range=shapes), legend=legend)
    marks = alt.Data(values=[_mark(row) | {"kind": names[row.kind]} for row in rows])
    base = alt.Chart(marks).encode(
        x=alt.X("rho:Q", title="usefulness |\u03c1|").axis(tickCount=5, grid=False), color=colour
    )
    y = alt.Y("gamma:Q", title="robust usefulness \u03b3").axis(tickCount=5)
    whiskers = base.mark_rule(opacity=0.3).encode(y="low:Q", y2="high:Q")
    points = base.mark_point(filled=True, size=26, opacity=0.85).encode(y=y, shape=shape)
    zero = alt.Chart(alt.Data(values=[{"gamma": 0}])).mark_rule(color=MUTED, strokeWidth=1).encode(y="gamma:Q")
    text = (
        f"Marks, one for each of {len(rows)} features: robust usefulness at {ball} against "
        f"usefulness. {'; '.join(names.values())}."
    )
    drawn = to_svg(alt.layer(zero, whiskers, points).properties(width=width, height=height), text, look=look)
    return _titled(drawn, rows, classes) if look == "page" else drawn


def _titled(drawn: Markup, rows: Sequence[SpectrumRow], classes: Sequence[str]) -> Markup:
    """The figure with a title in each mark; Vega draws them in the order of `rows`."""
    svg = str(drawn)
    head = re.search(r'<g class="mark-symbol role-mark[^>]*>', svg)
    if not head:
        raise RuntimeError("vl-convert returned a figure without marks")
    end = svg.index("</g>", head.end())
    titles = (Markup("><title>{}</title></path>").format(_said(row, classes)) for row in rows)
    marks = re.sub("/>", lambda _: next(titles), svg[head.end() : end])
    return Markup(svg[: head.end()] + marks + svg[end:])


def _said(row: SpectrumRow, classes: Sequence[str]) -> str:
    rho = f"{row.rho:.2f} ({row.rho_low:.2f} to {row.rho_high:.2f})"
    gamma = f"{row.gamma:.2f} ({row.gamma_low:.2f} to {row.gamma_high:.2f})"
    name = class_name(classes, row.best_class)
    return f"feature {row.feature}, class {name}: {KINDS[row.kind][0]}, \u03c1 {rho}, \u03b3 {gamma}"


def _mark(row: SpectrumRow) -> dict[str, float]:
    return {"rho": abs(row.rho), "gamma": row.gamma, "low": row.gamma_low, "high": row.gamma_high}


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
    values = [value for row in rows if (shares := getattr(row.found, group)) for value in _means(row.name, shares)]
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
    said = (f"{value['set']}: {value['class']} {_said_of_shares(value)}" for value in values)
    text = f"Marks of how much {GROUPS[group]} features see of each class, in per cent. {'; '.join(said)}."
    return to_svg(chart, text, room=width + 110, look=look)


def histograms(
    rows: Sequence[SharesRow], *, group: str, columns: int, width: float, look: Look = "page"
) -> Markup | None:
    """For each set, its images by the share of `group`'s features that point to the new class, with untouched ones.

    `columns` panels stand in a line, each `width` CSS pixels wide. None where no set has the group.
    """
    panels = [(row, shares) for row in rows if (shares := getattr(row.found, group))]
    if not panels:
        return None
    labels = list(SOURCES.values())
    values = {row.name: list(_bins(shares)) for row, shares in panels}
    most = max(value["count"] for bins in values.values() for value in bins)
    legend = alt.Legend(orient="top", title=None, direction="vertical", labelLimit=0, symbolSize=400)
    dashes, colours = (alt.Scale(domain=labels, range=[style[at] for style in STYLES]) for at in (0, 1))
    x = alt.X("share:Q", title=None, scale=alt.Scale(domain=[0, 100])).axis(values=[0, 50, 100], grid=False)
    y = alt.Y("count:Q", title=None, scale=alt.Scale(domain=[0, most])).axis(tickCount=3, ticks=False)
    dash = alt.StrokeDash("images:N", scale=dashes, legend=legend)
    colour = alt.Color("images:N", scale=colours, legend=legend)
    # Not a facet: that draws axes below empty places, too.
    drawn = (
        alt.Chart(
            alt.Data(values=bins), title=alt.Title(name, fontSize=12, fontWeight="normal", color=INK, anchor="start")
        )
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(x=x, y=y, strokeDash=dash, color=colour)
        .properties(width=width, height=100)
        for name, bins in values.items()
    )
    chart = alt.concat(*drawn, columns=columns)
    said = (f"{row.name}: {_middle(shares.new)}" for row, shares in panels)
    text = f"Histograms of images by the share of features that point to the new class, in per cent. {'; '.join(said)}."
    return to_svg(chart, text, look=look)


def _labels() -> list[str]:
    return [label for label, _, _ in CLASSES.values()]


def _scaled(channel: Any, place: int) -> Any:
    """Colour or shape of the two classes, which stand in `CLASSES` at `place`."""
    legend = alt.Legend(orient="top", title=None, direction="vertical", labelLimit=0, symbolSize=70)
    scale = alt.Scale(domain=_labels(), range=[style[place] for style in CLASSES.values()])
    return channel("class:N", scale=scale, legend=legend)


_Mean = TypedDict("_Mean", {"set": str, "class": str, "value": float, "low": float, "high": float})
"""How much of a class a set carries, in per cent."""


class _Rate(TypedDict):
    """A share in per cent at a setting."""

    series: str
    x: float
    value: float
    low: float
    high: float


class _Bin(TypedDict):
    """One bin of a histogram, by its left end."""

    images: str
    share: float
    count: int


def _means(name: str, shares: GroupCarried) -> Iterator[_Mean]:
    for key, (label, _, _) in CLASSES.items():
        carried = getattr(shares, key).carried
        if carried:
            value, low, high = (100 * end for end in (carried.value, carried.low, carried.high))
            yield {"set": name, "class": label, "value": value, "low": low, "high": high}


def _said_of_shares(value: _Mean) -> str:
    return f"{value['value']:.1f} ({value['low']:.1f} to {value['high']:.1f})"


def _bins(carried: GroupCarried) -> Iterator[_Bin]:
    """The left end of every bin, and the right end of the last, which a line of steps wants."""
    for kind, label in SOURCES.items():
        counts = getattr(carried.new, kind).histogram
        for place, count in enumerate([*counts, counts[-1]]):
            yield {"images": label, "share": 100 * place / BINS, "count": count}


def _middle(seen: Carried) -> str:
    parts = [f"{label} {percent(getattr(seen, kind).share.value)}" for kind, label in SOURCES.items()]
    return f"mean of {', '.join(parts)}"


OURS, THEIRS = "this run", f"the paper ({paper.SETTING})"
COLOUR = SERIES["D", "adversarial"][1]
TOP = 102
"""Of the upward axis, which leaves room for a mark at 100."""
APART = 10.0
"""From a mark to its number at the nearest corners, right or left and up or down: CSS pixels."""
CLEAR = 12.0
"""Between a number and other marks and numbers, where there is room: CSS pixels."""
CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (2, 1), (2, -1), (1, 2), (1, -2))


def scatter(
    result: TransferResult, kind: TransferKind, *, width: float = 420, height: int = 300, look: Look = "page"
) -> Markup | None:
    """What each architecture learns from D_det against how often it is fooled, beside the paper's points.

    Points are numbered in the order of `learners`. None where no architecture was trained.
    """
    rows = _rows(result, kind)
    if not result.learners:
        return None
    right = max(row["right"] for row in rows) + 4
    x = alt.X("x:Q", title="test accuracy after training on D_det (%)", scale=alt.Scale(domain=[0, right], nice=False))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=x.axis(grid=False, tickCount=6), y=percent_axis(FIGURES[kind][1], field="y", top=TOP)
    )
    ours = base.transform_filter(f"datum.who === '{OURS}'")
    across = ours.mark_rule(color=COLOUR).encode(x="left:Q", x2="right:Q")
    along = ours.mark_rule(color=COLOUR).encode(y="low:Q", y2="high:Q")
    scale = alt.Scale(domain=[OURS, THEIRS], range=["circle", "diamond"])
    shape = alt.Shape("who:N", scale=scale, legend=legend(width, symbolStrokeWidth=1.5))
    points = base.mark_point(size=70, strokeWidth=1.5, opacity=1).encode(
        shape=shape,
        fill=alt.Fill("who:N", scale=alt.Scale(domain=[OURS, THEIRS], range=[COLOUR, PAGE]), legend=None),
        stroke=alt.Stroke("who:N", scale=alt.Scale(domain=[OURS, THEIRS], range=[COLOUR, INK]), legend=None),
    )
    numbers = alt.Chart(alt.Data(values=labels(rows, width / right, height / TOP)))
    names = numbers.mark_text(fontSize=11, color=INK).encode(x="x:Q", y="y:Q", text="name:N")
    chart = alt.layer(across, along, points, names).properties(width=width, height=height)
    return to_svg(chart, _text(result, kind), room=width + 120, look=look)


class Mark(TypedDict):
    """A mark's number, empty for one of the paper's, and where it stands, in per cent."""

    name: str
    x: float
    y: float


class _Point(Mark):
    """The same, and the ends of both intervals."""

    who: str
    left: float
    right: float
    low: float
    high: float


def labels(rows: Sequence[Mark], across: float, up: float) -> list[Mark]:
    """The numbers of our marks, each at the first corner of its mark that is clear of other marks and numbers.

    A unit of an axis is `across` or `up` CSS pixels long.
    """
    taken = [(row["x"] * across, row["y"] * up) for row in rows]
    names: list[Mark] = []
    for row in (row for row in rows if row["name"]):
        x, y = row["x"] * across, row["y"] * up
        corners = [(x + right * APART, y + above * APART) for right, above in CORNERS]
        inside = [corner for corner in corners if min(corner) > 0 and corner[1] < TOP * up]
        best = max(inside, key=lambda corner: min(CLEAR, *(math.dist(corner, other) for other in taken)))
        taken.append(best)
        names.append({"name": row["name"], "x": best[0] / across, "y": best[1] / up})
    return names


def _rows(result: TransferResult, kind: TransferKind) -> list[_Point]:
    rows: list[_Point] = []
    for number, at in enumerate(result.learners, 1):
        x, left, right, y, low, high = (
            100 * end for share in (at.learned, getattr(at, kind)) for end in (share.value, share.low, share.high)
        )
        rows.append(
            {"who": OURS, "name": str(number), "x": x, "y": y, "left": left, "right": right, "low": low, "high": high}
        )
    for theirs in paper.FIGURES_3_AND_13:
        x, y = 100 * theirs.learned, 100 * getattr(theirs, kind)
        rows.append({"who": THEIRS, "name": "", "x": x, "y": y, "left": x, "right": x, "low": y, "high": y})
    return rows


def _text(result: TransferResult, kind: TransferKind) -> str:
    points = [
        f"{number}: {100 * at.learned.value:.1f} learned, {100 * getattr(at, kind).value:.1f} {kind} transfer"
        for number, at in enumerate(result.learners, 1)
    ]
    return f"Scatter of {kind} transfer against accuracy after training on D_det. {'; '.join(points)}."


RATE_STYLES: tuple[Style, ...] = tuple(SERIES.values())


def against(
    lines: Mapping[str, Sequence[tuple[float, Interval]]],
    title: str,
    *,
    width: float = 300,
    height: int = 260,
    doubles: bool = False,
    score: Score = "accuracy",
    look: Look = "page",
) -> Markup:
    """Lines of accuracy against a setting, each of (its value, a proportion), with intervals.

    `title` is what the setting is. Where it `doubles` from point to point, the scale is logarithmic.
    """
    rows: list[_Rate] = [
        {"series": name, "x": x, "value": 100 * share.value, "low": 100 * share.low, "high": 100 * share.high}
        for name, points in lines.items()
        for x, share in points
    ]
    names, at = list(lines), sorted({x for points in lines.values() for x, _ in points})
    styles = [RATE_STYLES[number % len(RATE_STYLES)] for number, _ in enumerate(names)]
    room = 0.06 * (at[-1] - at[0] or 1)
    scale = (
        alt.Scale(type="log", domain=[at[0] / 1.15, at[-1] * 1.15], nice=False)
        if doubles
        else alt.Scale(domain=[at[0] - room, at[-1] + room], nice=False, zero=False)
    )
    said = "format(datum.value, ',')" if doubles else "toString(datum.value)"
    x = alt.X("x:Q", title=title, scale=scale).axis(values=at, labelExpr=said, grid=False)
    key = legend(0, symbolOpacity=1)
    colour = alt.Color("series:N", scale=alt.Scale(domain=names, range=[style[1] for style in styles]), legend=key)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=names, range=[style[2] for style in styles]), legend=key)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    bars = base.mark_rule(strokeWidth=1.5).encode(y=percent_axis(f"{score} (%)", field="low", top=101), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(y="value:Q")
    points = base.mark_point(filled=True, size=55, opacity=1).encode(y="value:Q", shape=shape)
    spoken = "; ".join(f"{row['series']} at {row['x']:g}: {row['value']:.1f}" for row in rows)
    chart = alt.layer(bars, line, points).properties(width=width, height=height)
    return to_svg(chart, f"Lines of {score} in per cent against {title}. {spoken}.", room=width + 60, look=look)


def against_figure(
    caption: str,
    lines: Mapping[str, Sequence[tuple[float, Interval]]],
    title: str,
    *,
    doubles: bool = False,
    score: Score = "accuracy",
) -> Figure:
    """`against` on a page: wide, and for a small screen."""
    return Figure(caption, [against(lines, title, width=width, doubles=doubles, score=score) for width in (560, 240)])


def against_printed(
    name: str,
    caption: str,
    lines: Mapping[str, Sequence[tuple[float, Interval]]],
    title: str,
    *,
    doubles: bool = False,
    score: Score = "accuracy",
) -> PrintedFigure:
    """`against` for a paper."""
    return PrintedFigure(name, caption, partial(against, lines, title, doubles=doubles, score=score, look="print"))


def against_rate(tuned: Tuned, name: str, *, width: int, height: int = 260) -> Markup:
    """Lines of test accuracy against learning rate, one for each architecture and number of epochs."""
    chosen = tuned.chosen(name)
    rows = [
        {
            "series": _series(tuned, at),
            "lr": at.lr,
            "accuracy": 100 * at.test.value,
            "low": 100 * at.test.low,
            "high": 100 * at.test.high,
            "chosen": at is chosen,
        }
        for at in tuned.of(name)
        if at.test
    ]
    labels = list(dict.fromkeys(row["series"] for row in rows))
    styles = [RATE_STYLES[number % len(RATE_STYLES)] for number, _ in enumerate(labels)]
    rates = sorted({row["lr"] for row in rows})
    scale = alt.Scale(type="log", domain=[rates[0] / 1.15, rates[-1] * 1.15], nice=False)
    x = alt.X("lr:Q", title="largest learning rate", scale=scale).axis(
        values=rates, labelExpr="toString(datum.value)", grid=False, labelOverlap="greedy"
    )
    key = legend(0, symbolOpacity=1)  # long names, one below the other; not the band's opacity
    colour = alt.Color("series:N", scale=alt.Scale(domain=labels, range=[style[1] for style in styles]), legend=key)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=labels, range=[style[2] for style in styles]), legend=key)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.16).encode(y=percent_axis("test accuracy (%)", field="low", top=101), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(y="accuracy:Q")
    points = base.mark_point(filled=True, size=55, opacity=1).encode(y="accuracy:Q", shape=shape)
    ring = base.transform_filter("datum.chosen").mark_point(size=260, shape="circle", strokeWidth=2, opacity=1)
    chart = alt.layer(band, line, points, ring.encode(y="accuracy:Q", color=alt.value(INK)))
    spoken = "; ".join(f"{row['series']} at {row['lr']:g}: {row['accuracy']:.1f}" for row in rows)
    text = f"Lines of test accuracy in per cent against learning rate, trained on {name}. {spoken}. Chosen: {chosen}."
    return to_svg(chart.properties(width=width, height=height), text, room=width + 90)


def _series(tuned: Tuned, at: Point) -> str:
    several = len({point.epochs for point in tuned.points}) > 1
    return f"{at.architecture}, {at.epochs} epochs" if several else at.architecture
