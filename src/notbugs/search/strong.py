"""The strong attack, which is the default of every robust accuracy, and PGD as in the paper.

The strong attack goes on only with images that nothing broke, the cheapest search that breaks most first:

1. projected gradient descent on the log-odds of the label, with long steps that decay to 0;
2. short searches towards each of the likeliest wrong classes, on the difference of two logits;
3. long ones towards those classes that the short ones came nearest to;
4. three on the log-odds, from random points, for those images that came near a boundary, and for those of which no
   search found a point that is any better than the image itself: there the gradient may be 0, or no number;
5. where gradients look masked, all of these with gradients that pass roundings and clamps, transfer from other
   classifiers, and queries.

Several radii are attacked from the largest. What it cannot break there has only the first search in smaller balls,
which the larger one contains, unless that finds much. What it breaks there is searched in the next smaller ball towards
the class it was taken for, and less towards the others.

A search by gradients that gets no further than random points of the same ball has gradients that are none: they
vanish, are those of rounding, or point elsewhere (Athalye, Carlini & Wagner 2018). Its survivors are attacked as if
roundings and clamps in the network were the identity, and then with what does not need this classifier's gradients:
adversarial examples of other classifiers, and gradients estimated from queries.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.models.execution import ready
from notbugs.search.backward import straight_through
from notbugs.search.evaluation import Attack, Attacked, attack_named
from notbugs.search.loop import Objective, search
from notbugs.search.objectives import across, away_from, estimated, log_odds
from notbugs.search.steps import PGDSteps
from notbugs.seeds import generator
from notbugs.shapes import Logits
from notbugs.threat import Threat

FEW, STEPS, POINTS = 32, 3, 4
"""Images that are looked at, gradients for each, and random points."""
SHARE = 0.1
"""Of those images, above which gradients look masked."""
QUERIED = 20
"""Steps of the searches without this classifier's gradients."""

log = logging.getLogger("notbugs")


def without_gradients(run: Attacked, attack: Attack, numbers: Tensor, ball: Threat) -> None:
    """Where gradients look masked, attack these images straight through, by transfer, and by queries of each."""
    if not attack.queries or not len(numbers) or answers_alike(run.clean) or not looks_masked(run, numbers, ball):
        return
    before = len(numbers)
    with run.passing(straight_through):
        broken_in(run, attack, numbers, ball)
    numbers = numbers[torch.isin(numbers, run.standing(ball))]
    for other in run.others:
        _transferred(run, other, numbers, ball)
        numbers = numbers[torch.isin(numbers, run.standing(ball))]
    for part in numbers.split(run.batch):  # all of a part are of one age, and see the same draws whatever the part
        _queried(run, attack, part, ball)
    left = int(torch.isin(numbers, run.standing(ball)).sum())
    log.warning(
        "The gradients look masked: at %s %g a search by them gets no further than random points. Of %d images that it "
        "left, gradients straight through roundings, transfer and queries broke %d. The number may still be too high: "
        "see masking_signs, and replaced_backward for an attack that knows the layer.",
        ball.norm, ball.eps, before, before - left,
    )  # fmt: skip


