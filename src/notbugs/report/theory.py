"""The page of the theory: `theory.html`, from the numbers in `theory.json` alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from notbugs.content import Cell, Table
from notbugs.files import read_json
from notbugs.formats import NORMS, number
from notbugs.report.charts import Axis, Line, Measured, against_formula
from notbugs.report.shell import environment, text_of

Numbers = Mapping[str, Any]
"""What `theory.experiments.compute` gives."""

LEGEND = (
    ("true", "true Gaussian"),
    ("learned", "learned Gaussian"),
    ("ball", "l2 ball of the radius"),
    ("boundary", "decision boundary"),
    ("gradient", "input gradient"),
    ("means", "difference of the means"),
)
LIVE_ROWS = (
    ("multiplier", "multiplier λ"),
    ("wide", "larger variance"),
    ("narrow", "smaller variance"),
    ("condition", "their ratio"),
    ("cosine", "cosine of gradient and means"),
    ("slope", "slope of the boundary"),
    ("clean_error", "clean error"),
    ("robust_error", "robust error"),
    ("standard_robust_error", "standard classifier’s robust error"),
)


def page(folder: Path) -> str:
    """The page as HTML, from the file that `write_theory` left."""
    return render(read_json(folder / "theory.json"))


def render(numbers: Numbers) -> str:
    """The page as HTML, from `compute`'s numbers alone."""
    settings = {name: value for name, value in numbers["live"].items() if name != "panel"} | {"seed": numbers["seed"]}
    panels = numbers["figure4"]["panels"]
    return (
        environment()
        .get_template("theory.html.j2")
        .render(
            n=numbers,
            script=Markup(text_of("theory.js")),
            settings=Markup(json.dumps(settings).replace("</", "<\\/")),
            legend=LEGEND,
            live_rows=LIVE_ROWS,
            live=panel("live-figure", numbers["live"]["panel"], "Figure 4, drawn for the sliders’ values"),
            panels=[panel(f"panel-{place}", one, _describe(one)) for place, one in enumerate(panels)],
            charts=charts(numbers),
            tables=tables(numbers),
            verdicts=_verdicts(numbers),
        )
    )


def charts(numbers: Numbers) -> dict[str, Markup]:
    """The five charts, by name."""
    one, two, three = (numbers[f"theorem{k}"] for k in (1, 2, 3))
    deep, wide = numbers["dimension"], numbers["samples"]
    top = 1.05 * max(y for curve in one["curves"] for y in curve["y"])
    relaxed = [Line("relaxed", [1.7, 40], [deep["relaxed"]] * 2)]
    exact = [Measured(0, [(point["dim"], *_interval(point)) for point in deep["points"]])]
    flat = [
        Line("robust" if curve["training_radius"] else "standard", [12, 6000], [curve["population_robust"]] * 2)
        for curve in wide["curves"]
    ]
    learned = [
        Measured(place, [(n, *_interval(error)) for n, error in zip(curve["sizes"], curve["robust"], strict=True)])
        for place, curve in enumerate(wide["curves"])
    ]
    most = 1.1 * max(error["high"] for curve in wide["curves"] for error in curve["robust"])
    return {
        "theorem1": against_formula(
            Axis("condition number", 1, 20, is_log=True),
            Axis("loss gap", 0, top),
            [Line(f"C = {curve['penalty']:g}", curve["x"], curve["y"]) for curve in one["curves"]],
            _points(one, "penalty", "condition"),
            "The loss gap rises with the condition number, for three penalties.",
        ),
        "theorem2": against_formula(
            Axis("radius", 0.01, 100, is_log=True),
            Axis("learned variance", 0.2, 5000, is_log=True),
            [Line(f"s = {curve['eigenvalue']:g}", curve["x"], curve["y"]) for curve in two["curves"]],
            [*_points(two, "eigenvalue", "radius", "map"), *_points(two, "eigenvalue", "radius", "sample")],
            "Three learned variances against the radius: apart for small radii, together for large ones.",
        ),
        "theorem3": against_formula(
            Axis("radius", 0, 4),
            Axis("worst cosine", 0, 1),
            [Line(f"κ = {curve['condition']:g}", curve["x"], curve["y"]) for curve in three["curves"]],
            _points(three, "condition", "radius"),
            "The worst cosine rises towards 1 with the radius, for three condition numbers.",
        ),
        "dimension": against_formula(
            Axis("dimension", 1.7, 40, is_log=True),
            Axis("learned variance", 2.7, 2.92),
            relaxed,
            exact,
            "The exact problem’s learned variance approaches the relaxed one’s as the dimension grows.",
        ),
        "samples": against_formula(
            Axis("samples", 12, 6000, is_log=True),
            Axis("robust error", 0, most),
            flat,
            learned,
            "Robust error falls with the sample size, for standard and robust learning.",
        ),
    }


