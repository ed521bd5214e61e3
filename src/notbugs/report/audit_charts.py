"""The figure of an audit: accuracy against radius."""

from __future__ import annotations

from markupsafe import Markup

from notbugs.measure.accuracy import Accuracy
from notbugs.measure.audited import Audit, GroupName
from notbugs.report.charts import Style, curves

MODEL: Style = ("the model", "#3a3a38", "circle", [])
GROUPS: dict[GroupName, Style] = {
    "all": ("all features", "#8a8984", "cross", [4, 3]),
    "robust": ("robust alone", "#0072b2", "square", []),
    "nonrobust": ("non-robust alone", "#d55e00", "diamond", []),
}


def against_radius(audit: Audit) -> Markup:
    """Accuracy against radius: the model as it is, and heads refitted on each group of features."""
    series = [(MODEL, _points(audit.model))]
    series += [(GROUPS[group.name], _points(group.accuracies)) for group in audit.groups]
    radii = [found.attack.eps for found in audit.model if found.attack]
    return curves(series, audit.norm, radii, "Lines of accuracy against radius.")


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
