"""The charts of the theory page, from the numbers of `experiments.compute`."""

from __future__ import annotations

from notbugs.theory.experiments import Numbers
from notbugs.theory.svg import Axis, Chart, Line, Points


def charts(numbers: Numbers) -> dict[str, Chart]:
    """The five charts of the page."""
    one, two, three = (numbers[f"theorem{k}"] for k in (1, 2, 3))
    deep, wide = numbers["dimension"], numbers["samples"]
    sizes = wide["curves"][0]["sizes"]
    dims = [point["dim"] for point in deep["points"]]
    return {
        "theorem1": Chart(
            "theorem1",
            "The loss gap rises with the condition number, for three penalties.",
            Axis("condition number", 1, 20, log=True),
            Axis("loss gap", 0, 1.05 * max(y for c in one["curves"] for y in c["y"])),
            [Line(f"C = {c['penalty']:g}", c["x"], c["y"], i) for i, c in enumerate(one["curves"])],
            _points(one, "penalty", "condition"),
        ),
        "theorem2": Chart(
            "theorem2",
            "Three learned variances against the radius: apart for small radii, together for large ones.",
            Axis("radius", 0.01, 100, log=True),
            Axis("learned variance", 0.2, 5000, log=True),
            [Line(f"s = {c['eigenvalue']:g}", c["x"], c["y"], i) for i, c in enumerate(two["curves"])],
            [*_points(two, "eigenvalue", "radius", "map"), *_points(two, "eigenvalue", "radius", "sample")],
        ),
        "theorem3": Chart(
            "theorem3",
            "The worst cosine rises towards 1 with the radius, for three condition numbers.",
            Axis("radius", 0, 4),
            Axis("worst cosine", 0, 1),
            [Line(f"κ = {c['condition']:g}", c["x"], c["y"], i) for i, c in enumerate(three["curves"])],
            _points(three, "condition", "radius"),
        ),
        "dimension": Chart(
            "dimension",
            "The exact problem’s learned variance approaches the relaxed one’s as the dimension grows.",
            Axis("dimension", 1.7, 40, log=True),
            Axis("learned variance", 2.7, 2.92),
            [Line("relaxed", [1.7, 40], [deep["relaxed"]] * 2, 0)],
            [
                Points(
                    "exact",
                    [(d, p["value"], p["low"], p["high"]) for d, p in zip(dims, deep["points"], strict=True)],
                    1,
                )
            ],
        ),
        "samples": Chart(
            "samples",
            "Robust error falls with the sample size, for standard and robust learning.",
            Axis("samples", 12, 6000, log=True),
            Axis("robust error", 0, 1.1 * max(e["high"] for c in wide["curves"] for e in c["robust"])),
            [
                Line(
                    "robust" if c["training_radius"] else "standard",
                    [12, 6000],
                    [c["population_robust"]] * 2,
                    i,
                )
                for i, c in enumerate(wide["curves"])
            ],
            [
                Points(
                    "learned",
                    [(n, e["value"], e["low"], e["high"]) for n, e in zip(sizes, c["robust"], strict=True)],
                    i,
                )
                for i, c in enumerate(wide["curves"])
            ],
        ),
    }


def _points(block: Numbers, group: str, x: str, adversary: str | None = None) -> list[Points]:
    """The block's simulated points, one set for each curve, in the curve's style."""
    sets = []
    for style, curve in enumerate(block["curves"]):
        chosen = [p for p in block["points"] if p[group] == curve[group] and p.get("adversary") == adversary]
        aside = 1.15 if adversary == "sample" else 1.0
        at = [(aside * p[x], p["value"], p["low"], p["high"]) for p in chosen]
        sets.append(Points(f"{group} {curve[group]:g}", at, style, hollow=adversary == "sample"))
    return sets
