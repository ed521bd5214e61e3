from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from notbugs.classifier import Classifier
from notbugs.construct import relabel, robustify
from notbugs.data import Augmentation, Data, Images, round_to_8_bits
from notbugs.errors import InputError
from notbugs.measure import Spread, evaluate, feature_rank, measure_set, predictions, wilson
from notbugs.search import Attack, PGDSteps
from notbugs.seeds import generator, seeded
from notbugs.threat import L2, Linf, l2_norm
from tests.conftest import random_images


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_wilson_is_its_closed_form(n, share):
    """Wilson 1927, equation 3."""
    hits, z = round(share * n), 1.959963984540054
    p = hits / n
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    ours = wilson(hits, n)
    closed = [max(0.0, (centre - half) / (1 + z**2 / n)), min(1.0, (centre + half) / (1 + z**2 / n))]
    assert [ours.low, ours.high] == pytest.approx(closed, abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_refuses_nonsense():
    with pytest.raises(InputError, match="Got 5 of 4"):
        wilson(5, 4)
    with pytest.raises(InputError):
        wilson(0, 0)


def test_spread():
    spread = Spread.of(torch.arange(101.0))
    assert (spread.mean, spread.median, spread.p95, spread.max) == (50, 50, 95, 100)


def linear_problem(n: int = 300) -> tuple[Classifier, Images, torch.Tensor]:
    """Two classes, a linear classifier, images far from the walls, and every image's signed margin."""
    with seeded(0):
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 2))).eval()
    images = 0.4 + 0.2 * random_images(n, (1, 4, 4))
    with torch.no_grad():
        difference = classifier.head.weight[0] - classifier.head.weight[1]
        classifier.head.bias.copy_(torch.tensor([-(images.flatten(1) @ difference).median(), 0.0]))
        logits = classifier(images)
        labels = logits.argmax(1)
        labels[: n // 10] = 1 - labels[: n // 10]  # a tenth is misclassified
        margin = (logits[:, 0] - logits[:, 1]) * (1.0 - 2.0 * labels)
    return classifier, Images(images, labels), margin


@pytest.mark.parametrize(("norm", "radii"), [("l2", (0.02, 0.05, 0.1)), ("linf", (0.005, 0.01, 0.02))])
def test_robust_accuracy_of_a_linear_classifier_is_exact(norm, radii):
    classifier, images, margin = linear_problem()
    difference = (classifier.head.weight[0] - classifier.head.weight[1]).detach()
    dual = difference.norm() if norm == "l2" else difference.abs().sum()
    found = evaluate(classifier, images, norm=norm, radii=radii)
    assert [accuracy.attack and accuracy.attack.eps for accuracy in found] == [None, *radii]
    for accuracy in found:
        eps = accuracy.attack.eps if accuracy.attack else 0.0
        assert accuracy.share.value == pytest.approx((margin > eps * dual).double().mean().item(), abs=1e-9)
    assert 0 < found[-1].share.value < found[0].share.value == pytest.approx(0.9)


def test_accuracy_never_rises_with_the_radius_or_with_restarts(small):
    images = Images(random_images(60), torch.arange(60) % 4)
    images = Images(images.pixels, predictions(small, images))
    once = [
        item.share.value for item in evaluate(small, images, radii=(0.4, 0.1, 0.2), attack=Attack(name="pgd", steps=3))
    ]
    thrice = [
        item.share.value
        for item in evaluate(small, images, radii=(0.1, 0.2, 0.4), attack=Attack(name="pgd", steps=3, restarts=3))
    ]
    assert once[0] == 1.0
    assert once == sorted(once, reverse=True)
    assert thrice == sorted(thrice, reverse=True)
    assert all(more <= less for more, less in zip(thrice, once, strict=True))
    assert thrice[-1] < once[0]


def test_evaluation_is_the_same_for_every_batch_size(small):
    images = Images(random_images(50), torch.arange(50) % 4)
    asked = Attack(restarts=2, steps=8)
    whole = evaluate(small, images, radii=(0.1,), attack=asked)
    assert evaluate(small, images, radii=(0.1,), attack=asked, batch=7) == whole


def test_evaluation_without_a_correct_image(linear):
    images = Images(random_images(5, (1, 3, 3)), torch.zeros(5, dtype=torch.int64))
    wrong = (predictions(linear, images) + 1) % 3
    found = evaluate(linear, Images(images.pixels, wrong), radii=(0.5,))
    assert [item.share.value for item in found] == [0.0, 0.0]


def test_bad_radius_is_refused(linear):
    with pytest.raises(InputError, match="'eps'"):
        evaluate(linear, Images(random_images(2, (1, 3, 3)), torch.tensor([0, 1])), radii=(0.1, -0.5))


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_feature_rank_of_a_linear_map_is_its_rank(rank):
    with seeded(rank):
        classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(18, rank), nn.Linear(rank, 12), nn.Linear(12, 3)))
    assert feature_rank(classifier, random_images(3, (2, 3, 3)), tolerance=1e-5) == rank


