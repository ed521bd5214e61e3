"""What a comparison found, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from notbugs import formats
from notbugs.formats import percent, signed
from notbugs.measure import OverSeeds
from notbugs.study.compared import Comparison, Contrast, Of, SeedGroup, StudyPair

ALPHA = 0.05
NAMED = 4
"""Differences, or settings, that a sentence names."""
MOST_PAIRS = 10
"""Pairs of studies that are listed; of more, only those with the first study."""


def label(of: Of) -> str:
    """What a classifier is called: by the set it was trained on, and how."""
    if of.classifier == "independent":
        return "D, independent"
    return f"D, {of.training}" if of.train_set == "D" else of.train_set


def numbered(found: Comparison, places: Sequence[int]) -> str:
    """Studies by their numbers, one of them with its name: `1 (seed-0)`, `1, 2, 4`, `1 to 3`."""
    if len(places) == 1:
        return f"{places[0] + 1}\u00a0({found.studies[places[0]].label})"
    return numbers(places)


def numbers(places: Sequence[int]) -> str:
    """Places as numbers from 1: `1, 2, 4`, and three or more in a row as `1 to 3`."""
    if len(places) > 2 and list(places) == list(range(places[0], places[-1] + 1)):
        return f"{places[0] + 1} to {places[-1] + 1}"
    return ", ".join(str(place + 1) for place in places)


def unders(rows: Iterable[Of]) -> list[str]:
    """What the rows were measured under: clean first, then by norm and radius."""
    return [under for _, _, under in sorted({(row.norm or "", row.eps, row.under) for row in rows})]


def middle(rows: Iterable[Of]) -> str | None:
    """The middle one of the radii; None where there is none."""
    radii = unders(row for row in rows if row.norm)
    return radii[(len(radii) - 1) // 2] if radii else None


def listed_pairs(found: Comparison) -> list[StudyPair]:
    """The pairs that the page has room for."""
    return found.pairs if len(found.pairs) <= MOST_PAIRS else [pair for pair in found.pairs if pair.first == 0]


def findings(found: Comparison) -> Iterator[str]:
    """What differs; a sentence or two for every group of seeds, for every two groups, and for the pairs of studies."""
    yield _differ([setting.name for setting in found.settings if setting.part == "recipe"])
    for group in found.groups:
        yield _over_seeds(found, group)
    for contrast in found.contrasts:
        yield _contrast(found, contrast)
    yield from _pairs(found, listed_pairs(found))


def between(over: OverSeeds) -> str:
    """The interval of a mean over two seeds or more, in per cent: `88.5 to 91.5`."""
    assert over.low is not None
    assert over.high is not None
    return formats.between(over.low, over.high)


def _differ(names: list[str]) -> str:
    if len(names) <= 1:
        return f"The recipes differ in {names[0]} alone." if names else "The recipes are the same."
    more = f" and {len(names) - NAMED} more settings" if len(names) > NAMED else ""
    return f"The recipes differ in {', '.join(names[:NAMED])}{more}."


def _over_seeds(found: Comparison, group: SeedGroup) -> str:
    """The numbers that the paper's claims are about, and the largest spread."""
    rows = {(row.classifier, row.under): row for row in group.rows}
    said = []
    for name in ("standard", "robust", "D_R", "D_NR", "D_det"):
        measured = [row for under in ("clean", middle(group.rows) or "") if (row := rows.get((name, under)))]
        means = [f"{percent(row.over.mean)} ({between(row.over)}) {_at(row)}" for row in measured]
        said += [f"{label(measured[0])}: {' and '.join(means)}"] if means else []
    largest = max(group.rows, key=lambda row: row.over.deviation or 0)
    return (
        f"Studies {numbered(found, group.studies)}, one recipe with {len(group.seeds)} seeds; mean accuracy in per "
        f"cent, with its 95\u00a0% t interval. {'; '.join(said)}. The largest standard deviation over seeds is "
        f"{100 * (largest.over.deviation or 0):.1f} points, of {label(largest)}, {largest.under}."
    )


def _at(row: Of) -> str:
    return f"at {row.under}" if row.norm else row.under


def _contrast(found: Comparison, contrast: Contrast) -> str:
    first, second = (numbered(found, found.groups[place].studies) for place in (contrast.first, contrast.second))
    apart = [
        (abs(row.difference.difference), f"{label(row)}, {row.under} ({signed(row.difference.difference)} points)")
        for row in contrast.rows
        if row.difference.low > 0 or row.difference.high < 0
    ]
    counted = f"{len(apart)} of {len(contrast.rows)} means over seeds differ by an interval that leaves out 0"
    return f"Studies {first} against {second}: {counted}{_named(apart)}."


def _pairs(found: Comparison, pairs: Sequence[StudyPair]) -> Iterator[str]:
    """One sentence for each pair that differs, one for all that do not, one for each reason against a test."""
    tests = sum(len(pair.rows) for pair in found.pairs)
    adjusted = f"p below {ALPHA:g}, adjusted for all {tests} tests"
    same, untested = [], dict[tuple[str, str], list[str]]()
    for pair in pairs:
        names = f"{numbered(found, [pair.first])} and {numbered(found, [pair.second])}"
        apart = [
            (abs(row.test.difference), f"{label(row)}, {row.under} ({signed(row.test.difference)} points)")
            for row in pair.rows
            if row.adjusted < ALPHA
        ]
        if apart:
            yield f"Studies {names}: {len(apart)} of {len(pair.rows)} accuracies differ, {adjusted}{_named(apart)}."
        elif pair.rows:
            same.append(names)
        for why in pair.untested:
            untested.setdefault(("Some accuracies" if pair.rows else "The accuracies", why), []).append(names)
    if same:
        yield f"No difference can be claimed between studies {'; '.join(same)}: no test has {adjusted}."
    for (which, why), names in untested.items():
        yield f"{which} of studies {'; '.join(names)} cannot be tested in pairs: {why}."


def _named(apart: list[tuple[float, str]]) -> str:
    """The largest of them."""
    if not apart:
        return ""
    named = [text for _, text in sorted(apart, key=lambda item: -item[0])[:NAMED]]
    return f"{': ' if len(apart) <= NAMED else '; the largest: '}{', '.join(named)}"
