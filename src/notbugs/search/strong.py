"""The strong attack, which is the default of every robust accuracy, and PGD as in the paper.

The strong attack goes on only with images that nothing broke, the cheapest search that breaks most first:

1. projected gradient descent on the log-odds of the label, with long steps that decay to 0;
2. short searches towards each of the likeliest wrong classes, on the difference of two logits;
3. long ones towards those classes that the short ones came nearest to;
4. where gradients look masked, transfer from other classifiers, and queries (`search.masked`).

Several radii are attacked from the largest: what it cannot break there is not searched again in smaller balls, which
the larger one contains, so a curve costs little more than one radius.
"""

from __future__ import annotations

import torch
from torch import Tensor

from notbugs.search.evaluation import Attack, Attacked, attack_named
from notbugs.search.masked import without_gradients
from notbugs.search.objectives import across, away_from
from notbugs.search.steps import Schedule
from notbugs.seeds import generator
from notbugs.threat import Threat

SHORT = 1 / 8
"""Steps of a short search, as a share of the long one's."""
FIRST = 1 / 4
"""The same of the search on the log-odds."""
LONG = 4
"""Classes that are searched for at length,"""
NEAR = 0.5
"""if the short search has left at most this share of the margin that the image has as it is."""
CHECKED = 32
"""Images that were given up in a larger ball, of which it is checked whether a smaller one is searched better."""


@attack_named("strong")
def strong(run: Attacked, asked: Attack) -> None:
    """See the module."""
    for ball in reversed(run.balls):
        numbers = run.standing(ball)
        given_up = numbers[run.settled[numbers] < torch.inf]
        if _is_easier(run, asked, given_up, ball):
            given_up = given_up[:0]
        _broken_in(run, asked, numbers[~torch.isin(numbers, given_up)], ball)
        without_gradients(run, run.standing(ball), ball, asked.queries)
        run.give_up(run.standing(ball), ball)


def _broken_in(run: Attacked, asked: Attack, numbers: Tensor, ball: Threat) -> None:
    for restart in range(asked.restarts):
        start = ("restart", restart) if restart else None
        steps = asked.steps if restart else max(1, round(FIRST * asked.steps))
        left = run.search("log-odds", away_from, numbers, ball, _schedule(asked, steps), start=start)
        numbers = numbers[left >= 0]
    wrong = run.likeliest_wrong(numbers, asked.targeted)
    count = wrong.shape[1]
    if not count:
        return
    each = numbers.repeat_interleave(count)
    short = _schedule(asked, max(1, round(SHORT * asked.steps)))
    left = run.search("targeted", across, each, ball, short, targets=wrong.flatten()).view(-1, count)
    is_open = (left >= 0).all(1)
    numbers, wrong, left = numbers[is_open], wrong[is_open], left[is_open]
    left, order = (left / run.margin(numbers)[:, None]).sort(1)
    wrong = wrong.gather(1, order)
    for place in range(min(LONG, count)):
        promising = (left[:, place] <= NEAR) & torch.isin(numbers, run.standing(ball))
        long = _schedule(asked, asked.steps)
        run.search("targeted, long", across, numbers[promising], ball, long, targets=wrong[promising, place])


def _is_easier(run: Attacked, asked: Attack, given_up: Tensor, ball: Threat) -> bool:
    """Whether a search finds something in `ball` where a larger ball gave nothing: then it is worth while to go on."""
    if not len(given_up):
        return False
    order = torch.randperm(len(given_up), generator=generator(run.seed, "smaller ball", ball.eps))[:CHECKED]
    left = run.search(
        "log-odds", away_from, given_up[order], ball, _schedule(asked, max(1, round(FIRST * asked.steps)))
    )
    return bool((left < 0).any())


@attack_named("pgd", steps=20, decay="constant", targeted=0, queries=0)
def pgd(run: Attacked, asked: Attack) -> None:
    """Projected gradient descent, by default as in the paper: 20 steps of 2.5 eps / 20, from the image."""
    for ball in run.balls:
        for restart in range(asked.restarts):
            start = ("restart", restart) if restart else None
            run.search("pgd", away_from, run.standing(ball), ball, asked.schedule(ball), start=start)
        for target in range(asked.targeted):
            numbers = run.standing(ball)
            wrong = run.likeliest_wrong(numbers, asked.targeted)
            if target < wrong.shape[1]:
                run.search("pgd, targeted", across, numbers, ball, asked.schedule(ball), targets=wrong[:, target])


STRONG = Attack()
"""What robust accuracy is measured with by default."""

PGD = Attack(name="pgd")
"""The paper's protocol."""


def _schedule(asked: Attack, steps: int) -> Schedule:
    return Schedule(steps, asked.step_size, decay=asked.decay)
