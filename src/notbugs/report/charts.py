"""The figures: Altair specifications, rendered to static SVG that follows the page's light or dark theme.

The colours are those of Okabe and Ito, told apart without colour vision; every series also has its own shape. Text in
a figure is ours or a number, never a user's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import altair as alt
import vl_convert
from markupsafe import Markup

from notbugs.formats import NORMS, percent
from notbugs.report import paper, wording
from notbugs.report.accuracies import Member, StudyAccuracies
from notbugs.study.sets import MATCHED, RELABELLED, SETS

Style = tuple[str, str, str, list[int]]
"""Of a series: label, colour, shape, dashes."""
Look = Literal["page", "print"]
"""For a page that has light and dark themes, or to stand alone in a paper."""

INK, MUTED, GRID, PAGE = "#1b1b1a", "#5f5e5a", "#deddd8", "#fffffe"
CLEAN, ROBUST = "#7fbde3", "#c64b00"
SERIES: dict[tuple[str, str], Style] = {
    ("D", "standard"): ("D, standard", "#3a3a38", "circle", []),
    ("D", "adversarial"): ("D, adversarial", "#0072b2", "square", []),
    **{(made.name, "standard"): (made.name, made.colour, made.mark, []) for made in SETS},
}
INDEPENDENT = ("D, independent", "#8a8984", "cross", [4, 3])
EXPERIMENTS = (("D", *MATCHED), ("D", *RELABELLED))

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
_BARS = {
    ("D", "standard"): "D|standard|training",
    ("D", "adversarial"): "D|adversarial|training",
    ("D_R", "standard"): "D_R|standard|training",
    ("D_NR", "standard"): "D_NR|standard|training",
}


def figure_2b(accuracies: StudyAccuracies, *, width: float, height: int = 300, look: Look = "page") -> Markup | None:
    """Bars of clean accuracy, and of robust accuracy at the main radius, with the paper's values marked.

    Widths and heights are in CSS pixels at scale one. None where there is nothing to show.
    """
    rows = [row for member in _BARS for row in _bar_rows(accuracies, member)]
    if not rows or accuracies.radius is None:
        return None
    robust = f"robust accuracy, {NORMS[accuracies.norm or 'l2']} radius {accuracies.radius:g}"
    for row in rows:
        row["kind"] = "clean accuracy" if row["kind"] == "clean" else robust
    kinds = ["clean accuracy", robust]
    groups = [label for label in _BARS.values() if any(row["group"] == label for row in rows)]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("group:N", sort=groups, title=None, scale=alt.Scale(paddingInner=0.22, paddingOuter=0.08)).axis(
            labelAngle=0, labelExpr="split(datum.label, '|')", ticks=False, labelPadding=8, labelLineHeight=14
        ),
        xOffset=alt.XOffset("kind:N", sort=kinds),
    )
    y = percent_axis("accuracy (%)", top=108)
    bars = base.mark_bar().encode(
        y=y, color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[CLEAN, ROBUST]), legend=legend(width))
    )
    whiskers = base.mark_rule(color=INK, strokeWidth=1.5).encode(y="low:Q", y2="high:Q")
    reference = base.mark_point(filled=False, fill=PAGE, stroke=INK, strokeWidth=1.5, size=70, opacity=1).encode(
        y="paper:Q",
        shape=alt.Shape(
            "source:N",
            scale=alt.Scale(range=["diamond"]),
            legend=legend(width, symbolStrokeWidth=1.5),
        ),
    )
    values = base.mark_text(dy=-10, fontSize=11.5, color=INK).encode(y="top:Q", text="shown:N")
    chart = alt.layer(bars, whiskers, reference, values).resolve_legend(color="independent", shape="independent")
    return to_svg(chart.properties(width=width, height=height), _bar_text(rows), look=look)


def against_radius(
    accuracies: StudyAccuracies, experiment: int, *, width: float = 236, height: int = 240, look: Look = "page"
) -> Markup | None:
    """Accuracy against radius for the classifiers of experiment 1 or 2; None where there are no radii."""
    members = [m for m in accuracies.members if m.train_set in EXPERIMENTS[experiment - 1] and m.robust]
    if experiment == 2:  # of the classifiers trained on D, only the source
        members = [m for m in members if m.train_set != "D" or m == accuracies.get("D")]
    if len({m.train_set for m in members}) < 2:
        return None
    series = [(_style(member), _points(member)) for member in members]
    text = f"Lines of accuracy against radius, experiment {experiment}."
    return curves(series, accuracies.norm or "l2", accuracies.radii, text, width=width, height=height, look=look)


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


def _bar_rows(accuracies: StudyAccuracies, member: tuple[str, str]) -> list[dict[str, Any]]:
    found, reference = accuracies.get(*member), paper.TABLE_7[member]
    if not found or accuracies.radius is None:
        return []
    measured = (
        ("clean", found.clean, reference.clean),
        ("robust", found.robust.get(accuracies.radius), reference.robust),
    )
    return [
        {
            "group": _BARS[member],
            "kind": kind,
            "accuracy": 100 * row.accuracy,
            "low": 100 * row.low,
            "high": 100 * row.high,
            "paper": 100 * theirs,
            "source": f"the paper ({paper.SETTING})",
            # Over the bar, or over the paper's mark where the two would touch.
            "top": 100 * (theirs + 0.015 if row.high - 0.02 < theirs < row.high + 0.08 else row.high),
            "shown": percent(row.accuracy),
        }
        for kind, row, theirs in measured
        if row
    ]


def _bar_text(rows: list[dict[str, Any]]) -> str:
    parts = [
        f"{row['group'].split('|')[0]}, {row['group'].split('|')[1]} training: {row['kind']} {row['shown']} %, "
        f"paper {row['paper']:.4g} %"
        for row in rows
    ]
    return f"Bars. {'; '.join(parts)}."


def _style(member: Member) -> Style:
    return INDEPENDENT if member.name == "independent" else SERIES[member.train_set, member.training]


def _points(member: Member) -> list[dict[str, float]]:
    rows = [(0.0, member.clean), *sorted(member.robust.items())]
    return [
        {"radius": radius, "accuracy": 100 * row.accuracy, "low": 100 * row.low, "high": 100 * row.high}
        for radius, row in rows
        if row
    ]


def _end_labels(series: list[Any], last: float, height: int, shapes: alt.Shape) -> list[alt.Chart]:
    """A symbol and a name at the end of every line, pushed apart where ends lie together, with a lead to the line."""
    step = 100 * 16 / height
    ends = sorted(((points[-1]["accuracy"], style[0]) for style, points in series), key=lambda end: end[0])
    places: list[float] = []
    for value, _ in ends:
        places.append(max(value, places[-1] + step if places else 0))
    places = [place - max(0, places[-1] - 100) for place in places]
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
    found = head.search(drawn)
    if not found:
        raise RuntimeError("vl-convert returned an SVG without a size")
    width = max(room, float(found[1]))
    opening = Markup(
        '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" style="--drawn: {}">'
    ).format(text, width, found[2], width, width)
    return Markup(opening + Markup(head.sub("", drawn, count=1)))
