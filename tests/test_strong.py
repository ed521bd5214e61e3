"""The strong attack, held against AutoAttack's survivors on stored classifiers."""

from __future__ import annotations

from importlib import util

import pytest
import torch

import notbugs as nb
from notbugs.data import Images
from notbugs.measure import outcomes
from tests.build_strong import CASES, COUNT, Case, classifier_of, images_of, key, stored

ALLOWED = max(1, COUNT // 200)
"""Images by which we may be above AutoAttack: half a point, or one image."""


@pytest.fixture(scope="module")
def tensors():
    return stored()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_number_is_above_autoattacks(case: Case, tensors):
    classifier, images = classifier_of(case, tensors), images_of(case.weights)
    for norm in ("l2", "linf"):
        balls = [ball for ball in case.balls if ball.norm == norm]
        found = outcomes(classifier, images, balls)[1:]
        for ball, outcome in zip(balls, found, strict=True):
            theirs = tensors[key(case.weights, ball)].bool()
            assert 0.05 * COUNT < int(theirs.sum()) < 0.95 * COUNT, "nothing to compare"
            assert int(outcome.survived.sum()) <= int(theirs.sum()) + ALLOWED, ball
            assert outcome.broken["log-odds"] > 0.5 * sum(outcome.broken.values()), "the cheapest breaks most"


def test_a_curve_breaks_what_each_radius_alone_breaks(tensors):
    case = next(case for case in CASES if case.name == "robust")
    classifier, images = classifier_of(case, tensors), images_of(case.weights)
    radii = (0.1, 0.25, 0.5, 0.75, 1.0)
    curve = outcomes(classifier, images, radii=radii)[1:]
    for eps, outcome in zip(radii, curve, strict=True):
        alone = outcomes(classifier, images, radii=(eps,))[1]
        assert int(outcome.survived.sum()) <= int(alone.survived.sum()) + ALLOWED


@pytest.mark.slow
@pytest.mark.skipif(not util.find_spec("pyautoattack"), reason="pyautoattack is not installed")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_autoattack_finds_no_more_on_the_classifier_itself(case: Case, tensors):
    """Run again, on the network with its softmax or its factor, and on other images than the stored ones."""
    classifier, images = classifier_of(case, tensors), images_of(case.weights)
    for ball in case.balls:
        ours, theirs = outcomes(classifier, images, [ball])[1], nb.autoattack(classifier, images, ball)
        both = ours.survived & theirs.survived
        print(
            f"\n{case.name}, {ball}: {int(ours.survived.sum())}, {int(theirs.survived.sum())}, both {int(both.sum())}"
        )
        assert int(ours.survived.sum()) <= int(theirs.survived.sum()) + ALLOWED
        stored_survivors = tensors[key(case.weights, ball)].bool()
        assert abs(int(theirs.survived.sum()) - int(stored_survivors.sum())) <= 2 or "times" in case.name


def test_survivors_are_right_as_they_are(tensors):
    """The stored bits belong to these images: what survives is classified correctly."""
    for case in CASES:
        classifier, images = classifier_of(case, tensors), images_of(case.weights)
        assert isinstance(images, Images)
        with torch.no_grad():
            correct = classifier(images.batch(slice(None))[0]).argmax(1) == images.labels
        for ball in case.balls:
            assert bool((correct | ~tensors[key(case.weights, ball)].bool()).all())
