"""What a recipe is expected to give, compared with what a run gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from notbugs.formats import between
from notbugs.study.recipe import Expected, Recipe
from notbugs.study.results import AgainstExpected, Expectations, Row


def against_expected(recipe: Recipe, data: str, rows: Sequence[Row]) -> Expectations | None:
    """The recipe's expectations beside the accuracies of a run; None where it states none.

    Parameters
    ----------
    recipe : Recipe
        As resolved. Where it departs from its file in what changes the numbers, nothing is compared.
    data : str
        Name of the data set of the run.
    rows : sequence of Row
        Every accuracy.
    """
    if not recipe.expected:
        return None
    departures = [*recipe.departures, *(["data"] if recipe.expected_data not in ("", data) else [])]
    found = {_kind(row): row for row in rows}
    compared = []
    for item in () if departures else recipe.expected:
        name = item.attack if item.radius else ""
        compared.append(_against(item, found[item.classifier, name, item.radius]))
    return Expectations(time=recipe.expected_time, departures=departures, compared=compared)


def expected_lines(found: Expectations) -> Iterator[str]:
    """What a terminal says: how many accuracies are as expected, and every one that is not."""
    if found.departures:
        yield f"What the recipe expects does not apply here: other {', '.join(found.departures)}."
        return
    counts = Counter(item.verdict for item in found.compared)
    yield (
        f"Of {len(found.compared)} accuracies that the recipe expects, {counts['inside']} are inside their range, "
        f"{counts['overlaps']} reach into it with their interval, {counts['outside']} are outside."
    )
    for item in found.compared:
        if item.verdict == "outside":
            attack = f"at radius {item.radius:g} by {item.attack}" if item.radius else "clean"
            yield (
                f"Outside: {item.classifier} {attack} {item.found}, expected {between(item.low, item.high)}% "
                f"({item.source})."
            )


def _kind(row: Row) -> tuple[str, str, float]:
    return (row.classifier, row.attack.name, row.attack.eps) if row.attack else (row.classifier, "", 0.0)


def _against(asked: Expected, row: Row) -> AgainstExpected:
    return AgainstExpected(
        **asked.model_dump(),
        found=row.share,
        verdict=_verdict(asked, row),
    )


def _verdict(asked: Expected, row: Row) -> Literal["inside", "overlaps", "outside"]:
    if asked.low <= row.accuracy <= asked.high:
        return "inside"
    return "overlaps" if row.low <= asked.high and asked.low <= row.high else "outside"
