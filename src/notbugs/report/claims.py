"""What a run found of each thing that the paper claims, in sentences that claim only what the intervals allow.

Two accuracies differ where their 95 % intervals do not overlap, and an accuracy differs from chance by an exact
binomial test at 5 %; a set differs from its control where the interval of their difference leaves out 0. Everything
else is called what it is: a difference that cannot be claimed. A verdict is decided once, here; the answer at the top
of the page and the finding below it are two texts of one claim.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from notbugs.formats import NORMS, percent
from notbugs.measure import Difference, PerturbationSize, Resemblance
from notbugs.measure.likeness import By
from notbugs.measure.statistics import Order, against_chance, compare
from notbugs.report.accuracies import Member, StudyAccuracies, quoted
from notbugs.study.instruments.controls import ControlRow, strongest
from notbugs.study.learned import unlearned
from notbugs.study.results import Measured, Proportion, Results, Row, SetProperties
from notbugs.study.sets import BY_NAME, RELABELLED

RESEMBLE = {"D_R": "target", "D_NR": "start"}
"""Whom images of matched sets look like in the paper's Figure 2a."""
BY: dict[By, str] = {
    "pixels": "in pixels",
    "ssim": "in structural similarity",
    "robust features": "in the features of a robust classifier that had no hand in them",
}

Verdict = Literal["agrees", "visibly", "partly", "some", "open", "disagrees"]

ENDINGS: dict[Verdict, str] = {
    "agrees": "agrees with the paper",
    "visibly": "agrees with the paper, but its perturbations are not small",
    "partly": "agrees with the paper only in part: a control without adversarial features teaches most of it",
    "some": "agrees with the paper for {} alone",
    "open": "neither confirms nor contradicts the paper",
    "disagrees": "disagrees with the paper",
}
"""From the best to the worst: of several verdicts the last decides."""
MORE: dict[Order, str] = {
    "higher": "is more robust than",
    "lower": "is less robust than",
    "unclear": "is as robust, as far as intervals can tell, as",
}


@dataclass(frozen=True)
class Claim:
    """One thing that the paper claims, and what this run says of it.

    Attributes
    ----------
    about : str
        Its subject.
    short : str
        The answer in a sentence without its end, which is `ending`.
    text : str
        The finding in full; empty where the run did not measure it.
    more : str
        What qualifies the finding.
    of : tuple of str
        Sets of which alone it is true, where the verdict is `some`.
    """

    about: str
    short: str
    verdict: Verdict
    text: str = ""
    more: str = ""
    of: tuple[str, ...] = ()

    @property
    def ending(self) -> str:
        """The end of `short`: `agrees with the paper`."""
        return ENDINGS[self.verdict].format(" and ".join(self.of))

    @property
    def conclusion(self) -> str:
        """The sentence that compares the finding with the paper."""
        return f"This {self.ending}."


def told(row: Row, chance: float) -> str:
    """A clean accuracy, and the balanced one where classes are so unequal that it is what chance is held against."""
    held = quoted(row.balanced or row, _digits(chance, row.balanced or row))
    return f"{quoted(row)}, balanced {held}" if row.balanced else held


def _digits(chance: float, measured: Row | Proportion) -> int:
    """The decimals with which both ends are on the same side of chance as they are unrounded, if up to three do."""
    shown = float(_percent_of(chance))
    sides = {end: _side(end, chance) for end in (measured.low, measured.high)}
    fitting = (
        digits
        for digits in (1, 2, 3)
        if all(_side(round(100 * end, digits), shown) == side for end, side in sides.items())
    )
    return next(fitting, 1)


def _side(end: float, chance: float) -> int:
    return (end > chance) - (end < chance)


def _percent_of(chance: float) -> str:
    return f"{100 * chance:.3g}"


def beyond_chance(chance: float, row: Row) -> Order:
    """Whether a classifier knows more than `chance`, one in the number of classes: of unequal classes by balanced
    accuracy, since naming the largest one is no knowledge."""
    return against_chance(row.balanced or row.share, chance)


def claims(accuracies: StudyAccuracies, results: Results, classes: int) -> list[Claim]:
    """The paper's claims, in its order; none where the run measured nothing that the first three speak of.

    The fourth, what D_R and D_NR look like, comes first where it does not agree: it qualifies the others.

    Parameters
    ----------
    accuracies : StudyAccuracies
        The accuracies of `results`.
    results : Results
        Their sets and instruments qualify what is said of relabelled images.
    classes : int
        At least 1.
    """
    chance, left = 1 / classes, unlearned(results).keys()
    measured = (
        (
            _open_if(left & {"D_R"}, robust_features(accuracies, chance)),
            "Robust features",
            "standard training on D_R and on D under one attack",
        ),
        (
            _open_if(left & {"D_R", "D_NR"}, non_robust_features(accuracies, chance)),
            "Non-robust features",
            "standard training on D_NR",
        ),
        (relabelled_images(accuracies, results, chance), "Relabelled images", "training on relabelled images"),
    )
    if not any(claim for claim, _, _ in measured):
        return []
    three = [
        claim or Claim(about, f"This run did not measure {what}, which", "open") for claim, about, what in measured
    ]
    looks = resembling(results.sets)
    if looks is None:
        return three
    return [*three, looks] if looks.verdict == "agrees" else [looks, *three]


