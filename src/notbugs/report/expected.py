"""What the recipe said it gives, beside what the run gave."""

from __future__ import annotations

from notbugs.content import Section, Table
from notbugs.formats import duration, percent
from notbugs.study.results import AgainstExpected, Results

VERDICTS = {"inside": "inside", "overlaps": "interval overlaps", "outside": "outside"}


def expected_section(results: Results) -> Section | None:
    """Every accuracy that the recipe expects, inside or outside; None where it expects nothing."""
    if not (found := results.expected):
        return None
    text = "A recipe that comes with notbugs says what it gives and where that was seen. "
    if found.departures:
        text += f"Nothing is compared here, for this run has other settings: {', '.join(found.departures)}."
    else:
        text += (
            "A range is about where another seed and machine should be; an accuracy outside it whose 95 % interval "
            "reaches into it is marked as such."
        )
    took = f"The stages of this run took {duration(sum(stage.seconds for stage in results.study.stages))}."
    reading = [f"The recipe expects {found.time}. {took}"] if found.time else []
    tables = [_table(found.compared)] if found.compared else []
    return Section("expected", "As expected?", "Expected", text, reading, tables=tables)


def _table(compared: list[AgainstExpected]) -> Table:
    columns = ("classifier", "radius", "expected (%)", "this run (%)", "verdict", "source")
    rows = [
        (
            item.classifier,
            item.radius or "clean",
            f"{percent(item.low)}–{percent(item.high)}",
            item.found,
            VERDICTS[item.verdict],
            item.source,
        )
        for item in compared
    ]
    return Table("Accuracies in per cent that the recipe expects, and those of this run", columns, rows)
