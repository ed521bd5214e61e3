"""What is learned from a constructed set against the learning rate, for every architecture."""

from __future__ import annotations

import altair as alt
from markupsafe import Markup

from notbugs.content import Figure, Section, Table
from notbugs.formats import percent
from notbugs.report.charts import INK, SERIES, Style, legend, percent_axis, to_svg
from notbugs.report.wording import quoted
from notbugs.study.jobs.tune import Point, Tuned

STYLES: tuple[Style, ...] = tuple(SERIES.values())
WIDTHS = (520, 250)


def tune_section(found: Tuned) -> Section:
    """Every point, with the one that the held-out split chooses."""
    kept, out = percent(1 - found.share), percent(found.share)
    return Section(
        name="tune",
        title=f"What {found.study} learns from its sets, by learning rate and architecture",
        short="Tuning",
        text=f"Classifiers are trained on {kept}\u00a0% of each set; the other {out}\u00a0%, which carry the set’s "
        f"own labels, choose the settings. Accuracy on the {found.test_set} images of {found.data}, with their true "
        f"labels, is shown for every point and chooses nothing. Seed {found.seed}; all classifiers start from the same "
        "draw and see the images in the same order.",
        reading=[sentence for name in found.sets for sentence in _reading(found, name)],
        figures=[
            Figure(
                f"Test accuracy after training on {name}, against the largest learning rate; lines are architectures, "
                "bands 95\u00a0% Wilson intervals over images. The ring: the point that the held-out split chooses.",
                [against_rate(found, name, width=width) for width in WIDTHS],
            )
            for name in found.sets
            if found.best(name)
        ],
        tables=[_table(found, name) for name in found.sets],
    )


def against_rate(found: Tuned, name: str, *, width: int, height: int = 260) -> Markup:
    """Lines of test accuracy against learning rate, one for each architecture and number of epochs."""
    chosen = found.chosen(name)
    rows = [
        {
            "series": _series(found, at),
            "lr": at.lr,
            "accuracy": 100 * at.test.value,
            "low": 100 * at.test.low,
            "high": 100 * at.test.high,
            "chosen": at is chosen,
        }
        for at in found.of(name)
        if at.test
    ]
    labels = list(dict.fromkeys(row["series"] for row in rows))
    styles = [STYLES[number % len(STYLES)] for number, _ in enumerate(labels)]
    rates = sorted({row["lr"] for row in rows})
    scale = alt.Scale(type="log", domain=[rates[0] / 1.15, rates[-1] * 1.15], nice=False)
    x = alt.X("lr:Q", title="largest learning rate", scale=scale).axis(
        values=rates, labelExpr="toString(datum.value)", grid=False, labelOverlap="greedy"
    )
    key = legend(0, symbolOpacity=1)  # long names, one below the other; not the band's opacity
    colour = alt.Color("series:N", scale=alt.Scale(domain=labels, range=[style[1] for style in styles]), legend=key)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=labels, range=[style[2] for style in styles]), legend=key)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.16).encode(y=percent_axis("test accuracy (%)", field="low", top=101), y2="high:Q")
    line = base.mark_line(strokeWidth=2).encode(y="accuracy:Q")
    points = base.mark_point(filled=True, size=55, opacity=1).encode(y="accuracy:Q", shape=shape)
    ring = base.transform_filter("datum.chosen").mark_point(size=260, shape="circle", strokeWidth=2, opacity=1)
    chart = alt.layer(band, line, points, ring.encode(y="accuracy:Q", color=alt.value(INK)))
    spoken = "; ".join(f"{row['series']} at {row['lr']:g}: {row['accuracy']:.1f}" for row in rows)
    text = f"Lines of test accuracy in per cent against learning rate, trained on {name}. {spoken}. Chosen: {chosen}."
    return to_svg(chart.properties(width=width, height=height), text, room=width + 90)


def _series(found: Tuned, at: Point) -> str:
    several = len({point.epochs for point in found.points}) > 1
    return f"{at.architecture}, {at.epochs} epochs" if several else at.architecture


def _reading(found: Tuned, name: str) -> list[str]:
    chosen, best = found.chosen(name), found.best(name)
    tests = [at.test for at in found.of(name) if at.test]
    if not (chosen and best and chosen.test and chosen.heldout and best.test):
        return [f"On {name}, every training run diverged."]
    low, high = min(test.value for test in tests), best.test.value
    sentences = [
        f"On {name}, test accuracy runs from {percent(low)} to {percent(high)}\u00a0% over {len(tests)} settings.",
        f"What is held out of {name} chooses {chosen}: {quoted(chosen.heldout)} held out, {quoted(chosen.test)} on the "
        "test images.",
    ]
    level = [at for at in found.of(name) if at is not chosen and at.heldout and at.heldout.high >= chosen.heldout.low]
    if level:
        tests = sorted(at.test.value for at in level if at.test)
        sentences.append(
            f"Settings whose held-out intervals overlap with its: {len(level)}, with {percent(tests[0])} to "
            f"{percent(tests[-1])}\u00a0% on the test images; what is held out cannot tell them apart."
        )
    if best is not chosen:
        apart = "" if best.test.low > chosen.test.high else "; the two intervals overlap"
        sentences.append(f"Most accurate on the test images, which choose nothing: {best}, {quoted(best.test)}{apart}.")
    return sentences


def _table(found: Tuned, name: str) -> Table:
    columns = ("architecture", "epochs", "learning rate", "held out", "test", "chosen", "seconds")
    chosen = found.chosen(name)
    rows = [
        [
            at.architecture,
            at.epochs,
            at.lr,
            at.heldout or "diverged",
            at.test or "diverged",
            "yes" if at is chosen else "",
            at.seconds,
        ]
        for at in found.of(name)
    ]
    return Table(f"Trained on {name}: accuracies in per cent with 95\u00a0% intervals", columns, rows)