def _points(block: Numbers, group: str, x: str, adversary: str | None = None) -> Iterator[Measured]:
    """The block's simulated points, in the looks of the curve that they belong to."""
    aside = 1.15 if adversary == "sample" else 1.0  # drawn a little to the right
    for place, curve in enumerate(block["curves"]):
        chosen = [p for p in block["points"] if p[group] == curve[group] and p.get("adversary") == adversary]
        yield Measured(place, [(aside * p[x], *_interval(p)) for p in chosen], is_hollow=adversary == "sample")


def _interval(point: Numbers) -> tuple[float, float, float]:
    return point["value"], point["low"], point["high"]


CHECKED = ("formula", "simulated", "low", "high", "holds")


def tables(numbers: Numbers) -> dict[str, Table]:
    """Every number of the page that is not in a sentence, by name."""
    one, two, three = (numbers[f"theorem{k}"] for k in (1, 2, 3))
    sizes = [
        ["robust" if curve["training_radius"] else "standard", n, *_interval(error)]
        for curve in numbers["samples"]["curves"]
        for n, error in zip(curve["sizes"], curve["robust"], strict=True)
    ]
    folded = {"simulated": "The simulated points", "trained": "The trained points"}
    return {
        "figure4": _table(
            "Figure 4 in numbers; errors are of the learned classifier, and beside it the standard one, under the same "
            "adversary",
            ("radius", "multiplier λ", "variance ratio", "cosine", "clean error", "robust error",
             "standard’s robust error"),
            [_named(row, "radius", "multiplier", "condition", "cosine", "clean_error", "robust_error",
                    "standard_robust_error") for row in numbers["figure4"]["panels"]],
        ),
        "theorem1": _table(
            "Theorem 1: formula and simulation", ("penalty", "condition", *CHECKED),
            _checks(one["points"], "penalty", "condition"), folded=folded["simulated"],
        ),
        "theorem2": _table(
            "Theorem 2: the closed form, the paper’s bounds on λ, and the certificate",
            ("squared radius", "learned variances", "λ", "lower bound", "upper bound", "ratio", "certificate",
             "in the paper’s range"),
            [[row["budget"], ", ".join(map(number, row["robust"])),
              *_named(row, "multiplier", "lower", "upper", "condition", "certificate", "within_sufficient")]
             for row in two["table"]],
        ),
        "trained2": _table(
            "Theorem 2: formula and adversarial training", ("adversary", "radius", "true variance", *CHECKED),
            _checks(two["points"], "adversary", "radius", "eigenvalue"), folded=folded["trained"],
        ),
        "theorem3": _table(
            "Theorem 3: formula and search over means", ("condition", "radius", *CHECKED),
            _checks(three["points"], "condition", "radius"), folded=folded["trained"],
        ),
        "dimension": _table(
            "The relaxed problem’s learned variance, and the exact one’s by training", ("dimension", *CHECKED),
            _checks(numbers["dimension"]["points"], "dim"), folded=folded["trained"],
        ),
        "samples": _table(
            "Robust error of what is learned from a sample", ("learning", "samples", "robust error", "low", "high"),
            sizes, folded=folded["simulated"],
        ),
        "ways": _table(
            "Figure 4’s pair learned in three ways: variances along the long and the short axis, ± half the 95 % "
            "interval over eight runs",
            ("way", "problem", "radius", "long axis", "short axis"), list(map(_way, numbers["three_ways"])),
            words=("problem",),
        ),
        "errors": _table(
            "Errors in closed form and by simulation, l2 and l-inf adversaries, equal and unequal priors",
            ("learned by", "norm", "radius", "prior of +1", *CHECKED),
            _checks([row | {"norm": NORMS[row["norm"]]} for row in numbers["errors"]],
                    "learned", "norm", "radius", "prior"), words=("norm",),
        ),
    }  # fmt: skip


def _table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, folded: str = "", words: Sequence[str] = ()
) -> Table:
    """The first cell of a row is its name."""
    named = [[first if isinstance(first, str) else number(float(first)), *rest] for first, *rest in rows]  # pyrefly: ignore
    return Table(caption, columns, named, folded=folded, words=words)


def _named(row: Numbers, *keys: str) -> list[Cell]:
    return ["infinite" if row[key] is None else row[key] for key in keys]


