"""What a run found, in sentences that claim only what the intervals allow.

Two accuracies differ where their 95 % intervals do not overlap, and an accuracy differs from chance where its interval
does not contain it. Everything else is called what it is: a difference that cannot be claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from notbugs.report.lineup import Lineup, Member
from notbugs.report.wording import NORMS, quoted
from notbugs.study.results import Proportion, Row, SetProperties

Order = Literal["higher", "lower", "unclear"]
Verdict = Literal["agrees", "partly", "open", "disagrees"]

VERDICTS: dict[Verdict, str] = {
    "agrees": "This agrees with the paper.",
    "partly": "This agrees with the paper only in part.",
    "open": "This neither confirms nor contradicts the paper.",
    "disagrees": "This disagrees with the paper.",
}


@dataclass(frozen=True)
class Claim:
    """One finding: what it is about, what was measured, how it stands to the paper, and what qualifies it."""

    about: str
    text: str
    verdict: Verdict
    more: str = ""

    @property
    def conclusion(self) -> str:
        """The sentence that compares the finding with the paper."""
        return VERDICTS[self.verdict]


def compare(a: Row | Proportion, b: Row | Proportion) -> Order:
    """Whether `a` is higher or lower than `b`: unclear where their intervals overlap or touch."""
    if a.low > b.high:
        return "higher"
    return "lower" if a.high < b.low else "unclear"


def against(chance: float, measured: Row | Proportion) -> Order:
    """Whether `measured` is higher or lower than `chance`: unclear where its interval contains it."""
    if measured.low > chance:
        return "higher"
    return "lower" if measured.high < chance else "unclear"


def findings(lineup: Lineup, sets: list[SetProperties], classes: int) -> list[Claim]:
    """The findings of a run on `classes` classes; one that lacks its numbers is left out."""
    claims = (
        robust_features(lineup),
        non_robust_features(lineup, 1 / classes),
        relabelled_images(lineup, sets, 1 / classes),
    )
    return [claim for claim in claims if claim]


def robust_features(lineup: Lineup) -> Claim | None:
    """Whether standard training is more robust on D_R than on D."""
    ours, base = lineup.get("D_R"), lineup.get("D")
    pairs = paired(lineup, ours, base)
    if not ours or not pairs:
        return None
    main, (a, b) = next(iter(pairs.items()))
    order = compare(a, b)
    text = (
        f"At {at(lineup, main)}, standard training on D_R reaches a robust accuracy of {quoted(a)}, and standard "
        f"training on D {quoted(b)}: {_difference('D_R', order)}."
    )
    if ours.clean:
        text += f" The clean accuracy of D_R is {quoted(ours.clean)}."
    return Claim("Robust features", text, judge([order], wanted="higher"), _elsewhere(lineup, pairs, "D_R", "D"))


def non_robust_features(lineup: Lineup, chance: float) -> Claim | None:
    """Whether D_NR alone teaches a classifier that is accurate, and less robust than that of D_R."""
    ours, other = lineup.get("D_NR"), lineup.get("D_R")
    if not ours or not ours.clean:
        return None
    order = against(chance, ours.clean)
    verdicts = [judge([order], wanted="higher")]
    text = f"Standard training on D_NR gives a clean accuracy of {quoted(ours.clean)}, {beside_chance(order, chance)}"
    pairs = paired(lineup, ours, other)
    if pairs:
        radius, (a, b) = next(iter(pairs.items()))
        order = compare(a, b)
        verdicts.append(judge([order], wanted="lower"))
        text += (
            f"; at {at(lineup, radius)} its robust accuracy is {quoted(a)}, and that of D_R {quoted(b)}: "
            f"{_difference('D_NR', order)}"
        )
    return Claim("Non-robust features", f"{text}.", worst(verdicts), _elsewhere(lineup, pairs, "D_NR", "D_R"))


def relabelled_images(lineup: Lineup, sets: list[SetProperties], chance: float) -> Claim | None:
    """Whether images labelled with the class they were pushed to teach more than chance."""
    names = ("D_rand_other", "D_det", "D_rand")
    clean = {name: member.clean for name in names if (member := lineup.get(name)) and member.clean}
    if not clean:
        return None
    orders = {name: against(chance, row) for name, row in clean.items()}
    parts = [f"{name} {quoted(row)}, {beside_chance(orders[name], chance)}" for name, row in clean.items()]
    text = f"Clean accuracy after training on relabelled images: {'; '.join(parts)}."
    strict = [order for name, order in orders.items() if name != "D_rand"]
    verdict = judge(strict, wanted="higher") if strict else "open"
    notes = []
    if "D_rand" in clean:
        notes.append(_kept_note(sets, chance))
    if "lower" in strict:
        notes.append(
            "A result below chance means that the classifier learned more from what the image showed before it was "
            "moved, for which the new label is never right, than from the perturbation."
        )
    return Claim("Relabelled images", text, verdict, " ".join(notes))


def paired(lineup: Lineup, ours: Member | None, other: Member | None) -> dict[float, tuple[Row, Row]]:
    """Robust accuracies of both at every radius that both were measured at, the main one first."""
    if not ours or not other:
        return {}
    radii = sorted(ours.robust.keys() & other.robust, key=lambda radius: (radius != lineup.radius, radius))
    return {radius: (ours.robust[radius], other.robust[radius]) for radius in radii}


def beside_chance(order: Order, chance: float) -> str:
    """How an accuracy that is of `order` stands to `chance`, a share: `above chance (10\u00a0%)`."""
    level = f"chance ({100 * chance:.3g}\u00a0%)"
    if order == "unclear":
        return f"which cannot be told from {level}"
    return f"{'above' if order == 'higher' else 'below'} {level}"


def at(lineup: Lineup, radius: float) -> str:
    """A radius in a sentence: `l2 radius 0.25`."""
    return f"{NORMS.get(lineup.norm or '', '')} radius {radius:g}"


def judge(orders: list[Order], *, wanted: Order) -> Verdict:
    """Agrees if every order is as `wanted`, disagrees if one is against it, and open otherwise."""
    if all(order == wanted for order in orders):
        return "agrees"
    return "open" if all(order in (wanted, "unclear") for order in orders) else "disagrees"


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict on all of several: one that disagrees decides, then one that is open, then one in part."""
    return max(verdicts, key=list(VERDICTS).index)


def _difference(name: str, order: Order) -> str:
    if order == "unclear":
        return "the intervals overlap, so no difference can be claimed"
    return f"{name} gives the {order} robust accuracy"


def _elsewhere(lineup: Lineup, pairs: dict[float, tuple[Row, Row]], ours: str, other: str) -> str:
    """The radii at which the answer is not that of the main one."""
    orders = {radius: compare(a, b) for radius, (a, b) in pairs.items()}
    main = next(iter(orders.values()), None)
    return " ".join(
        f"At {at(lineup, radius)} the answer differs: {_difference(ours, order)}, with {quoted(pairs[radius][0])} "
        f"against {quoted(pairs[radius][1])} for {other}."
        for radius, order in orders.items()
        if order != main
    )


def _kept_note(sets: list[SetProperties], chance: float) -> str:
    found = next((s for s in sets if s.name == "D_rand"), None)
    kept = quoted(found.kept_label) if found else f"about {100 * chance:.3g} %"
    return (
        f"D_rand draws its targets from all classes: {kept} of its images keep their label, and these can teach the "
        "right answer without any perturbation, so D_rand alone is weak evidence."
    )
