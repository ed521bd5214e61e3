"""The classifiers of a study, each with the accuracies that the sentences speak about, and the figures of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import altair as alt
from markupsafe import Markup

from notbugs.formats import NORMS, Interval, percent, said
from notbugs.report import paper
from notbugs.report.charts import (
    CLEAN,
    INDEPENDENT,
    INK,
    PAGE,
    ROBUST,
    SERIES,
    Look,
    Style,
    curves,
    legend,
    percent_axis,
    to_svg,
)
from notbugs.study.results import Results, Row
from notbugs.study.sets import BY_NAME, MATCHED, RELABELLED

ORDER = ("D", *BY_NAME)
EXPERIMENTS = (("D", *MATCHED), ("D", *RELABELLED))
_BARS = {
    ("D", "standard"): "D|standard|training",
    ("D", "adversarial"): "D|adversarial|training",
    ("D_R", "standard"): "D_R|standard|training",
    ("D_NR", "standard"): "D_NR|standard|training",
}


@dataclass(frozen=True)
class Member:
    """One classifier: its clean accuracy, and its robust accuracy by radius in one norm."""

    name: str
    train_set: str
    training: str
    clean: Row | None
    robust: dict[float, Row]


@dataclass(frozen=True)
class StudyAccuracies:
    """All classifiers of one seed.

    Attributes
    ----------
    norm : str or None
        The norm that figures show: l2 where it was measured.
    radii : tuple of float
        Every radius measured in that norm, rising, in pixel units.
    radius : float or None
        The main one: the measured radius nearest to half of the robust classifier's training radius, as the paper's
        Figure 2b shows 0.25 for training at 0.5; the smallest where there was no such training.
    """

    members: tuple[Member, ...]
    norm: str | None
    radii: tuple[float, ...]
    radius: float | None
    test_set: str
    seed: int

    def get(self, train_set: str, training: str = "standard") -> Member | None:
        """The classifier trained that way on that set; for standard training on D, not the independent one."""
        candidates = (m for m in self.members if (m.train_set, m.training) == (train_set, training))
        return min(candidates, key=lambda member: member.name == "independent", default=None)


def study_accuracies(results: Results) -> StudyAccuracies:
    """Gather the rows of the first seed: on the test images, or on held-out ones where there is nothing else.

    Where several attacks have the same radius, the one that leaves the lowest accuracy counts.
    """
    rows = results.rows
    test_set = "test" if any(row.test_set == "test" for row in rows) or not rows else rows[0].test_set
    seeds = {row.seed for row in rows}
    seed = next((seed for seed in results.study.seeds if seed in seeds), min(seeds, default=0))
    rows = [row for row in rows if row.test_set == test_set and row.seed == seed]
    norms = {row.attack.norm for row in rows if row.attack}
    norm = "l2" if "l2" in norms else min(norms, default=None)
    names = dict.fromkeys(row.classifier for row in rows)
    members = [_member([row for row in rows if row.classifier == name], norm) for name in names]
    members.sort(key=lambda m: (ORDER.index(m.train_set), m.training == "adversarial", m.name == "independent"))
    radii = sorted({radius for member in members for radius in member.robust})
    return StudyAccuracies(tuple(members), norm, tuple(radii), _main_radius(results, radii), test_set, seed)


def _main_radius(results: Results, radii: list[float]) -> float | None:
    adversary = (results.study.recipe.get("robust") or {}).get("adversary") or {}
    half = adversary.get("eps", 0) / 2
    return min(radii, key=lambda radius: abs(radius - half), default=None)


def _member(rows: list[Row], norm: str | None) -> Member:
    clean = next((row for row in rows if row.attack is None), None)
    robust: dict[float, Row] = {}
    for row in rows:
        if row.attack is None or row.attack.norm != norm or row.attack.eps == 0:
            continue
        radius = row.attack.eps
        if radius not in robust or row.accuracy < robust[radius].accuracy:
            robust[radius] = row
    return Member(rows[0].classifier, rows[0].train_set, rows[0].training, clean, robust)


def quoted(measured: Row | Interval, digits: int = 1) -> str:
    """A proportion in a sentence, with its 95 % interval: `90.0\u00a0% (86.5 to 92.7)`."""
    return said(measured.share if isinstance(measured, Row) else measured, digits)


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


def diamonds(accuracies: StudyAccuracies) -> str:
    """What the paper's marks are; it has robust accuracies at two radii."""
    where = f"{NORMS[accuracies.norm or 'l2']} radius {accuracies.radius or 0:g}"
    has = paper.TABLE_7["D", "standard"].at(accuracies.norm, accuracies.radius) is not None
    return f"the paper, Table 7 ({paper.SETTING}, {where if has else f'clean alone, as it has none at {where}'})"


class _Bar(TypedDict):
    """One bar of Figure 2b, in per cent, and the paper's value."""

    group: str
    kind: str
    accuracy: float
    low: float
    high: float
    paper: float | None
    source: str
    top: float
    shown: str


def _bar_rows(accuracies: StudyAccuracies, member: tuple[str, str]) -> list[_Bar]:
    classifier, reference = accuracies.get(*member), paper.TABLE_7[member]
    if not classifier or accuracies.radius is None:
        return []
    measured = (
        ("clean", classifier.clean, reference.clean),
        ("robust", classifier.robust.get(accuracies.radius), reference.at(accuracies.norm, accuracies.radius)),
    )
    return [
        {
            "group": _BARS[member],
            "kind": kind,
            "accuracy": 100 * row.accuracy,
            "low": 100 * row.low,
            "high": 100 * row.high,
            "paper": None if theirs is None else 100 * theirs,
            "source": f"the paper ({paper.SETTING})",
            # Over the bar, or over the paper's mark where the two would touch.
            "top": 100 * (theirs + 0.015 if theirs and row.high - 0.02 < theirs < row.high + 0.08 else row.high),
            "shown": percent(row.accuracy),
        }
        for kind, row, theirs in measured
        if row
    ]


def _bar_text(rows: list[_Bar]) -> str:
    parts = [
        f"{row['group'].split('|')[0]}, {row['group'].split('|')[1]} training: {row['kind']} {row['shown']} %"
        + ("" if row["paper"] is None else f", paper {row['paper']:.4g} %")
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
