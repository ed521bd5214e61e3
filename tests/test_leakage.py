"""Certificates of linear models against brute force, and leakage of sets that are known to leak or not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from notbugs.classifier import Classifier
from notbugs.data import Images, Planted, planted
from notbugs.errors import InputError
from notbugs.measure import certified_linear, certify, evaluate, leakage, robust_linear
from notbugs.measure.linear_models import LinearModel, fit_linear, rises, whitened
from notbugs.seeds import generator, seeded
from notbugs.threat import L2, Linf, Threat
from tests.conftest import random_images

DOCS = Path(__file__).parents[1] / "docs" / "explanation"
THREATS = [L2(0.3), Linf(0.05)]


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted(train=2000, test=800)


def swapped(world: Planted, kind: str, new: torch.Tensor) -> Images:
    """The training images with the patterns of one kind turned into those of the class `new`, which is the label."""
    images, old = world.data.train, world.data.train.labels
    first = 0 if kind == "robust" else len(world.data.classes)
    move = world.strength[first] * (world.templates[first + new] - world.templates[first + old])
    return Images((images.pixels + move).clamp(0, 1), new)


def other(world: Planted) -> torch.Tensor:
    """Another class for every training image."""
    count, classes = len(world.data.train), len(world.data.classes)
    draw = torch.randint(1, classes, (count,), generator=generator(0, "other"))
    return (world.data.train.labels + draw) % classes


def uniform(world: Planted) -> torch.Tensor:
    return torch.randint(len(world.data.classes), (len(world.data.train),), generator=generator(1, "any"))


def templates(world: Planted, kind: str) -> LinearModel:
    """The planted patterns of one kind as a linear model."""
    first = 0 if kind == "robust" else len(world.data.classes)
    weight = world.templates[first : first + len(world.data.classes)]
    return LinearModel(weight, -0.5 * weight.flatten(1).sum(1))


def linear_model(seed: int = 0) -> LinearModel:
    draw = generator(seed, "linear model")
    return LinearModel(torch.randn(3, 1, 3, 3, generator=draw), 0.1 * torch.randn(3, generator=draw))


def ascent(direction: torch.Tensor, threat: Threat) -> torch.Tensor:
    """The perturbation in the ball along which a linear function with this gradient rises most."""
    return threat.eps * (direction / direction.norm() if isinstance(threat, L2) else direction.sign())


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_certificate_is_attained_and_never_beaten(threat):
    model, images = linear_model(), random_images(20, (1, 3, 3))
    found = model.certificate(images, threat)
    draw = generator(0, "perturbations")
    for image, proved in zip(images, found, strict=True):
        i = int(model(image[None]).argmax())
        others = [j for j in range(3) if j != i]
        worst = [image + ascent(model.weight[j] - model.weight[i], threat) for j in others]
        margins = [float(model(x[None])[0, i] - model(x[None])[0, j]) for x, j in zip(worst, others, strict=True)]
        assert min(margins) == pytest.approx(float(proved), abs=1e-5)
        tried = image.expand(2000, -1, -1, -1)
        logits = model(tried + threat.start(tried, draw))
        assert float((logits[:, [i]] - logits[:, others]).min()) >= float(proved) - 1e-5


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_certified_accuracy_is_what_an_attack_finds_inside_the_walls(threat, classes):
    """For two classes; of more, an untargeted attack may choose the wrong one. Far from 0 and 1 it is exact."""
    model, images = linear_model(1), 0.2 + 0.6 * random_images(200, (1, 3, 3))
    model = LinearModel(model.weight[:classes], (model.bias - model(images).mean(0))[:classes])
    small = type(threat)(threat.eps / 4)
    data = Images(images, model(images).argmax(1))
    found = certify(model, data, data, small)
    attacked = evaluate(model.classifier(), data, norm=small.norm, radii=[small.eps])[1]
    assert 0.1 < found.certified.value < 0.95
    assert found.certified.value <= attacked.share.value + 0.006
    if classes == 2:
        assert attacked.share.value == pytest.approx(found.certified.value, abs=0.006)
    assert found.accuracy.value == 1.0
    assert found.kept == found.certified


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_gamma_is_the_worst_case_of_every_image(threat):
    model, train = linear_model(2), Images(random_images(100, (1, 3, 3)), torch.arange(100) % 3)
    test = Images(random_images(80, (1, 3, 3), seed=1), torch.arange(80) % 3)
    found = certify(model, train, test, threat)
    outputs = model(train.pixels)
    for number, feature in enumerate(found.features):
        y = 2.0 * (test.labels == feature.class_) - 1
        step = ascent(model.weight[number], threat)
        worst = test.pixels - y[:, None, None, None] * step
        value = (model(worst)[:, number] - outputs[:, number].mean()) / outputs[:, number].std(correction=0)
        clean = (model(test.pixels)[:, number] - outputs[:, number].mean()) / outputs[:, number].std(correction=0)
        shift = float(y.mean() * clean.mean())  # the mean over these images is another than over those of training
        assert feature.gamma == pytest.approx(float((y * value).mean()) - shift, abs=1e-5)
        assert feature.low < feature.gamma < feature.high
        assert feature.rho == pytest.approx(float((y * clean).mean()) - shift, abs=1e-5)
        residual = clean - torch.where(y > 0, clean[y > 0].mean(), clean[y < 0].mean())
        variance = ((y - y.mean()) * residual).var() / 80
        half = 1.99 * float(variance) ** 0.5  # Student's, of 79 degrees of freedom
        assert feature.high - feature.gamma == pytest.approx(half, rel=0.02)


def test_planted_patterns_are_certified_as_what_they_are(world):
    robust, weak = (certify(templates(world, kind), *splits(world), L2(0.5)) for kind in ("robust", "nonrobust"))
    assert robust.gamma_at_least_0 == "holds"
    assert weak.gamma_at_least_0 == "fails"
    assert weak.keeps_predictions == "fails"
    assert weak.kept.value < 0.2 < robust.kept.value
    expected = zip(world.usefulness, world.robust_usefulness(0.5), strict=True)
    for feature, (rho, gamma) in zip([*robust.features, *weak.features], expected, strict=True):
        assert feature.rho == pytest.approx(float(rho), abs=0.03)
        assert feature.gamma == pytest.approx(float(gamma), abs=0.06)
    assert [feature.class_ for feature in robust.features] == [0, 1, 2, 3]
    assert certify(templates(world, "robust"), *splits(world), L2(0.1)).keeps_predictions == "holds"


def splits(world: Planted) -> tuple[Images, Images]:
    return world.data.train, world.data.test


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_training_ends_at_the_minimum(eps):
    """The loss is convex: no other weights near or far are better."""
    draw, classes = generator(0, "convex"), 3
    images = Images(torch.rand(120, 1, 3, 3, generator=draw), torch.arange(120) % classes)
    pixels = images.pixels + 0.4 * images.labels[:, None, None, None] * torch.eye(3)
    images = Images(pixels.clamp(0, 1), images.labels)
    threat = L2(eps)

    def loss(model: LinearModel) -> float:
        return float(
            cross_entropy(model(images.pixels) + eps * rises(model.weight, threat)[images.labels], images.labels)
        )

    found = robust_linear(images, threat, classes=classes)
    best = loss(found)
    assert best < 1.05
    for scale in (0.01, 0.1, 1.0):
        for _ in range(50):
            weight = found.weight + scale * torch.randn(found.weight.shape, generator=draw)
            bias = found.bias + scale * torch.randn(classes, generator=draw)
            assert loss(LinearModel(weight, bias)) >= best - 1e-5


def test_for_two_classes_the_loss_is_that_of_the_worst_perturbation():
    model = LinearModel(linear_model().weight[:2], linear_model().bias[:2])
    images, labels, threat = random_images(10, (1, 3, 3)), torch.arange(10) % 2, L2(0.2)
    away = torch.stack([ascent(model.weight[1 - y] - model.weight[y], threat) for y in labels.tolist()])
    worst = cross_entropy(model(images + away), labels)
    ours = cross_entropy(model(images) + threat.eps * rises(model.weight, threat)[labels], labels)
    assert float(ours) == pytest.approx(float(worst), rel=1e-5)


def test_a_robust_linear_model_leaves_the_weak_patterns(world):
    def parts(model: LinearModel) -> tuple[float, float]:
        """Squared length of the differences of weights along robust and non-robust patterns."""
        weight = (model.weight - model.weight.mean(0)).flatten(1)
        along = (weight @ world.templates.flatten(1).T).square().sum(0)
        return float(along[:4].sum()), float(along[4:].sum())

    standard, robust = (parts(robust_linear(world.data.train, L2(eps), classes=4)) for eps in (0.0, 0.5))
    assert standard[1] > 10 * standard[0]
    assert robust[0] > 2 * robust[1]


def test_certified_linear_keeps_both_specifications(world):
    model, trained = certified_linear(world.data.train, L2(0.1), classes=4)
    found = certify(model, *splits(world), L2(0.1))
    assert trained >= 0.1
    assert (found.gamma_at_least_0, found.keeps_predictions) == ("holds", "holds")
    assert found.accuracy.value > 0.9


def test_where_no_linear_model_is_robust_the_certificate_says_so():
    """Weak patterns alone, and a radius that turns them round."""
    weak = planted(train=400, test=400, robust_strength=0.0)
    model, _ = certified_linear(weak.data.train, L2(0.5), classes=4)
    assert model.weight.isfinite().all()
    found = certify(model, *splits(weak), L2(0.5))
    assert found.gamma_at_least_0 == "fails"
    assert found.certified.value < 0.3


def test_a_feature_that_is_constant_is_not_useful(world):
    weight = templates(world, "robust").weight
    found = certify(LinearModel(weight * 0, torch.zeros(4)), *splits(world), L2(0.5))
    assert {(feature.rho, feature.gamma) for feature in found.features} == {(0.0, 0.0)}


def test_a_set_with_robust_patterns_of_the_new_class_leaks_all_of_them(world):
    model, test = templates(world, "robust"), world.data.test
    found = leakage(model, swapped(world, "robust", other(world)), test, classes=4)
    best = float((model(test.pixels).argmax(1) == test.labels).double().mean())
    assert found.accuracy.value == pytest.approx(best, abs=0.01)
    assert best == pytest.approx(world.accuracy("robust"), abs=0.03)
    assert (found.finding, found.features, found.images) == ("leakage", 4, 2000)
    assert found.shuffled[1] < 0.8


def test_a_set_with_weak_patterns_alone_leaks_nothing(world):
    """Targets `any`: the robust patterns know nothing of the label."""
    found = leakage(templates(world, "robust"), swapped(world, "nonrobust", uniform(world)), world.data.test, classes=4)
    assert found.finding == "none"
    assert found.fitted.value < 0.3
    weak = leakage(
        templates(world, "nonrobust"), swapped(world, "nonrobust", uniform(world)), world.data.test, classes=4
    )
    assert weak.accuracy.value > 0.99


def test_of_classes_of_unequal_size_the_balanced_accuracy_is_held_against_chance(world):
    """A head that learned nothing names all classes, and is right less often than one that names the largest alone."""
    labels, classes = world.data.test.labels, len(world.data.classes)
    share = torch.where(labels == 0, 1.0, 0.15)
    index = (torch.rand(len(labels), generator=generator(0, "unequal")) < share).nonzero()[:, 0]
    images, kept = world.data.test.batch(index)
    unequal, source = Images(images, kept), templates(world, "robust")
    found = leakage(source, swapped(world, "robust", uniform(world)), unequal, classes=classes)
    assert (found.score, found.chance, found.finding) == ("balanced accuracy", 1 / classes, "leakage")
    assert found.shuffled[0] < 1 / classes < found.shuffled[1] < float((kept == 0).double().mean())
    assert leakage(source, world.data.train, world.data.test, classes=classes).score == "accuracy"


def test_a_set_of_wrong_labels_alone_is_below_chance(world):
    found = leakage(templates(world, "robust"), swapped(world, "nonrobust", other(world)), world.data.test, classes=4)
    assert found.finding == "below chance"
    assert found.accuracy.high < 0.1


def test_leakage_of_a_classifiers_features_is_that_of_a_function(world):
    with seeded(0):
        classifier = Classifier(
            nn.Sequential(nn.Flatten(), nn.Linear(256, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))
        ).train()
    images = world.data.train
    found = leakage(classifier, images, world.data.test, classes=4)
    assert classifier.training  # as it was
    with classifier.evaluating():
        assert leakage(classifier.features, images, world.data.test, classes=4) == found


def test_whitened_features():
    draw = generator(0, "whitened")
    train, other = torch.randn(50, 3, generator=draw), torch.randn(20, 3, generator=draw)
    train, other = (torch.cat([part, part[:, :1], part[:, :1] * 0 + 5], 1) for part in (train, other))
    ours, theirs = whitened(train, other)
    assert ours.shape == (50, 3)  # a copy and a constant add no direction
    assert torch.allclose(ours.T @ ours / 50, torch.eye(3), atol=1e-5)
    turn = torch.linalg.lstsq(train - train.mean(0), ours, driver="gelsd").solution  # of a rank that is not full
    assert torch.allclose((other - train.mean(0)) @ turn, theirs, atol=1e-4)


def test_what_does_not_fit_is_refused(world, unchecked):
    images = world.data.train
    with pytest.raises(InputError, match="'threat' must have a radius above 0"):
        certified_linear(images, L2(0.0), classes=4)
    with pytest.raises(InputError, match="finite radius"):
        robust_linear(images, L2(float("inf")), classes=4)
    with pytest.raises(InputError, match="'labels' must be between 0 and 2"):
        robust_linear(images, L2(0.1), classes=3)
    with pytest.raises(InputError, match="'features' must be finite"):
        fit_linear(torch.full((4, 2), torch.nan), torch.arange(4), classes=4)
    with pytest.raises(InputError, match="shape of the set's images"):
        leakage(templates(world, "robust"), images, Images(random_images(4), torch.arange(4)), classes=4)


@pytest.mark.parametrize("page", ["leakage.md", "shares.md"])
def test_every_block_of_the_guides_runs(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert blocks
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block[1], str(DOCS / page), "exec"), names)  # noqa: S102
