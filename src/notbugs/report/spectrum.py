"""The figure of features: robust usefulness against usefulness."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import altair as alt
from markupsafe import Markup

from notbugs.formats import class_name
from notbugs.measure.spectrum import Kind, SpectrumRow
from notbugs.report.charts import MUTED, Look, to_svg

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
