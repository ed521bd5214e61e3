"""`python -m benchmarks.controls STUDY ...`: what sets teach beyond their leakage controls, by radius and network.

Each study has measured `instruments.set_radius`. They may differ in their network, their seed, and what else the
instruments ask. No model is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import notbugs as nb
from benchmarks.alike import cell, check_alike, check_different, options
from notbugs.errors import InputError
from notbugs.files import write_json
from notbugs.study import Results, read_results
from notbugs.study.instruments.set_radius import SetRadiusRow

ASKED = ("architecture", "instruments")
"""Settings in which the studies may differ, beside their seed."""


def network_of(results: Results) -> str:
    """The architecture and its width, in words."""
    architecture = results.study.recipe["architecture"]
    width = architecture.get("width")
    return f"{architecture['name']}{f' of width {width}' if width else ''}"


def measured(results: Results) -> list[dict[str, Any]]:
    """A row for each set, radius and repetition of one study; of classes of unequal size in balanced accuracies."""
    found = results.instruments.set_radius
    if found is None:
        raise InputError(
            f"The study of {results.study.created} has not measured what sets teach beyond their controls. "
            "Run it again with --instruments.set-radius.on."
        )
    about = {"network": network_of(results), "norm": found.norm, "study_seed": results.study.seeds[0]}
    return [about | row.model_dump(mode="json") | _held(row) for row in found.rows]


def _held(row: SetRadiusRow) -> dict[str, Any]:
    """The accuracies whose difference `beyond` is: balanced ones where it is of them."""
    if not (row.beyond.score == "balanced accuracy" and row.balanced and row.leakage_balanced):
        return {}
    return {"clean": row.balanced.model_dump(mode="json"), "leakage": row.leakage_balanced.model_dump(mode="json")}


def over_seeds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each network, set and radius: over seeds the mean with Student's interval; without, its own."""
    found: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["network"], row["of"], row["eps"]), []).append(row)
    merged = []
    for (network, of, eps), same in found.items():
        line: dict[str, Any] = {"network": network, "of": of, "eps": eps, "seeds": len(same), "n": same[0]["n"]}
        for name in ("clean", "leakage", "beyond"):
            mean = nb.measure.over_seeds([row[name]["value"] for row in same])
            known = {end: same[0][name][end] for end in ("low", "high")}
            if mean.low is not None and mean.high is not None:
                lowest = -1.0 if name == "beyond" else 0.0
                known = {"low": max(lowest, mean.low), "high": min(1.0, mean.high)}
            line[name] = {"value": mean.mean} | known
        merged.append(line)
    return sorted(merged, key=lambda line: (line["of"], _in_order(line["network"]), line["eps"]))


def _in_order(network: str) -> tuple[str, int]:
    """By architecture, then by width as a number."""
    name, _, width = network.partition(" of width ")
    return name, int(width or 0)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each network, set and radius."""
    lines = ["| set | network | radius | seeds | the set | its control | beyond |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        shares = " | ".join(cell(row[name]) for name in ("clean", "leakage", "beyond"))
        lines.append(f"| {row['of']} | {row['network']} | {row['eps']:g} | {row['seeds']} | {shares} |")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], norm: str, picture: Path) -> None:
    """A panel for each set: points beyond the control against the radius, a line for each network."""
    import altair as alt

    points = [
        {name: row[name] for name in ("network", "of", "eps")}
        | {end: 100 * row["beyond"][end] for end in ("value", "low", "high")}
        for row in rows
    ]
    networks = sorted({row["network"] for row in rows}, key=_in_order)
    base = alt.Chart().encode(
        x=alt.X("eps:Q", title=f"{norm} radius, pixel units")
        .scale(zero=True)
        .axis(values=sorted({row["eps"] for row in rows}), format=".2~f", grid=False),
        color=alt.Color("network:N", title="network", sort=networks).scale(range=["#0072b2", "#d55e00", "#009e73"]),
        strokeDash=alt.StrokeDash("network:N", legend=None),
    )
    bars = base.mark_rule().encode(y="low:Q", y2="high:Q", strokeDash=alt.value([1, 0]))
    line = base.mark_line(point=True).encode(y=alt.Y("value:Q", title="points beyond the control"))
    none = alt.Chart().mark_rule(color="#888888").encode(y=alt.datum(0))
    sets = list(dict.fromkeys(row["of"] for row in rows))
    chart = (
        alt.layer(none, bars, line, data=alt.Data(values=points))
        .properties(width=190, height=190)
        .facet(facet=alt.Facet("of:N", sort=sets, title=None), columns=3)
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    chart.configure(background="#ffffff", font="sans-serif").save(picture)


def main(given: list[str] | None = None) -> None:
    """Read, compare, write, draw."""
    told = options("controls", __doc__, given)
    studies = [read_results(folder) for folder in told.studies]
    check_alike(studies, ASKED)
    check_different(studies, "network", network_of)
    single = [row for study in studies for row in measured(study)]
    rows = over_seeds(single)
    print(table(rows))
    if told.json:
        about = [
            {
                "recipe": one.recipe,
                "data": one.data["name"],
                "versions": one.versions,
                "fingerprint": one.data["fingerprint"],
            }
            for one in (study.study for study in studies)
        ]
        write_json(told.json, {"studies": about, "of_each_seed": single, "rows": rows})
    if told.picture:
        draw(rows, single[0]["norm"], told.picture)


if __name__ == "__main__":
    main()
