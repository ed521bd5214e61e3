"""The strong attack, held against AutoAttack's survivors on stored classifiers."""

from __future__ import annotations

from dataclasses import replace
from importlib import util

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.measure import outcomes
from tests.build_strong import CASES, COUNT, classifier_of, images_of, key, stored

FEW = 50
"""Images of every run of the tests, and all of them in the slow one."""
ALLOWED = 1
"""Images by which we may be above AutoAttack."""


@pytest.fixture(scope="module")
def tensors():
    return stored()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("count", [FEW, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_no_number_is_above_autoattacks(case, count, tensors):
    classifier, images = classifier_of(case, tensors), images_of(case.weights).subset(slice(count))
    with torch.no_grad():
        correct = classifier(images.batch(slice(None))[0]).argmax(1) == images.labels
    for norm in ("l2", "linf"):
        balls = [ball for ball in case.balls if ball.norm == norm]
        for ball, outcome in zip(balls, outcomes(classifier, images, balls)[1:], strict=True):
            theirs = tensors[key(case.weights, ball)].bool()[:count]
            assert bool((correct | ~theirs).all()), "the stored bits belong to these images and weights"
            assert 0 < int(theirs.sum()) < int(correct.sum()), "there is something to compare"
            assert int(outcome.survived.sum()) <= int(theirs.sum()) + ALLOWED, ball
            assert sum(outcome.broken.values()) == int(correct.sum()) - int(outcome.survived.sum())
            cheap = outcome.broken["log-odds"] + outcome.broken.get("as in a larger ball", 0)
            assert cheap >= max(outcome.broken.values()), "what is cheapest breaks most"


def test_a_curve_is_no_higher_than_each_radius_alone(tensors):
    case = next(case for case in CASES if case.name == "robust")
    classifier, images = classifier_of(case, tensors), images_of(case.weights).subset(slice(FEW))
    radii = (0.25, 0.5, 1.0)
    for eps, outcome in zip(radii, outcomes(classifier, images, radii=radii)[1:], strict=True):
        alone = outcomes(classifier, images, radii=(eps,))[1]
        assert int(outcome.survived.sum()) <= int(alone.survived.sum()) + ALLOWED


class Around(nn.Module):
    """A network between two functions."""

    def __init__(self, network, before=lambda images: images, after=lambda logits: logits):
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, images):
        return self.after(self.network(self.before(images)))


ROUNDED = {
    "levels": {"before": lambda images: (16 * images).round() / 16},
    "levels, in place": {"before": lambda images: images.mul(16).add(0.5).floor_().div(16)},
    "logits": {"after": lambda logits: torch.round(logits, decimals=1)},
    "probabilities": {"after": lambda logits: (100 * logits.softmax(1)).round() / 100},
    "clamped logits": {"after": lambda logits: logits.clamp(-1, 1)},
}


@pytest.mark.parametrize("name", ROUNDED)
def test_what_a_network_rounds_or_clamps_hides_nothing(name, tensors):
    """AutoAttack's number on the network without it, which nothing is rounded in, is what is to be reached."""
    case = next(case for case in CASES if case.name == "robust")
    classifier = classifier_of(replace(case, wrap=lambda net: Around(net, **ROUNDED[name])), tensors)
    images, ball = images_of(case.weights).subset(slice(FEW)), case.balls[0]
    outcome = outcomes(classifier, images, [ball])[1]
    theirs = tensors[key(case.weights, ball)].bool()[:FEW]
    assert int(outcome.survived.sum()) <= int(theirs.sum()) + ALLOWED
    assert outcome.broken["straight through"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not util.find_spec("pyautoattack"), reason="pyautoattack is not installed")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_autoattack_finds_no_more_where_it_attacks_the_same_outputs(case, tensors):
    """Run anew, on the network with its softmax or its factor."""
    classifier, images = classifier_of(case, tensors), images_of(case.weights)
    for ball in case.balls:
        ours, theirs = outcomes(classifier, images, [ball])[1], nb.measure.autoattack(classifier, images, ball)
        assert int(ours.survived.sum()) <= int(theirs.survived.sum()) + ALLOWED
        before = tensors[key(case.weights, ball)].bool()
        assert int(theirs.survived.sum()) >= int(before.sum()) - ALLOWED, "the stored numbers are AutoAttack's"
