"""Feature matching whose gradients pass the last ReLU unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from notbugs.classifier import Classifier
from notbugs.construct import ConstructedSet, describe, robustify
from notbugs.data import Data
from notbugs.errors import InputError
from notbugs.search import PGDSteps, match_features
from notbugs.search.backward import fake_relu_features
from tests.conftest import bars, random_images


class Plain(nn.Module):
    """Units relu(x - 2), of which none is on for any image, and a head; the ReLU is written as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.relu, self.head = how, nn.ReLU(inplace=how == "module"), nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = functional.relu(images.flatten(1)) - 2  # an earlier ReLU, which stays
        if self.how == "module":
            values = self.relu(values)
        elif self.how == "method":
            values = values.relu()
        elif self.how == "ignored":
            values.relu_()
        else:
            values = functional.relu(values)
        return self.head(values)


@pytest.mark.parametrize("how", ["module", "function", "method"])
def test_a_dead_unit_gets_the_gradient_of_the_identity(how):
    classifier = Classifier(Plain(how)).eval()
    images = random_images(3, (1, 2, 2)).requires_grad_()
    features = fake_relu_features(classifier, images.detach())(images)
    assert torch.equal(features, classifier.features(images))  # all 0: the forward pass is the same
    assert not features.any()
    (gradient,) = torch.autograd.grad(features.sum(), images)
    assert torch.equal(gradient, torch.ones_like(images))
    (gradient,) = torch.autograd.grad(classifier.features(images).sum(), images)
    assert not gradient.any()


def test_units_that_are_off_are_matched():
    """g(x) = relu(W x - c) with every unit off at the start and on at the target: only the fake gradient gets there."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(4))
        network[1].bias.fill_(-0.5)
    classifier = Classifier(network).eval()
    start, target = torch.full((2, 1, 2, 2), 0.1), torch.full((2, 1, 2, 2), 0.9)
    steps = PGDSteps(60, 0.1, decay="linear")
    stuck = match_features(classifier, start, target, steps)
    assert torch.equal(stuck.images, start)
    assert torch.equal(stuck.loss, torch.ones(2))
    assert float(match_features(classifier, start, target, steps, fake_relu=True).loss.max()) < 0.05
    assert float(match_features(classifier, start, target, steps, fake_relu="2").loss.max()) < 0.05


def test_a_name_chooses_an_earlier_relu(small):
    inner = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    classifier, images = Classifier(inner).eval(), random_images(5, (1, 2, 2)).requires_grad_()

    def gradient(relu):
        features = fake_relu_features(classifier, images.detach(), relu)(images)
        return torch.autograd.grad(features.sum(), images)[0].flatten(1)

    x = images.detach().flatten(1)
    first, second = inner[1], inner[3]
    hidden = first(x).relu()
    on_1, on_2 = (first(x) > 0).float(), (second(hidden) > 0).float()
    assert torch.allclose(gradient("2"), on_2 @ second.weight @ first.weight, atol=1e-6)
    assert torch.allclose(gradient("4"), (torch.ones_like(on_2) @ second.weight * on_1) @ first.weight, atol=1e-6)
    assert torch.equal(gradient("4"), gradient(True))


@pytest.mark.parametrize(
    ("network", "relu", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), True, "calls none"),
        (Plain("module"), "head", "name an nn.ReLU"),
        (Plain("module"), "rleu", "Did you mean 'relu'"),
        (Plain("function"), "relu", "called on the way"),
        (Plain("ignored"), True, "whose result the network does not use"),
    ],
)
def test_what_cannot_be_faked_is_refused(network, relu, message):
    classifier = Classifier(network).eval()
    images = torch.rand(2, 1, 2, 2)
    if message.startswith("whose"):
        network.head.weight.data.fill_(1.0)
    with pytest.raises(InputError, match=message):
        match_features(classifier, images, images, PGDSteps(1, 0.1), fake_relu=relu)


def test_a_set_says_that_it_was_built_so(tmp_path):
    images = bars(12)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    classifier, data = Classifier(network).eval(), Data("bars", images, images, ("left", "right"))
    plain = robustify(classifier, data, tmp_path / "plain", schedule=PGDSteps(3, 0.1))
    built = robustify(classifier, data, tmp_path / "fake", schedule=PGDSteps(3, 0.1), fake_relu=True)
    assert built.manifest["request"]["fake_relu"] is True
    assert "fake_relu" not in plain.manifest["request"]
    assert describe(tmp_path / "fake")["fake_relu"] is True
    assert not torch.equal(built.images.batch(slice(None))[0], plain.images.batch(slice(None))[0])
    assert torch.equal(ConstructedSet(tmp_path / "fake").start, plain.start)
    with pytest.raises(InputError, match="named 'tanh'|Did you mean|name a module"):
        robustify(classifier, data, tmp_path / "none", fake_relu="nothing")
    assert not (tmp_path / "none").exists()
