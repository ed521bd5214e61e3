"""`python -m benchmarks.jpeg STUDY ...`: what JPEG does to non-robust features, from finished studies.

Each study is of the same recipe, on images as they are or through JPEG (`--jpeg.quality 75 --jpeg.chroma 4:2:0`), from
one seed or several. No model is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import notbugs as nb
from benchmarks.alike import cell, check_alike, check_different, options
from notbugs.files import write_json
from notbugs.measure import Proportion
from notbugs.study import Results, read_results

LOSSLESS = "none"
CLASSIFIERS = ("standard", "robust", "D_rand", "D_rand_other", "D_det", "D_NR", "D_R")


def measured(results: Results) -> list[dict[str, Any]]:
    """A row for each number of one study: which images, whose number, under what, the share and its interval."""
    settings = results.study.recipe
    jpeg = settings.get("jpeg") or {}
    about = {"quality": str(jpeg.get("quality", LOSSLESS)), "chroma": jpeg.get("chroma", ""), "seed": settings["seed"]}
    attack = settings["evaluation"]["attack"]["name"]
    rows: list[dict[str, Any]] = []
    for row in results.rows:  # the attack that counts comes first; the paper's protocol, beside it, may be the same
        if row.classifier in CLASSIFIERS and (row.attack is None or row.attack.name == attack):
            under = f"{row.attack.norm} {row.attack.eps:g}" if row.attack else "clean"
            rows.append(about | {"of": row.classifier, "under": under} | _share(row.share))
            if row.balanced:
                rows.append(about | {"of": row.classifier, "under": f"{under}, balanced"} | _share(row.balanced))
    for made in results.sets:
        if made.kind == "relabelled" and made.success_source_changed and made.settings["threat"]["eps"]:
            threat = made.settings["threat"]
            under = f"success, {threat['norm']} {threat['eps']:g}"
            rows.append(about | {"of": made.name, "under": under} | _share(made.success_source_changed))
    first = {(row["of"], row["under"]): row for row in reversed(rows)}
    return [row for row in rows if row is first[row["of"], row["under"]]]


def _share(share: Proportion) -> dict[str, Any]:
    return {"value": share.value, "low": share.low, "high": share.high, "n": share.n}


def over_seeds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each number of each kind of images: of several seeds the mean, with Student's interval if any."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["quality"], row["chroma"], row["of"], row["under"]), []).append(row)
    merged = []
    for same in found.values():
        first = {name: same[0][name] for name in ("quality", "chroma", "of", "under", "n")}
        ends = {name: same[0][name] for name in ("value", "low", "high")}
        mean = nb.measure.over_seeds([row["value"] for row in same])
        if mean.low is not None and mean.high is not None:
            ends = {"value": mean.mean, "low": max(0.0, mean.low), "high": min(1.0, mean.high)}
        merged.append(first | ends | {"seeds": [row["seed"] for row in same]})
    return merged


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each number, a column for each kind of images."""
    kinds = sorted({(row["quality"], row["chroma"]) for row in rows}, key=_order)
    cells = {(row["of"], row["under"], row["quality"], row["chroma"]): row for row in rows}
    lines = [
        "| | " + " | ".join(f"{quality} {chroma}".strip() for quality, chroma in kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    for of, under in dict.fromkeys((row["of"], row["under"]) for row in rows):
        found = [cells.get((of, under, *kind)) for kind in kinds]
        lines.append(f"| {of}, {under} | " + " | ".join(cell(row) if row else "" for row in found) + " |")
    return "\n".join(lines)


def _order(kind: tuple[str, str]) -> tuple[int, str]:
    return (-1000, "") if kind[0] == LOSSLESS else (-int(kind[0]), kind[1])


def _is_asked(of: str, under: str) -> bool:
    """Clean accuracies and success of all, and under attack those that are more than nothing."""
    return under == "clean" or under.startswith("success") or (of in ("standard", "D_R") and "," not in under)


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """A panel for each number that the question asks for, per cent against quality, a line for each chroma."""
    import altair as alt

    shown = [row for row in rows if row["of"] != "robust" and _is_asked(row["of"], row["under"])]
    chromas = sorted({row["chroma"] for row in rows} - {""}) or [""]
    points = [  # images as they are begin both lines
        {"panel": f"{row['of']}, {row['under']}", "quality": row["quality"], "chroma": chroma or "none"}
        | {end: 100 * row[end] for end in ("value", "low", "high")}
        for row in shown
        for chroma in ([row["chroma"]] if row["chroma"] else chromas)
    ]
    qualities = [quality for quality, _ in sorted({(row["quality"], "") for row in rows}, key=_order)]
    base = alt.Chart(alt.Data(values=points), width=150, height=110).encode(
        x=alt.X("quality:N", sort=qualities, title="JPEG quality").axis(labelAngle=0),
        color=alt.Color("chroma:N", title="chroma").scale(range=["#0072b2", "#d55e00"]),
        strokeDash=alt.StrokeDash("chroma:N", legend=None),
    )
    y = alt.Y("value:Q", title="per cent").scale(domain=[0, 100])
    bars = base.mark_rule().encode(y=alt.Y("low:Q").scale(domain=[0, 100]), y2="high:Q", strokeDash=alt.value([1, 0]))
    panels = list(dict.fromkeys(point["panel"] for point in points))
    both = alt.layer(bars, base.mark_line(point=True).encode(y=y))
    chart = both.facet(facet=alt.Facet("panel:N", sort=panels, title=None), columns=4)
    picture.parent.mkdir(parents=True, exist_ok=True)
    chart.configure(background="#ffffff", font="sans-serif").save(picture)


def main(given: list[str] | None = None) -> None:
    """Read, compare, write, draw."""
    told = options("jpeg", __doc__, given)
    studies = [read_results(folder) for folder in told.studies]
    check_alike(studies, ("jpeg", "instruments", "judge"))  # what is measured besides changes no accuracy
    check_different(studies, "images", lambda study: study.study.data["fingerprint"])
    single = [row for study in studies for row in measured(study)]
    rows = over_seeds(single)
    print(table(rows))
    if told.json:
        first = studies[0].study
        about = {"recipe": first.recipe, "data": first.data["name"], "versions": first.versions}
        images = {
            f"{one.data['variant']}, seed {one.seeds[0]}": one.data["fingerprint"] for one in (s.study for s in studies)
        }
        write_json(told.json, about | {"fingerprints": images, "of_each_seed": single, "rows": rows})
    if told.picture:
        draw(rows, told.picture)


if __name__ == "__main__":
    main()
