"""The scatter of the paper's Figures 3 and 13: what architectures learn against how often they are fooled."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
from markupsafe import Markup

from notbugs.measure._transfer import Kind
from notbugs.report import paper
from notbugs.report.charts import INK, PAGE, SERIES, Look, legend, percent_axis, to_svg
from notbugs.study.instruments.transfer import FIGURES, TransferFound

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
    found: TransferFound, kind: Kind, *, width: float = 420, height: int = 300, look: Look = "page"
) -> Markup | None:
    """What each architecture learns from D_det against how often it is fooled, beside the paper's points.

    Points are numbered in the order of `learners`. None where no architecture was trained.
    """
    rows = _rows(found, kind)
    if not found.learners:
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
    return to_svg(chart, _text(found, kind), room=width + 120, look=look)


def labels(rows: list[dict[str, Any]], across: float, up: float) -> list[dict[str, Any]]:
    """The numbers of our marks, each at the first corner of its mark that is clear of other marks and numbers.

    A unit of an axis is `across` or `up` CSS pixels long.
    """
    taken = [(row["x"] * across, row["y"] * up) for row in rows]
    found = []
    for row in (row for row in rows if row["name"]):
        x, y = row["x"] * across, row["y"] * up
        corners = [(x + right * APART, y + above * APART) for right, above in CORNERS]
        inside = [corner for corner in corners if min(corner) > 0 and corner[1] < TOP * up]
        best = max(inside, key=lambda corner: min(CLEAR, *(math.dist(corner, other) for other in taken)))
        taken.append(best)
        found.append({"name": row["name"], "x": best[0] / across, "y": best[1] / up})
    return found


def _rows(found: TransferFound, kind: Kind) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, at in enumerate(found.learners, 1):
        share = getattr(at, kind)
        sides = {"left": at.learned.low, "right": at.learned.high, "low": share.low, "high": share.high}
        values = {name: 100 * value for name, value in {"x": at.learned.value, "y": share.value, **sides}.items()}
        rows.append({"who": OURS, "name": str(number), **values})
    for theirs in paper.FIGURES_3_AND_13:
        x, y = 100 * theirs.learned, 100 * getattr(theirs, kind)
        rows.append({"who": THEIRS, "name": "", "x": x, "y": y, "left": x, "right": x, "low": y, "high": y})
    return rows


def _text(found: TransferFound, kind: Kind) -> str:
    points = [
        f"{number}: {100 * at.learned.value:.1f} learned, {100 * getattr(at, kind).value:.1f} {kind} transfer"
        for number, at in enumerate(found.learners, 1)
    ]
    return f"Scatter of {kind} transfer against accuracy after training on D_det. {'; '.join(points)}."
