"""The answer of a run in three sentences, one for each thing that the paper claims; they follow from the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from notbugs.measure import Difference
from notbugs.report.claims import Order, Verdict, against, at, beside_chance, compare, judge, paired, worst
from notbugs.report.lineup import Lineup
from notbugs.report.wording import percent, quoted
from notbugs.study.instruments.controls import ControlRow
from notbugs.study.results import Measured, Row

ENDINGS: dict[Verdict, str] = {
    "agrees": "agrees with the paper",
    "partly": "agrees with the paper only in part: a control without adversarial features teaches most of it",
    "open": "neither confirms nor contradicts the paper",
    "disagrees": "disagrees with the paper",
}
MORE: dict[Order, str] = {
    "higher": "is more robust than",
    "lower": "is less robust than",
    "unclear": "is not told apart in robustness from",
}


@dataclass(frozen=True)
class Sentence:
    """A sentence without its end, and how it stands to the paper, which is its end."""

    text: str
    verdict: Verdict

    @property
    def ending(self) -> str:
        """The last words: `agrees with the paper`."""
        return ENDINGS[self.verdict]


def answer(lineup: Lineup, measured: Measured, classes: int) -> list[Sentence]:
    """Three sentences on a run on `classes` classes; none where it measured nothing that they speak of.

    Parameters
    ----------
    lineup : Lineup
        The accuracies.
    measured : Measured
        What instruments found: where relabelled sets have leakage controls, the third sentence is about these.
    classes : int
        At least 1.
    """
    found = (
        (_robust(lineup), "standard training on D_R and on D under one attack"),
        (_non_robust(lineup, 1 / classes), "standard training on D_NR"),
        (_relabelled(lineup, measured, 1 / classes), "training on relabelled images"),
    )
    if not any(sentence for sentence, _ in found):
        return []
    return [sentence or Sentence(f"This run did not measure {what}, which", "open") for sentence, what in found]


def _robust(lineup: Lineup) -> Sentence | None:
    pairs = paired(lineup, lineup.get("D_R"), lineup.get("D"))
    if not pairs:
        return None
    radius, (ours, base) = next(iter(pairs.items()))
    order = compare(ours, base)
    text = (
        f"Standard training on D_R {MORE[order]} on D: at {at(lineup, radius)} its robust accuracy is {quoted(ours)}, "
        f"against {quoted(base)}{_overlap(order)}, which"
    )
    return Sentence(text, judge([order], wanted="higher"))


def _non_robust(lineup: Lineup, chance: float) -> Sentence | None:
    ours, other = lineup.get("D_NR"), lineup.get("D_R")
    if not ours or not ours.clean:
        return None
    order = against(chance, ours.clean)
    verdicts = [judge([order], wanted="higher")]
    text = f"D_NR alone teaches a clean accuracy of {quoted(ours.clean)}, {beside_chance(order, chance)}"
    pairs = paired(lineup, ours, other)
    if pairs:
        radius, (a, b) = next(iter(pairs.items()))
        order = compare(a, b)
        verdicts.append(judge([order], wanted="lower"))
        text += f", and {MORE[order]} D_R: {quoted(a)} against {quoted(b)} at {at(lineup, radius)}{_overlap(order)}"
    return Sentence(f"{text}, which", worst(verdicts))


def _relabelled(lineup: Lineup, measured: Measured, chance: float) -> Sentence | None:
    """D_rand beside its leakage control where there is one, and the sets in which no label is right beside chance.

    It agrees only in part where a control reaches more than half of what its set teaches above chance.
    """
    clean = {name: row for name in ("D_rand", "D_rand_other", "D_det") if (row := _clean(lineup, name))}
    if not clean:
        return None
    controls = {name: row for name, row in _controls(measured).items() if name in clean and row.beyond}
    orders = {name: against(chance, row) for name, row in clean.items()}
    verdicts = [judge([order], wanted="higher") for name, order in orders.items() if name != "D_rand"]
    verdicts += [_judged(clean[name], row, chance) for name, row in controls.items()]
    levels = {name: beside_chance(order, chance) for name, order in orders.items()}
    levels |= {name: _beyond(row) for name, row in controls.items()}
    parts = [f"{name} teaches {quoted(row)}, {levels[name]}" for name, row in clean.items()]
    text = f"On untouched images, {'; '.join(parts)}; this"
    return Sentence(text, worst(verdicts) if verdicts else "open")


def _clean(lineup: Lineup, name: str) -> Row | None:
    member = lineup.get(name)
    return member.clean if member else None


def _controls(measured: Measured) -> dict[str, ControlRow]:
    rows = measured.controls.rows if measured.controls else []
    return {row.of: row for row in rows if row.of and row.variant == "leakage"}


def _judged(ours: Row, control: ControlRow, chance: float) -> Verdict:
    verdict = judge([_sign(control.beyond)], wanted="higher")
    explained = control.clean.value - chance > (ours.accuracy - chance) / 2
    return "partly" if verdict == "agrees" and explained else verdict


def _sign(difference: Difference | None) -> Order:
    if difference is None:
        return "unclear"
    if difference.low > 0:
        return "higher"
    return "lower" if difference.high < 0 else "unclear"


def _beyond(control: ControlRow) -> str:
    """In points, beside what the control teaches, which has no adversarial feature."""
    difference = control.beyond
    assert difference  # of every control
    low, high = percent(difference.low), percent(difference.high)
    said = f"{percent(difference.value)} points ({low} to {high}) beyond its leakage control's {quoted(control.clean)}"
    return f"which cannot be told from its leakage control: {said}" if _sign(difference) == "unclear" else said


def _overlap(order: Order) -> str:
    return ", intervals that overlap" if order == "unclear" else ""