def _checks(points: Sequence[Numbers], *keys: str) -> list[list[Cell]]:
    return [_named(point, *keys, "formula", "value", "low", "high", "holds") for point in points]


def _way(row: Numbers) -> list[Cell]:
    cells: list[Cell] = [row["way"], row["problem"], row["radius"]]
    for axis in ("wide", "narrow"):
        check = row.get(f"{axis}_check")
        cells.append(number(row[axis]) + (f" ± {(check['high'] - check['low']) / 2:.2g}" if check else ""))
    return cells


def _verdicts(numbers: Numbers) -> dict[str, str]:
    """How many of the intervals hold the formula, counted."""
    blocks = {f"theorem{k}": numbers[f"theorem{k}"]["points"] for k in (1, 2, 3)} | {"errors": numbers["errors"]}
    said = {}
    for name, points in blocks.items():
        counted = [point["holds"] for point in points if point.get("adversary") != "sample"]
        said[name] = f"The formula lies in {sum(counted)} of {len(counted)} intervals."
    return said


@dataclass(frozen=True)
class Panel:
    """One panel of Figure 4, as the template draws it and the script moves it, by the names of its parts."""

    name: str
    says: str
    radius: float
    mean: Sequence[float]
    ellipses: Sequence[tuple[str, int, int, float, float, float, float, float]]
    """Part, sign, sigma; semi-axes, centre, turn in degrees."""
    lines: Sequence[tuple[str, float, float, float, float]]
    labels: Mapping[str, tuple[float, float, str]]
    """x, y upwards, and the text's anchor."""


def panel(name: str, numbers: Numbers, says: str) -> Panel:
    """A panel from what `experiments.panel` computed."""
    mean, gradient = numbers["mean"], numbers["direction"]
    ellipses = [
        (part, sign, sigma, sigma * wide, sigma * narrow, sign * mean[0], -sign * mean[1], -turn)
        for part, covariance in (("true", numbers["covariance"]), ("learned", numbers["robust_covariance"]))
        for wide, narrow, turn in [ellipse(covariance)]
        for sign in (1, -1)
        for sigma in (1, 2)
    ]
    lines = (
        ("boundary", 60 * gradient[1], 60 * gradient[0], -60 * gradient[1], -60 * gradient[0]),
        ("means", -mean[0], mean[1], mean[0], -mean[1]),
        ("gradient", 0.0, 0.0, 12 * gradient[0], -12 * gradient[1]),
    )
    return Panel(name, says, numbers["radius"], mean, ellipses, lines, _labels(numbers))


def ellipse(covariance: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Semi-axes of a 2 x 2 covariance's one-sigma level set, and the angle of the longer in degrees."""
    (a, b), (_, c) = covariance
    wide = (a + c) / 2 + math.hypot((a - c) / 2, b)
    return math.sqrt(wide), math.sqrt((a * c - b * b) / wide), math.degrees(0.5 * math.atan2(2 * b, a - c))


def _labels(numbers: Numbers) -> dict[str, tuple[float, float, str]]:
    mean, (gx, gy) = numbers["mean"], numbers["direction"]
    up = (-gy, gx) if gx >= 0 else (gy, -gx)
    reach = min(22.5 / max(abs(up[0]), 1e-9), 12.5 / max(abs(up[1]), 1e-9))
    top, learned_top = (2 * math.sqrt(numbers[of][1][1]) for of in ("covariance", "robust_covariance"))
    side = "start" if gx > 0.5 else "end" if gx < -0.5 else "middle"
    return {
        "true": (-mean[0], _keep(-mean[1] + top + 0.9), "middle"),
        "learned": (mean[0], _keep(mean[1] + learned_top + 0.9), "middle"),
        "ball": (mean[0], _keep(mean[1] - max(numbers["radius"], 1) - 1.9), "middle"),
        "boundary": (up[0] * reach, up[1] * reach, "end" if up[0] > 0 else "start"),
        "means": (-0.45 * mean[0], -0.45 * mean[1] - 1.9, "middle"),
        "gradient": (13.8 * gx, 13.8 * gy - 0.5, side),
    }


def _keep(y: float) -> float:
    return max(-14.3, min(13.0, y))


def _describe(numbers: Numbers) -> str:
    wide, narrow = numbers["robust_covariance"][0][0], numbers["robust_covariance"][1][1]
    return (
        f"Two Gaussians and those learned at radius {numbers['radius']:g}: variances {wide:.4g} and {narrow:.4g}, "
        f"boundary slope {numbers['slope']:.3g}, cosine of the input gradient with the means {numbers['cosine']:.3g}."
    )
