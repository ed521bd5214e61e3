"""Heads refitted on some features: held against the planted truth and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.errors import InputError
from notbugs.measure.features import feature_values, penultimate
from notbugs.measure.linear_models import Refitted, refit_head
from notbugs.seeds import generator
from tests.planted_classifiers import projecting


def features_of(classifier: nb.Classifier, images: nb.Images) -> torch.Tensor:
    return feature_values(penultimate(classifier), images)


@pytest.fixture(scope="module")
def made() -> nb.data.Planted:
    return nb.planted()


@pytest.fixture(scope="module")
def fits(made):
    classifier, train = projecting(made), made.data.train
    groups = {kind: torch.tensor([own == kind for own in made.kinds]) for kind in ("robust", "nonrobust")}
    return {kind: refit_head(classifier, train, chosen, classes=4) for kind, chosen in groups.items()}


@pytest.mark.parametrize("kind", ["robust", "nonrobust"])
def test_each_kind_alone_is_as_accurate_as_the_best_classifier_that_sees_it(made, fits, kind):
    clean = nb.evaluate(fits[kind].classifier, made.data.test)[0].share
    assert clean.low <= made.accuracy(kind) <= clean.high
    assert fits[kind].features == 4


def test_robust_accuracy_is_that_of_the_closed_form(made, fits):
    """A step of eps takes sqrt(2) eps from the lead of the right projection over each other one."""
    eps, u = 0.5, torch.linspace(-10, 10, 4001, dtype=torch.float64)
    density = torch.exp(-u.square() / 2) / math.sqrt(2 * math.pi)
    lead = (float(made.strength[0]) - math.sqrt(2) * eps) / float(made.noise[0])
    expected = float(torch.trapezoid(density * torch.special.ndtr(u + lead) ** 3, u))
    _, robust = nb.evaluate(fits["robust"].classifier, made.data.test, radii=[eps])
    assert robust.share.low <= expected <= robust.share.high
    _, nonrobust = nb.evaluate(fits["nonrobust"].classifier, made.data.test, radii=[eps])
    assert nonrobust.share.value == 0


def test_features_that_are_not_chosen_cannot_speak(made, fits):
    classifier = fits["robust"].classifier
    images, _ = made.data.test.batch(slice(20))
    moved = images + 0.05 * made.templates[4:].sum(0)  # along every non-robust template
    torch.testing.assert_close(classifier(images), classifier(moved), atol=2e-4, rtol=1e-4)
    assert torch.count_nonzero(classifier.weight[:, 4:]) == 0


def test_it_is_the_minimum_that_scikit_learn_finds(made):
    from sklearn.linear_model import LogisticRegression

    train = made.data.train.subset(slice(600))
    classifier = projecting(made)
    features = features_of(classifier, train)
    fit = refit_head(classifier, train, torch.ones(8, dtype=torch.bool), classes=4)
    scaled = ((features.double() - features.double().mean(0)) / features.double().std(0, correction=0)).numpy()
    reference = LogisticRegression(C=1 / (fit.strength * len(train)), max_iter=2000, tol=1e-8)
    reference.fit(scaled, train.labels.numpy())
    expected = torch.from_numpy(reference.predict_log_proba(scaled)).float()
    found = classifier_log_probabilities(fit.classifier, train)
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=5e-3)


def classifier_log_probabilities(classifier: nb.Classifier, images: nb.Images) -> torch.Tensor:
    with torch.no_grad():
        return classifier(images.batch(slice(None))[0]).log_softmax(1)


def test_without_features_the_most_frequent_class_speaks(made):
    classifier, train = projecting(made), made.data.train.subset(slice(400))
    labels = torch.where(torch.arange(400) < 250, 2, train.labels)
    train = nb.Images(train.pixels, labels)
    fit = refit_head(classifier, train, torch.zeros(8, dtype=torch.bool), classes=4)
    assert fit.features == 0
    assert (nb.measure.predictions(fit.classifier, train) == 2).all()
    clean, robust = nb.evaluate(
        fit.classifier, train, radii=[0.5], attack=nb.search.Attack(name="pgd", steps=2, decay="linear")
    )
    assert clean.share == robust.share


def test_a_constant_feature_does_no_harm(made):
    classifier, train = projecting(made), made.data.train.subset(slice(400))
    features = features_of(classifier, train)
    features[:, 0] = 3.0
    fit = refit_head(classifier, train, torch.ones(8, dtype=torch.bool), classes=4, features=features)
    assert fit.classifier.weight.isfinite().all()
    assert float(fit.classifier.weight[:, 0].abs().max()) < 1e-6


def test_it_is_deterministic_and_leaves_the_classifier_alone(small):
    pixels = torch.rand(80, 2, 6, 6, generator=generator(0, "heads"))
    images = nb.Images(pixels, torch.arange(80) % 4)
    small.train()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    features = features_of(small, images)
    chosen = torch.arange(features.shape[1]) % 2 == 0
    one, two = (refit_head(small, images, chosen, classes=4, seed=3) for _ in range(2))
    assert torch.equal(one.classifier.weight, two.classifier.weight)
    assert small.training
    assert all(torch.equal(before[name], value) for name, value in small.state_dict().items())
    assert isinstance(one.classifier, Refitted)
    with one.classifier.evaluating():
        expected = features @ one.classifier.weight.T + one.classifier.bias
        torch.testing.assert_close(one.classifier(pixels), expected, atol=1e-4, rtol=1e-4)


def test_the_frozen_copy_answers_alike(small):
    """Batch norms are folded under a refitted head as under the network's own."""
    from notbugs.models import frozen

    pixels = torch.rand(80, 2, 6, 6, generator=generator(0, "heads"))
    images = nb.Images(pixels, torch.arange(80) % 4)
    chosen = torch.ones(288, dtype=torch.bool)
    refitted = refit_head(small, images, chosen, classes=4).classifier
    view = frozen(refitted, (2, 6, 6))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in view.modules())
    with refitted.evaluating():
        torch.testing.assert_close(view(pixels), refitted(pixels), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": torch.ones(5, dtype=torch.bool)}, "'chosen' must be bool of shape \\(8,\\)"),
        ({"features": torch.rand(3, 8)}, "'features' must be of the 10 training images"),
        ({"features": torch.full((10, 8), math.nan)}, "'features' must be finite"),
        ({"classes": 3}, "'labels' must be between 0 and 2"),
        ({"classes": 1}, "'classes' must be a whole number at or above 2"),
    ],
)
def test_wrong_input(made, change, message, unchecked):
    given = {"train": made.data.train.subset(slice(10)), "classes": 4, "chosen": torch.ones(8, dtype=torch.bool)}
    given |= {"features": torch.rand(10, 8)} | change
    with pytest.raises(InputError, match=message):
        refit_head(projecting(made), **given)
