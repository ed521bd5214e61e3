"""Figures as SVG text: charts with logarithmic or linear axes, and the panels of Figure 4.

Colours and dashes come from the page's style sheet by class, so that one picture serves light and dark; every
line has a dash pattern and a label of its own, every set of points a shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 66, 126, 14, 52


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: what it shows, from where to where, and whether in decades."""

    label: str
    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies on the axis, from 0 to 1."""
        low, high, here = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return (here - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round numbers to write on the axis."""
        if self.log:
            span = math.log10(self.high / self.low)
            digits = (1,) if span > 3 else (1, 3) if span > 2 else (1, 2, 5)
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in digits]
            return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Line:
    """A curve with a label at its right end; `style` picks dash and colour."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: int


@dataclass(frozen=True)
class Points:
    """Measured values with intervals, each (x, value, low, high); `style` picks shape and colour."""

    label: str
    at: Sequence[tuple[float, float, float, float]]
    style: int
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart and the sentence that says what it shows."""

    name: str
    describe: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    points: Sequence[Points] = field(default=())

    def svg(self) -> str:
        """The chart as one svg element."""
        label = f'role="img" aria-label="{escape(self.describe)}"'
        parts = [f'<svg class="chart" id="chart-{self.name}" viewBox="0 0 {WIDTH} {HEIGHT}" {label}>']
        parts += self._axes()
        parts += [self._line(line) for line in self.lines]
        parts += self._end_labels()
        parts += [self._mark(group, at) for group in self.points for at in group.at]
        return "".join([*parts, "</svg>"])

    def _xy(self, x: float, y: float) -> tuple[float, float]:
        across = LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> list[str]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = [f'<path class="axis" d="M{LEFT},{TOP}V{bottom}H{right}"/>']
        for value in self.x.ticks():
            x, _ = self._xy(value, self.y.low)
            parts.append(f'<path class="grid" d="M{x:.1f},{TOP}V{bottom}"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
        for value in self.y.ticks():
            _, y = self._xy(self.x.low, value)
            parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{right}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{value:g}</text>')
        middle = (LEFT + right) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.x.label)}</text>')
        turned = f'transform="translate(15 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle"'
        return [*parts, f"<text {turned}>{escape(self.y.label)}</text>"]

    def _line(self, line: Line) -> str:
        spots = [self._xy(x, y) for x, y in zip(line.x, line.y, strict=True) if self.y.low <= y <= self.y.high]
        path = "L".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        return f'<path class="line s{line.style}" d="M{path}"/>'

    def _end_labels(self) -> list[str]:
        """Labels at the lines' right ends, moved apart where they would touch."""
        ends = []
        for line in self.lines:
            last = next(i for i in reversed(range(len(line.y))) if self.y.low <= line.y[i] <= self.y.high)
            ends.append((self._xy(line.x[last], line.y[last])[1], line))
        ends.sort(key=lambda end: end[0])
        parts, floor = [], 0.0
        for height, line in ends:
            floor = max(height + 5, floor + 17)
            where = f'x="{WIDTH - RIGHT + 8}" y="{floor:.1f}"'
            parts.append(f'<text class="name s{line.style}" {where}>{escape(line.label)}</text>')
        return parts

    def _mark(self, group: Points, at: tuple[float, float, float, float]) -> str:
        x, y = self._xy(at[0], at[1])
        low, high = (self._xy(at[0], max(bound, self.y.low))[1] for bound in at[2:])
        shape = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
            f'<rect x="{x - 3.7:.1f}" y="{y - 3.7:.1f}" width="7.4" height="7.4"/>',
            f'<path d="M{x:.1f},{y - 5:.1f}l4.8,8.4h-9.6z"/>',
        )[group.style % 3]
        bar = f'<path d="M{x:.1f},{low:.1f}V{high:.1f}M{x - 3:.1f},{low:.1f}h6M{x - 3:.1f},{high:.1f}h6"/>'
        tip = f"<title>{escape(group.label)}: {at[1]:.4g}, 95 % interval {at[2]:.4g} to {at[3]:.4g}</title>"
        return f'<g class="mark s{group.style}{" hollow" if group.hollow else ""}">{tip}{bar}{shape}</g>'