def _open_if(unlearned: Set[str], claim: Claim | None) -> Claim | None:
    """A set that its classifier did not learn decides nothing; a caution says which."""
    return replace(claim, verdict=worst([claim.verdict, "open"])) if claim and unlearned else claim


def robust_features(accuracies: StudyAccuracies, chance: float) -> Claim | None:
    """Whether standard training is more robust on D_R than on D, and learns anything there.

    A classifier that names one class for every image is robust, too.
    """
    ours, base = accuracies.get("D_R"), accuracies.get("D")
    pairs = paired(accuracies, ours, base)
    if not ours or not pairs:
        return None
    main, (a, b) = next(iter(pairs.items()))
    order, where = compare(a, b), at(accuracies, main)
    text = (
        f"At {where}, standard training on D_R reaches a robust accuracy of {quoted(a)}, and standard training on D "
        f"{quoted(b)}: {_difference('D_R', order)}."
    )
    short = (
        f"Standard training on D_R {MORE[order]} on D: at {where} its robust accuracy is {quoted(a)}, against "
        f"{quoted(b)}{_overlap(order)}"
    )
    verdict = judge([order], wanted="higher")
    if ours.clean and (level := beyond_chance(chance, ours.clean)) == "higher":
        text += f" The clean accuracy of D_R is {told(ours.clean, chance)}."
    elif ours.clean:
        known = f"{told(ours.clean, chance)}, {beside_chance(level, chance)}"
        short += f"; but its clean accuracy is {known}"
        text += f" The clean accuracy of D_R is {known}: that a classifier is robust which knows nothing says nothing."
        verdict = worst([verdict, "open"])
    return Claim(
        "Robust features",
        f"{short}, which",
        verdict,
        text,
        _elsewhere(accuracies, pairs, "D_R", "D"),
    )


def non_robust_features(accuracies: StudyAccuracies, chance: float) -> Claim | None:
    """Whether D_NR alone teaches a classifier that is accurate, and less robust than that of D_R.

    That is nothing where that of D_R knows nothing: one that names one class for every image is robust, too.
    """
    ours, other = accuracies.get("D_NR"), accuracies.get("D_R")
    if not ours or not ours.clean:
        return None
    order = beyond_chance(chance, ours.clean)
    verdicts = [judge([order], wanted="higher")]
    level = beside_chance(order, chance)
    short = f"Standard training on D_NR alone gives a clean accuracy of {told(ours.clean, chance)}, {level}"
    text = f"Standard training on D_NR gives a clean accuracy of {told(ours.clean, chance)}, {level}"
    pairs = paired(accuracies, ours, other)
    if pairs:
        radius, (a, b) = next(iter(pairs.items()))
        order, where = compare(a, b), at(accuracies, radius)
        verdicts.append(judge([order], wanted="lower"))
        short += f", and {MORE[order]} D_R: {quoted(a)} against {quoted(b)} at {where}{_overlap(order)}"
        text += (
            f"; at {where} its robust accuracy is {quoted(a)}, and that of D_R {quoted(b)}: "
            f"{_difference('D_NR', order)}"
        )
        if other and other.clean and beyond_chance(chance, other.clean) != "higher":
            others = beside_chance(beyond_chance(chance, other.clean), chance)
            knows = f"; but the clean accuracy of D_R is {told(other.clean, chance)}, {others}"
            short, text = short + knows, text + knows
            verdicts.append("open")
    more = _elsewhere(accuracies, pairs, "D_NR", "D_R")
    return Claim("Non-robust features", f"{short}, which", worst(verdicts), f"{text}.", more)


