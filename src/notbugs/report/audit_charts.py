"""The figures of an audit: accuracy against radius, and the spectrum of features."""

from __future__ import annotations

import altair as alt
from markupsafe import Markup

from notbugs.measure.accuracy import Accuracy
from notbugs.measure.audited import Audit, GroupName
from notbugs.measure.spectrum import Kind, SpectrumRow
from notbugs.report.charts import MUTED, Style, curves, to_svg

MODEL: Style = ("the model", "#3a3a38", "circle", [])
GROUPS: dict[GroupName, Style] = {
    "all": ("all features", "#8a8984", "cross", [4, 3]),
    "robust": ("robust alone", "#0072b2", "square", []),
    "nonrobust": ("non-robust alone", "#d55e00", "diamond", []),
}
KINDS: dict[Kind, tuple[str, str, str]] = {  # label, colour, shape
    "robust": ("robustly useful", "#0072b2", "square"),
    "undecided": ("useful, undecided", "#b97a00", "triangle-up"),
    "nonrobust": ("useful, non-robust", "#d55e00", "diamond"),
    "useless": ("not shown to be useful", "#8a8984", "circle"),
}


def against_radius(audit: Audit) -> Markup:
    """Accuracy against radius: the model as it is, and heads refitted on each group of features."""
    series = [(MODEL, _points(audit.model))]
    series += [(GROUPS[group.name], _points(group.accuracies)) for group in audit.groups]
    radii = [found.attack.eps for found in audit.model if found.attack]
    return curves(series, audit.norm, radii, "Lines of accuracy against radius.")


def spectrum(audit: Audit, *, width: int = 300, height: int = 240) -> Markup:
    """Robust usefulness gamma against usefulness rho without its sign, a mark a feature, with intervals of gamma."""
    counts = audit.usefulness.of_features.model_dump()
    names = {kind: f"{label}: {counts[kind]}" for kind, (label, _, _) in KINDS.items()}
    legend = alt.Legend(orient="top", title=None, direction="vertical", labelLimit=0, symbolSize=70, symbolOpacity=1)
    colours, shapes = ([KINDS[kind][place] for kind in names] for place in (1, 2))
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(names.values()), range=colours), legend=legend)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(names.values()), range=shapes), legend=legend)
    marks = alt.Data(values=[_mark(row) | {"kind": names[row.kind]} for row in audit.spectrum])
    base = alt.Chart(marks).encode(
        x=alt.X("rho:Q", title="usefulness |\u03c1|").axis(tickCount=5, grid=False), color=colour
    )
    y = alt.Y("gamma:Q", title="robust usefulness \u03b3").axis(tickCount=5)
    whiskers = base.mark_rule(opacity=0.3).encode(y="low:Q", y2="high:Q")
    points = base.mark_point(filled=True, size=26, opacity=0.85).encode(y=y, shape=shape)
    zero = alt.Chart(alt.Data(values=[{"gamma": 0}])).mark_rule(color=MUTED, strokeWidth=1).encode(y="gamma:Q")
    text = (
        f"Marks, one for each of {len(audit.spectrum)} features: robust usefulness at {audit.threat_name} against "
        f"usefulness. {'; '.join(names.values())}."
    )
    return to_svg(alt.layer(zero, whiskers, points).properties(width=width, height=height), text)


def _points(found: list[Accuracy]) -> list[dict[str, float]]:
    return [
        {
            "radius": item.attack.eps if item.attack else 0.0,
            "accuracy": 100 * item.share.value,
            "low": 100 * item.share.low,
            "high": 100 * item.share.high,
        }
        for item in found
    ]


def _mark(row: SpectrumRow) -> dict[str, float]:
    return {"rho": abs(row.rho), "gamma": row.gamma, "low": row.gamma_low, "high": row.gamma_high}