def _queried(run: Attacked, attack: Attack, numbers: Tensor, ball: Threat) -> None:
    pairs, draw = max(1, attack.queries // (2 * QUERIED)), generator(run.seed, "queries", ball.norm, ball.eps)

    def objective(classifier: Classifier) -> Objective:
        return estimated(away_from(classifier), ball, pairs, draw)

    run.search("queries", objective, numbers, ball, PGDSteps(QUERIED, decay="linear"), exact=True)


def answers_alike(logits: Logits) -> bool:
    """Whether a classifier gives all images the same logits: it has no gradients, and nothing can be broken."""
    return bool((logits == logits[:1]).all())


def looks_masked(run: Attacked, numbers: Tensor, ball: Threat) -> bool:
    """Whether a few steps by gradients lower the log-odds no more than random points do, for too many images."""
    order = torch.randperm(len(numbers), generator=generator(run.seed, "masked", ball.eps))[:FEW]
    draw, device = generator(run.seed, "random points", ball.eps), run.classifier.device
    inputs, labels = (tensor.to(device) for tensor in run.images.batch(numbers[order]))
    with run.classifier.evaluating("fp32"):
        result = search(away_from(run.classifier), inputs, (labels,), ball, PGDSteps(STEPS, decay="linear"))
        with torch.no_grad():
            points = [(inputs + ball.start(inputs, draw)).clamp(0, 1) for _ in range(POINTS)]
            before = log_odds(run.classifier(inputs), labels)
            least = torch.stack([log_odds(run.classifier(point), labels) for point in points]).amin(0)
    is_misled = result.loss >= torch.minimum(before, least)
    return float(is_misled.float().mean()) > SHARE


def _transferred(run: Attacked, other: Classifier, numbers: Tensor, ball: Threat) -> None:
    fast = ready(other, run.images.shape, batch=run.batch)[0]
    for part in numbers.split(run.batch):
        inputs, labels = (tensor.to(fast.device) for tensor in run.images.batch(part))
        with fast.evaluating():
            result = search(away_from(fast), inputs, (labels,), ball, PGDSteps(QUERIED, decay="linear"), keep="last")
        run.found("transfer", part, result.images.to(run.classifier.device), ball)


SHORT = 1 / 8
"""Steps of a short search, as a share of the long one's."""
FIRST = 1 / 4
"""The same of the search on the log-odds."""
LONG, AGAIN = 4, 1
"""Classes that are searched for at length, of an image that nothing broke yet, and of one that a larger ball broke,"""
NEAR = 0.5
"""if the short search has left at most this share of the margin that the image has as it is."""
STARTS, CLOSE = 3, 0.1
"""Random points that images are searched from if the best of all searches has left at most this share of the margin, or
all of it."""
MUCH = 1 / 64
"""Share of the images that were given up in a larger ball above which, if the first search in a smaller one breaks
them, all searches are made there."""


@attack_named("strong")
def strong(run: Attacked, attack: Attack) -> None:
    """See the module."""
    for ball in reversed(run.balls):
        numbers = run.standing(ball)
        given_up = numbers[run.settled[numbers] < torch.inf]
        left = run.search("log-odds", away_from, given_up, ball, _schedule(attack, FIRST))
        if int((left < 0).sum()) > MUCH * len(given_up):  # the larger ball was searched badly
            given_up = given_up[:0]
        again = numbers[~torch.isin(numbers, given_up)]
        broken_in(run, attack, again[torch.isin(again, run.standing(ball))], ball)
        without_gradients(run, attack, run.standing(ball), ball)
        run.give_up(run.standing(ball), ball)


def broken_in(run: Attacked, attack: Attack, numbers: Tensor, ball: Threat, *, starts: int = STARTS) -> None:
    """Parts 1 to 4 in one ball, the last from so many random points."""
    is_known = run.became[numbers] >= 0  # the class that broke the image in a larger ball
    first, left = _schedule(attack, FIRST), torch.empty(len(numbers), dtype=torch.float32)
    known, new = numbers[is_known], numbers[~is_known]
    left[~is_known] = run.search("log-odds", away_from, new, ball, first)
    left[is_known] = run.search("as in a larger ball", across, known, ball, first, targets=run.became[known])
    for restart in range(1, attack.restarts):
        some = (left >= 0).nonzero().flatten()
        away = run.search("log-odds", away_from, numbers[some], ball, _schedule(attack), start=("restart", restart))
        left[some] = torch.where(away < 0, away, left[some])
    is_open = left >= 0
    numbers, left = _towards(run, attack, numbers[is_open], ball, is_known[is_open], left[is_open])
    near = numbers[:0] if answers_alike(run.clean) else numbers[(left <= CLOSE) | left.isinf()]
    for number in range(starts):
        near = near[torch.isin(near, run.standing(ball))]
        run.search("random start", away_from, near, ball, _schedule(attack), start=("random start", number))


def _towards(
    run: Attacked, attack: Attack, numbers: Tensor, ball: Threat, is_known: Tensor, first: Tensor
) -> tuple[Tensor, Tensor]:
    """Search for each wrong class in turn; of known images, the first of them has been, and left this margin.

    Returns the images that are left after the short searches, and the least share of their margin that any search left.
    """
    wrong = run.likeliest_wrong(numbers, attack.targeted)
    count = wrong.shape[1]
    if not count or not len(numbers):
        return numbers, first / run.margin(numbers)
    left = first[:, None].repeat(1, count)
    rows, places = (~is_known[:, None] | (torch.arange(count) > 0)).nonzero(as_tuple=True)
    short = _schedule(attack, SHORT)
    left[rows, places] = run.search("targeted", across, numbers[rows], ball, short, targets=wrong[rows, places])
    is_open = (left >= 0).all(1)
    numbers, wrong, left, is_known, first = (one[is_open] for one in (numbers, wrong, left, is_known, first))
    left, order = (left / run.margin(numbers)[:, None]).sort(1)
    wrong = wrong.gather(1, order)
    most = torch.where(is_known, AGAIN, LONG)
    for place in range(min(LONG, count)):
        promising = (left[:, place] <= NEAR) & (place < most) & torch.isin(numbers, run.standing(ball))
        targets, margins = wrong[promising, place], run.margin(numbers[promising])
        result = run.search("targeted, long", across, numbers[promising], ball, _schedule(attack), targets=targets)
        left[promising, place] = torch.minimum(left[promising, place], result / margins)
    return numbers, torch.minimum(left.amin(1), first / run.margin(numbers))


@attack_named("pgd", steps=20, decay="constant", targeted=0, queries=0)
def pgd(run: Attacked, attack: Attack) -> None:
    """Projected gradient descent, by default as in the paper: 20 steps of 2.5 eps / 20, from the image."""
    for ball in run.balls:
        for restart in range(attack.restarts):
            start = ("restart", restart) if restart else None
            run.search("pgd", away_from, run.standing(ball), ball, attack.schedule(ball), start=start)
        for target in range(attack.targeted):
            numbers = run.standing(ball)
            wrong = run.likeliest_wrong(numbers, attack.targeted)
            if target < wrong.shape[1]:
                run.search("pgd, targeted", across, numbers, ball, attack.schedule(ball), targets=wrong[:, target])


def most_gradients(attack: Attack, classes: int) -> int:
    """The most that the strong attack takes for an image in one ball."""
    wrong = min(attack.targeted, classes - 1)
    parts = {FIRST: 1, 1: attack.restarts - 1 + min(LONG, wrong) + STARTS, SHORT: wrong}
    return sum(count * _schedule(attack, share).steps for share, count in parts.items())


STRONG = Attack()
"""What robust accuracy is measured with by default.

Examples
--------
>>> nb.search.STRONG.name
'strong'
"""

PGD = Attack(name="pgd")
"""The paper's protocol.

Examples
--------
>>> nb.search.PGD.name
'pgd'
"""


def _schedule(attack: Attack, share: float = 1.0) -> PGDSteps:
    """As asked, in a share of the steps."""
    return PGDSteps(max(1, round(share * attack.steps)), attack.step_size, decay=attack.decay)