def relabelled_images(accuracies: StudyAccuracies, results: Results, chance: float) -> Claim | None:
    """Whether images labelled with the class they were pushed to teach more than chance, and than their controls.

    A set in which some labels are right says something only beside its leakage control. The verdict is `partly` where a
    control reaches more than half of what its set teaches above chance. A control that teaches as much as its set, or
    more, shows what could explain the set, not what does: that is open. Where some sets go beyond their controls and
    others do not, the verdict names them. A set that its classifier did not learn has no part in it.
    """
    clean = {name: member.clean for name in RELABELLED if (member := accuracies.get(name)) and member.clean}
    if not clean:
        return None
    sizes: dict[str, PerturbationSize] = {
        properties.name: properties.perturbation
        for properties in results.sets
        if properties.name in clean and properties.perturbation
    }
    left = unlearned(results)
    controls = {
        name: row for name, row in _controls(results.instruments, left).items() if name in clean and name not in left
    }
    orders = {name: beyond_chance(chance, row) for name, row in clean.items()}
    strict = {name: order for name, order in orders.items() if not BY_NAME[name].keeps_labels and name not in left}
    verdicts = {}
    for name in orders:
        if name in strict or name in controls:
            beside_it = [_beside_control(clean[name], controls[name], chance)] if name in controls else []
            own = judge([orders[name]], wanted="higher")
            verdicts[name] = _as_small(worst([own, *beside_it]), sizes.get(name))
    verdict = worst([*verdicts.values()] or ["open"])
    beyond = tuple(name for name in clean if name in controls and verdicts[name] == "agrees")
    if beyond and verdict in ("visibly", "partly", "open"):
        verdict = "some"
    levels = {name: beside_chance(order, chance) for name, order in orders.items()}
    levels |= {
        name: f"which its classifier did not learn (it gives {quoted(left[name])} of its images their label)"
        for name in clean
        if name in left
    }
    beside = dict(levels)
    for name, row in controls.items():
        beside[name] = _beyond(row) if orders[name] == "higher" else f"{levels[name]}, and {_beyond(row)}"
    is_alike = len(clean) > 1 and not left and not controls and len(set(levels.values())) == 1
    parts = [
        f"{told(row, chance)} after training on {name}{'' if is_alike else f', {beside[name]}'}"
        for name, row in clean.items()
    ]
    if is_alike:
        same = beside[next(iter(clean))]
        parts.append(
            f"none of which {same.removeprefix('which ')}".replace("cannot", "can")
            if same.startswith("which ")
            else f"each {same}"
        )
    short = "; ".join(parts)
    also = {name: f", and {_beyond(row)}" for name, row in controls.items()}
    full = [f"{name} {told(row, chance)}, {levels[name]}{also.get(name, '')}" for name, row in clean.items()]
    notes = [
        _kept_note(name, results.sets, chance) for name in clean if BY_NAME[name].keeps_labels and name not in controls
    ]
    notes += size_notes(sizes)
    if "lower" in strict.values():
        notes.append(
            "A result below chance means that the classifier learned more from what the image showed before it was "
            "moved, for which the new label is never right, than from the perturbation."
        )
    return Claim(
        "Relabelled images",
        f"The clean accuracy is {short}; this",
        verdict,
        f"Clean accuracy after training on relabelled images: {'; '.join(full)}.",
        " ".join(notes),
        beyond if verdict == "some" else (),
    )


def resembling(sets: Sequence[SetProperties]) -> Claim | None:
    """Whether images of D_R look like their targets, and those of D_NR like their starts (the paper's Figure 2a)."""
    resemblances = {s.name: s.resemblance for s in sets if s.name in RESEMBLE and s.resemblance}
    if not resemblances:
        return None
    whom = {name: alike.verdict for name, alike in resemblances.items()}
    verdicts: list[Verdict] = [
        "open" if whom[name] == "unclear" else "agrees" if whom[name] == RESEMBLE[name] else "disagrees"
        for name in resemblances
    ]
    said = {"target": "resemble their targets", "start": "resemble their starts"}
    unclear = "do not clearly resemble their"
    parts = [
        f"images of {name} {said.get(whom[name], f'{unclear} {RESEMBLE[name]}s')} "
        f"(nearer to the target than to the start: {_nearer(alike)})"
        for name, alike in resemblances.items()
    ]
    count = max(alike.n for alike in resemblances.values())
    text = "; ".join(parts)
    return Claim(
        "What they look like",
        f"{text[0].upper()}{text[1:]}; this",
        worst(verdicts),
        f"{text[0].upper()}{text[1:]}.",
        f"Of at most {count} images of each whose start has another class. The paper's Figure 2a shows images of D_R "
        "that look like their targets, and images of D_NR that look like their starts; it has no measure of that.",
    )


def size_notes(sizes: Mapping[str, PerturbationSize]) -> list[str]:
    """A sentence for each relabelled set on how large its perturbations are."""
    return [
        f"{name}: the median perturbation is {size.to_nearest.median:.2g} times as long as the way to the nearest "
        f"training image of the new class, and changes {percent(size.noticed.median)}\u00a0% of the pixels noticeably; "
        f"it is {_size(size)}."
        for name, size in sizes.items()
    ]