def panel_svg(panel: dict[str, Any], name: str, describe: str) -> str:
    """One panel of Figure 4; live.js moves the same elements, found by their data-part."""
    mean, learned = panel["mean"], panel.get("learned_mean", panel["mean"])
    parts = [
        f'<svg class="panel" id="{name}" viewBox="-24 -15 48 30" role="img" aria-label="{escape(describe)}">',
        f'<defs><marker id="{name}-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="tip" d="M0,0L8,4L0,8z"/></marker></defs>',
        '<g data-part="dots"></g>',
        f'<circle class="ball" data-part="ball" cx="{mean[0]:.4f}" cy="{-mean[1]:.4f}" r="{panel["radius"]:.4f}"/>',
    ]
    for part, centre, covariance in (
        ("true", mean, panel["covariance"]),
        ("learned", learned, panel["robust_covariance"]),
    ):
        wide, narrow, turn = ellipse(covariance)
        for sign in (1, -1):
            for sigma in (1, 2):
                x, y = sign * centre[0], -sign * centre[1]
                parts.append(
                    f'<ellipse class="{part}" data-part="{part}" data-sign="{sign}" data-sigma="{sigma}" '
                    f'rx="{sigma * wide:.4f}" ry="{sigma * narrow:.4f}" '
                    f'transform="translate({x:.4f} {y:.4f}) rotate({-turn:.4f})"/>'
                )
    gradient = panel["direction"]
    for part, (x1, y1, x2, y2), tip in (
        ("boundary", (60 * gradient[1], 60 * gradient[0], -60 * gradient[1], -60 * gradient[0]), False),
        ("means", (-mean[0], mean[1], mean[0], -mean[1]), False),
        ("gradient", (0.0, 0.0, 12 * gradient[0], -12 * gradient[1]), True),
    ):
        end = f' marker-end="url(#{name}-tip)"' if tip else ""
        where = f'x1="{x1:.4f}" y1="{y1:.4f}" x2="{x2:.4f}" y2="{y2:.4f}"'
        parts.append(f'<line class="{part}" data-part="{part}" {where}{end}/>')
    for part, (x, y, anchor, text) in labels(panel, learned).items():
        where = f'x="{x:.4f}" y="{-y:.4f}" text-anchor="{anchor}"'
        parts.append(f'<text class="label" data-part="label-{part}" {where}>{text}</text>')
    return "".join([*parts, "</svg>"])


def ellipse(covariance: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Semi-axes of a 2 x 2 covariance's one-sigma level set, and the angle of the longer in degrees."""
    (a, b), (_, c) = covariance
    wide = (a + c) / 2 + math.hypot((a - c) / 2, b)
    return math.sqrt(wide), math.sqrt((a * c - b * b) / wide), math.degrees(0.5 * math.atan2(2 * b, a - c))


def labels(panel: dict[str, Any], learned: Sequence[float]) -> dict[str, tuple[float, float, str, str]]:
    """Where the words of a panel stand: x, y (upwards), text anchor, word."""
    mean, (gx, gy) = panel["mean"], panel["direction"]
    up = (-gy, gx) if gx >= 0 else (gy, -gx)
    reach = min(22.5 / max(abs(up[0]), 1e-9), 12.5 / max(abs(up[1]), 1e-9))
    top = 2 * math.sqrt(panel["covariance"][1][1])
    learned_top = 2 * math.sqrt(panel["robust_covariance"][1][1])
    side = "start" if gx > 0.5 else "end" if gx < -0.5 else "middle"
    return {
        "true": (-mean[0], _keep(-mean[1] + top + 0.9), "middle", "true"),
        "learned": (learned[0], _keep(learned[1] + learned_top + 0.9), "middle", "learned"),
        "ball": (mean[0], _keep(mean[1] - max(panel["radius"], 1) - 1.9), "middle", "ball"),
        "boundary": (up[0] * reach, up[1] * reach, "end" if up[0] > 0 else "start", "boundary"),
        "means": (-0.45 * mean[0], -0.45 * mean[1] - 1.9, "middle", "means"),
        "gradient": (13.8 * gx, 13.8 * gy - 0.5, side, "gradient"),
    }


def _keep(y: float) -> float:
    return max(-14.3, min(13.0, y))
