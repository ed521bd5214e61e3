"""Where gradients mislead the search: found out on a few images, and then attacked without them.

A search by gradients that gets no further than random points of the same ball has gradients that are none: they
vanish, are those of rounding, or point elsewhere (Athalye, Carlini & Wagner 2018). Its survivors are attacked with what
does not need this classifier's gradients: adversarial examples of other classifiers, and gradients estimated from
queries.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from notbugs.classifier import Classifier
from notbugs.models.execution import ready
from notbugs.search.evaluation import Attacked
from notbugs.search.loop import search
from notbugs.search.objectives import away_from, estimated, log_odds
from notbugs.search.steps import Schedule
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


def without_gradients(run: Attacked, numbers: Tensor, ball: Threat, queries: int) -> None:
    """Where gradients look masked, attack these images by transfer, and by so many queries of each."""
    if not queries or not len(numbers) or answers_alike(run.clean) or not looks_masked(run, numbers, ball):
        return
    before = len(numbers)
    for other in run.others:
        _transferred(run, other, numbers, ball)
        numbers = numbers[torch.isin(numbers, run.standing(ball))]
    pairs = max(1, queries // (2 * QUERIED))
    draw = generator(run.seed, "queries", ball.norm, ball.eps)
    run.search(
        "queries", lambda c: estimated(away_from(c), ball, pairs, draw), numbers, ball,
        Schedule(QUERIED, decay="linear"), exact=True,
    )  # fmt: skip
    left = int(torch.isin(numbers, run.standing(ball)).sum())
    log.warning(
        "The gradients look masked: at %s %g a search by them gets no further than random points. Of %d images that it "
        "left, transfer and queries broke %d. The number may still be too high: see masking_signs, and "
        "replaced_backward for an attack that knows the layer.",
        ball.norm, ball.eps, before, before - left,
    )  # fmt: skip


def answers_alike(logits: Logits) -> bool:
    """Whether a classifier gives all images the same logits: it has no gradients, and nothing can be broken."""
    return bool((logits == logits[:1]).all())


def looks_masked(run: Attacked, numbers: Tensor, ball: Threat) -> bool:
    """Whether a few steps by gradients lower the log-odds no more than random points do, for too many images."""
    order = torch.randperm(len(numbers), generator=generator(run.seed, "masked", ball.eps))[:FEW]
    draw, device = generator(run.seed, "random points", ball.eps), run.classifier.device
    inputs, labels = (tensor.to(device) for tensor in run.images.batch(numbers[order]))
    with run.classifier.evaluating("fp32"):
        found = search(away_from(run.classifier), inputs, (labels,), ball, Schedule(STEPS, decay="linear"))
        with torch.no_grad():
            points = [(inputs + ball.start(inputs, draw)).clamp(0, 1) for _ in range(POINTS)]
            before = log_odds(run.classifier(inputs), labels)
            least = torch.stack([log_odds(run.classifier(point), labels) for point in points]).amin(0)
    is_misled = found.loss >= torch.minimum(before, least)
    return float(is_misled.float().mean()) > SHARE


def _transferred(run: Attacked, other: Classifier, numbers: Tensor, ball: Threat) -> None:
    fast = ready(other, run.images.shape, batch=run.batch)[0]
    for part in numbers.split(run.batch):
        inputs, labels = (tensor.to(fast.device) for tensor in run.images.batch(part))
        with fast.evaluating():
            found = search(away_from(fast), inputs, (labels,), ball, Schedule(QUERIED, decay="linear"), keep="last")
        run.found("transfer", part, found.images.to(run.classifier.device), ball)