def paired(accuracies: StudyAccuracies, ours: Member | None, other: Member | None) -> dict[float, tuple[Row, Row]]:
    """Robust accuracies of both at every radius that both were measured at, the main one first."""
    if not ours or not other:
        return {}
    radii = sorted(ours.robust.keys() & other.robust, key=lambda radius: (radius != accuracies.radius, radius))
    return {radius: (ours.robust[radius], other.robust[radius]) for radius in radii}


def beside_chance(order: Order, chance: float) -> str:
    """How an accuracy that is of `order` stands to `chance`, a share: `above chance (10\u00a0%)`."""
    level = f"chance ({_percent_of(chance)}\u00a0%)"
    if order == "unclear":
        return f"which cannot be told from {level}"
    return f"{'above' if order == 'higher' else 'below'} {level}"


def at(accuracies: StudyAccuracies, radius: float) -> str:
    """A radius in a sentence: `l2 radius 0.25`."""
    return f"{NORMS.get(accuracies.norm or '', '')} radius {radius:g}"


def judge(orders: list[Order], *, wanted: Order) -> Verdict:
    """Agrees if every order is as `wanted`, disagrees if one is against it, and open otherwise."""
    if all(order == wanted for order in orders):
        return "agrees"
    return "open" if all(order in (wanted, "unclear") for order in orders) else "disagrees"


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict on all of several: one that disagrees decides, then one that is open, then one in part."""
    return max(verdicts, key=list(ENDINGS).index)


def _difference(name: str, order: Order) -> str:
    if order == "unclear":
        return "the intervals overlap, so no difference can be claimed"
    return f"{name} gives the {order} robust accuracy"


def _elsewhere(accuracies: StudyAccuracies, pairs: dict[float, tuple[Row, Row]], ours: str, other: str) -> str:
    """The radii at which the answer is not that of the main one."""
    orders = {radius: compare(a, b) for radius, (a, b) in pairs.items()}
    main = next(iter(orders.values()), None)
    return " ".join(
        f"At {at(accuracies, radius)} the answer differs: {_difference(ours, order)}, with {quoted(pairs[radius][0])} "
        f"against {quoted(pairs[radius][1])} for {other}."
        for radius, order in orders.items()
        if order != main
    )


def _kept_note(name: str, sets: list[SetProperties], chance: float) -> str:
    properties = next((s for s in sets if s.name == name), None)
    kept = quoted(properties.kept_label) if properties else f"about {_percent_of(chance)} %"
    return (
        f"{name} draws its targets from all classes: {kept} of its images keep their label, and these can teach the "
        f"right answer without any perturbation, so {name} alone is weak evidence."
    )


def _controls(measured: Measured, left: Collection[str]) -> dict[str, ControlRow]:
    """The strongest leakage control of each set that has one, of those that were learned."""
    return strongest(row for row in (measured.controls.rows if measured.controls else []) if row.name not in left)


def _beside_control(ours: Row, control: ControlRow, chance: float) -> Verdict:
    if _sign(control.beyond) != "higher":
        return "open"
    both = (control.balanced, ours.balanced) if control.balanced and ours.balanced else (control.clean, ours.share)
    taught, in_all = (share.value - chance for share in both)
    is_explained = taught > in_all / 2
    return "partly" if is_explained else "agrees"


def _sign(difference: Difference | None) -> Order:
    orders: dict[str, Order] = {"more": "higher", "less": "lower"}
    return orders.get(difference.side, "unclear") if difference else "unclear"


def _beyond(control: ControlRow) -> str:
    """In points, beside what the control teaches, which has no adversarial feature."""
    difference = control.beyond
    assert difference  # of every control
    side = "below" if difference.side == "less" else "beyond"
    taught = quoted(control.clean)
    if difference.score == "balanced accuracy" and control.balanced:
        taught = f"balanced {quoted(control.balanced)}"
    said = f"{difference.size.replace(' (', ' points (')} {side} its leakage control's {taught}"
    return f"which cannot be told from its leakage control: {said}" if difference.side == "unclear" else said


def _overlap(order: Order) -> str:
    return ", intervals that overlap" if order == "unclear" else ""


def _nearer(alike: Resemblance) -> str:
    """Of a set's images those nearer to their target, by each measure."""
    return ", ".join(f"{quoted(measure.nearer_target)} {BY[measure.by]}" for measure in alike.measures)


def _size(size: PerturbationSize) -> str:
    if size.is_large and size.is_visible:
        return "large and visible, so the label may fit what the image now shows"
    if size.is_large:
        return "large, so the label may fit what the image now shows"
    return "short, but visible" if size.is_visible else "small"


def _as_small(verdict: Verdict, size: PerturbationSize | None) -> Verdict:
    """An agreement holds only for small perturbations, as the paper's are."""
    not_small = size and (size.is_large or size.is_visible)
    return "visibly" if verdict == "agrees" and not_small else verdict