@pytest.fixture
def built(tmp_path, small):
    draw = generator(0, "built")
    data = Data("r", *[Images(torch.rand(40, 2, 6, 6, generator=draw), torch.arange(40) % 4)] * 2, tuple("abcd"))
    quick = PGDSteps(4, 0.3)
    rand = relabel(small, data, tmp_path / "rand", targets="any", threat=L2(1.0), schedule=quick)
    return data, rand, robustify(small, data, tmp_path / "matched", schedule=quick)


def test_of_an_image_that_did_not_move_no_output_rises(tmp_path, small):
    images = Images(random_images(40, (2, 6, 6)), torch.arange(40) % 4)
    data = Data("r", images, images, tuple("abcd"))
    still = relabel(small, data, tmp_path / "still", targets="other", threat=L2(0.0), schedule=PGDSteps(1))
    found = measure_set(still, images, small, small, Augmentation())
    assert (found["rises_source"]["value"], found["rises_source"]["n"]) == (0, 40)


def test_measured_properties_of_a_relabelled_set(built, small):
    data, rand, _ = built
    with seeded(9):
        independent = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)))
    found = measure_set(rand, data.train, small, independent, Augmentation(), seed=0)
    labels, pixels = rand.images.labels, rand.images.pixels[:]
    small.eval()
    with torch.no_grad():
        success = small(pixels).argmax(1) == labels
        rounded = small(round_to_8_bits(pixels)).argmax(1) == labels
        other = independent(pixels).argmax(1) == labels
    kept = labels == data.train.labels
    assert found["success_source"]["value"] == pytest.approx(success.double().mean().item())
    assert found["success_8bit"]["value"] == pytest.approx(rounded.double().mean().item())
    assert found["success_independent"]["value"] == pytest.approx(other.double().mean().item())
    assert found["success_augmented"] == found["success_source"]  # no augmentation
    for name, classifier in (("rises_source", small), ("rises_independent", independent)):
        with torch.no_grad():
            rises = (classifier(pixels) - classifier(data.train.pixels)).argmax(1) == labels
        assert found[name]["value"] == pytest.approx(rises[~kept].double().mean().item())
        assert found[name]["n"] == int((~kept).sum())
    assert found["rises_source"]["value"] > 0.5
    assert found["success_source_changed"]["n"] == int((~kept).sum())
    assert found["kept_label"]["value"] == pytest.approx(kept.double().mean().item())
    delta = pixels - data.train.pixels
    assert found["l2"]["max"] == pytest.approx(l2_norm(delta).max().item())
    assert found["linf"]["mean"] == pytest.approx(Linf(1.0).size(delta).mean().item())
    assert found["matching_loss"] is None
    assert found["distance_to_target"] is None


def test_measured_properties_of_a_matched_set(built, small):
    data, _, matched = built
    found = measure_set(matched, data.train, small, small, Augmentation(), seed=0)
    start, target = data.train.pixels[matched.start], data.train.pixels[matched.target]
    left = l2_norm(matched.images.pixels[:] - target) / l2_norm(start - target)
    assert found["distance_to_target"]["mean"] == pytest.approx(left.mean().item(), rel=1e-5)
    assert found["matching_loss"]["max"] == pytest.approx(matched.loss.max().item())
    assert 0 < found["kept_label"]["value"] < 1
